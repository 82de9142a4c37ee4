package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"cleanroom/config"
	"cleanroom/executor/identity"
	"cleanroom/executor/secret/file"
	"cleanroom/executor/secret/provider"
	"cleanroom/executor/secret/store"
)

// dataDir looks at the folder that must outlive a reboot: without it nobody
// could revoke what a job was given when the power failed.
func dataDir(dir string) Check {
	const name = "data folder"
	there, memory, err := inMemory(dir)
	switch {
	case err != nil:
		return fail(name, "mend it, or set data_dir to another folder", "%s: %v", there, err)
	case memory:
		return warn(name, "set data_dir to a folder on a disk", "%s is in memory: leases that a reboot cuts off could not be revoked", dir)
	case there != dir:
		if err := tryDir(there, dir); err != nil {
			return fail(name, "set data_dir to another folder", "%s cannot be made: %v", dir, err)
		}
		return ok(name, "%s will be made", dir)
	}
	info, err := os.Lstat(dir)
	switch {
	case err != nil || !info.IsDir():
		return fail(name, "remove it, or set data_dir to another folder", "%s is no folder", dir)
	case owner(info) != os.Geteuid() || info.Mode().Perm()&0o077 != 0:
		return fail(name, fmt.Sprintf("chown %d %s; chmod 0700 %[2]s", os.Geteuid(), dir), "%s is open to others: uid %d, mode %#o", dir, owner(info), info.Mode().Perm())
	}
	if err := tryFile(dir); err != nil {
		return fail(name, "mount it writable, or set data_dir to another folder", "nothing can be written there: %v", err)
	}
	return ok(name, "%s, mode %#o", dir, info.Mode().Perm())
}

// sources looks at issuers and providers as far as their settings go.
func sources(cfg config.Config) []Check {
	if len(cfg.Identity.Issuers)+len(cfg.Providers) == 0 {
		return nil
	}
	const name = "secret sources"
	if _, err := identity.NewVerifier(cfg.Identity, ""); err != nil {
		return []Check{fail(name, "mend identity.issuer", "%v", err)}
	}
	var open []string
	for _, i := range cfg.Identity.Issuers {
		open = append(open, plain(i.URL), plain(i.JWKSURL))
	}
	for _, p := range cfg.Providers {
		if _, err := provider.Opener(cfg.DataDir)(p); err != nil {
			return []Check{fail(name, "mend the provider's table", "%v", err)}
		}
		if err := local(cfg, p); err != nil {
			return []Check{fail(name, "mend it, or the provider's table", "provider %s: %v", p.Name, err)}
		}
	}
	if all := strings.Fields(strings.Join(open, " ")); len(all) > 0 {
		return []Check{warn(name, "use https", "%s: whoever is on the way can read and change what is said", strings.Join(all, ", "))}
	}
	return []Check{ok(name, "issuers: %d, providers: %d", len(cfg.Identity.Issuers), len(cfg.Providers))}
}

// local looks at what a provider needs of this host.
func local(cfg config.Config, p config.Provider) error {
	var failed []error
	for _, private := range []string{p.Vault.SecretIDFile, p.Vault.TokenFile, p.OIDC.ClientSecretFile} {
		if private != "" {
			_, err := file.ReadPrivate(private)
			failed = append(failed, err)
		}
	}
	for _, argv := range [][]string{p.Exec.Command, p.Exec.Revoke} {
		if len(argv) > 0 {
			if info, err := os.Stat(argv[0]); err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
				failed = append(failed, fmt.Errorf("%s is no program", argv[0]))
			}
		}
	}
	if p.Files.Dir != "" {
		_, err := os.ReadDir(p.Files.Dir)
		failed = append(failed, err)
	}
	if p.Kind == "store" {
		s, err := store.New(p, cfg.DataDir)
		if err == nil {
			_, err = s.List()
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// plain is an address without TLS that is not on this machine, or nothing.
func plain(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return ""
	}
	return address
}
