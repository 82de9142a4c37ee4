package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"
)

var (
	variableRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })
	fileRE     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$`) })
)

// signatures that an issuer may use: those with a public key, so that nobody
// signs with what everybody can read (RFC 8725, 3.1).
var signatures = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// ownVariable says whether a shell, a loader or the runner goes by a variable:
// with a secret in it, no job would run.
func ownVariable(name string) bool {
	switch name {
	case "PATH", "HOME", "SHELL", "USER", "PWD", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "PS4", "CI", "GITLAB_CI":
		return true
	}
	for _, prefix := range []string{"LD_", "CI_", "CLEANROOM_", "FF_", "RUNNER_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// names checks those of a list of tables: well-formed, and each once.
func names[T any](c *checker, table string, list []T, name func(T) string) {
	for i, one := range list {
		key := fmt.Sprintf("%s[%d].name", table, i)
		c.check(nameRE().MatchString(name(one)), key, name(one), "a name of letters, digits and . _ -")
		c.check(!slices.ContainsFunc(list[:i], func(o T) bool { return name(o) == name(one) }), key, name(one), "in the list once only")
	}
}

func (c *checker) url(name, value string) {
	u, err := url.Parse(value)
	c.check(err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && u.User == nil && u.Fragment == "",
		name, value, "a URL, like https://gitlab.example.com")
}

func (c *checker) identity(id Identity) {
	for i, is := range id.Issuers {
		at := fmt.Sprintf("identity.issuer[%d].", i)
		c.url(at+"url", is.URL)
		c.check(!slices.ContainsFunc(id.Issuers[:i], func(o Issuer) bool { return o.URL == is.URL }), at+"url", is.URL, "in the list once only")
		if is.JWKSURL != "" {
			c.url(at+"jwks_url", is.JWKSURL)
		}
		for name, address := range map[string]string{"url": is.URL, "jwks_url": is.JWKSURL} {
			u, err := url.Parse(address)
			c.check(is.PlainHTTP || err == nil && (u.Scheme != "http" || loopback(u.Hostname())), at+name, address,
				"https, as whoever is on the way could make any identity (or set plain_http = true)")
		}
		c.check(is.Audience != "", at+"audience", is.Audience, "the aud of tokens meant for cleanroom, like https://cleanroom.example.com")
		c.pem(at+"ca_file", is.CAFile)
		for _, a := range is.Algorithms {
			c.oneOf(at+"algorithms", a, signatures)
		}
		c.check(is.Skew >= 0 && is.Skew <= 5*time.Minute, at+"skew", is.Skew, "at most 5m")
		c.check(is.KeysMaxAge >= time.Minute && is.KeysMaxAge <= 7*24*time.Hour, at+"keys_max_age", is.KeysMaxAge, "from 1m to 168h")
	}
	names(c, "identity.profile", id.Profiles, func(p TokenProfile) string { return p.Name })
	for i, p := range id.Profiles {
		at := fmt.Sprintf("identity.profile[%d].", i)
		c.globs(at+"tokens", p.Tokens)
		c.check(slices.ContainsFunc(id.Issuers, func(is Issuer) bool { return is.URL == p.Issuer }), at+"issuer", p.Issuer, "the url of an [[identity.issuer]]")
		c.check(len(p.Audience) > 0, at+"audience", p.Audience, "a list of the audiences that are accepted")
		c.globs(at+"subject", p.Subject)
		c.check(p.MinLifetime >= 0, at+"min_lifetime", p.MinLifetime, "at least 0")
		for k, claim := range p.Claims {
			c.check(claim.Name != "" && len(claim.Values) > 0, fmt.Sprintf("%sclaim[%d]", at, k), claim.Name, "a name and a list of values")
			c.globs(fmt.Sprintf("%sclaim[%d].values", at, k), claim.Values)
		}
	}
}

func (c *checker) pem(name, file string) {
	if c.file(name, file); c.err == nil && file != "" {
		if err := checkPEM(file); err != nil {
			c.fail(name, file, "a PEM file of certificates: "+err.Error())
		}
	}
}

// policy checks what needs no CEL; the policy package compiles the rest.
func (c *checker) policy(p Policy, id Identity) {
	c.file("policy.file", p.File)
	c.check(p.File == "" || len(p.Rules) == 0, "policy.file", p.File, "left out when [[policy.rule]] tables are there: keep one of the two")
	names(c, "policy.rule", p.Rules, func(r Rule) string { return r.Name })
	for i, r := range p.Rules {
		at := fmt.Sprintf("policy.rule[%d].", i)
		c.check(r.When != "", at+"when", r.When, `a CEL expression over facts, like project_path == "shop/items" && ref_protected`)
		for name, list := range map[string][]string{"secrets": r.Secrets, "images": r.Images, "services": r.Services, "stages": r.Stages, "caches": r.Caches, "warn": r.Warn} {
			c.globs(at+name, list)
		}
		for _, name := range r.Profiles {
			c.oneOf(at+"profiles", name, profiles)
		}
		for _, name := range r.Identity {
			c.check(slices.ContainsFunc(id.Profiles, func(p TokenProfile) bool { return p.Name == name }), at+"identity", name, "the name of an [[identity.profile]]")
		}
	}
}

func (c *checker) providers(list []Provider) {
	names(c, "provider", list, func(p Provider) string { return p.Name })
	for i, p := range list {
		at := fmt.Sprintf("provider[%d].", i)
		c.positive(at+"timeout", p.Timeout)
		tables := map[string]bool{ // which are set
			"vault": p.Vault != Vault{}, "store": p.Store != Store{}, "oidc": p.OIDC != OIDC{}, "aws": p.AWS != AWS{},
			"file": p.Files != Files{}, "exec": len(p.Exec.Command)+len(p.Exec.Revoke)+len(p.Exec.Env) > 0,
		}
		_, known := tables[p.Kind]
		c.check(known, at+"kind", p.Kind, "one of vault, store, oidc, aws, file, exec")
		for kind, set := range tables {
			c.check(!set || kind == p.Kind, at+kind, "the table", "left out: the kind of "+p.Name+" is "+p.Kind)
		}
		switch p.Kind {
		case "vault":
			c.vault(at+"vault.", p.Vault)
		case "store":
			c.file(at+"store.path", p.Store.Path)
		case "oidc":
			c.oidc(at+"oidc.", p.OIDC)
		case "aws":
			c.aws(at+"aws.", p.AWS)
		case "file":
			c.file(at+"file.dir", p.Files.Dir)
			c.check(p.Files.Dir != "", at+"file.dir", p.Files.Dir, "the folder that holds the files")
		case "exec":
			c.program(at+"exec.command", p.Exec.Command)
			if len(p.Exec.Revoke) > 0 {
				c.program(at+"exec.revoke", p.Exec.Revoke)
			}
			c.lines(at+"exec.env", p.Exec.Env)
		}
	}
}

func (c *checker) program(name string, argv []string) {
	c.check(len(argv) > 0 && path.IsAbs(argv[0]), name, argv, `a program with its whole path and its arguments, like ["/usr/local/bin/issue", "--json"]`)
}

// lines are KEY=VALUE; the value may be private, so it is not quoted.
func (c *checker) lines(name string, list []string) {
	for i, line := range list {
		key, _, ok := strings.Cut(line, "=")
		if !ok { // it may be all value
			key = ""
		}
		c.check(key != "" && !strings.ContainsRune(line, 0), fmt.Sprintf("%s[%d]", name, i), key, "written KEY=VALUE")
	}
}

func (c *checker) variable(name, value string) {
	c.check(variableRE().MatchString(value), name, value, "the name of a variable, like VAULT_ID_TOKEN")
}

func (c *checker) vault(at string, v Vault) {
	c.url(at+"address", v.Address)
	c.pem(at+"ca_file", v.CAFile)
	c.oneOf(at+"auth", v.Auth, []string{"jwt", "approle", "token_file"})
	switch v.Auth {
	case "jwt":
		c.check(v.Role != "", at+"role", v.Role, "the role to log in as")
		c.variable(at+"token", v.Token)
	case "approle":
		c.check(v.RoleID != "", at+"role_id", v.RoleID, "the role's id")
		c.check(v.SecretIDFile != "", at+"secret_id_file", v.SecretIDFile, "a file")
	case "token_file":
		c.check(v.TokenFile != "", at+"token_file", v.TokenFile, "a file")
	}
	c.file(at+"secret_id_file", v.SecretIDFile)
	c.file(at+"token_file", v.TokenFile)
}

func (c *checker) oidc(at string, o OIDC) {
	c.check(o.Issuer != "" || o.TokenURL != "", at+"issuer", o.Issuer, "the identity provider's URL (or set token_url)")
	for name, value := range map[string]string{"issuer": o.Issuer, "token_url": o.TokenURL, "revoke_url": o.RevokeURL} {
		if value != "" {
			c.url(at+name, value)
		}
	}
	c.pem(at+"ca_file", o.CAFile)
	c.oneOf(at+"grant", o.Grant, []string{"token_exchange", "client_credentials"})
	c.file(at+"client_secret_file", o.ClientSecretFile)
	if o.Grant == "client_credentials" {
		c.check(o.ClientID != "" && o.ClientSecretFile != "", at+"client_id", o.ClientID, "set, and client_secret_file too")
	} else {
		c.variable(at+"token", o.Token)
	}
}

func (c *checker) aws(at string, a AWS) {
	c.check(a.Region != "", at+"region", a.Region, "a region, like eu-central-1")
	if a.Endpoint != "" {
		c.url(at+"endpoint", a.Endpoint)
	}
	c.pem(at+"ca_file", a.CAFile)
	c.variable(at+"token", a.Token)
}

func (c *checker) secrets(list []Secret, providers []Provider) {
	names(c, "secret", list, func(s Secret) string { return s.Name })
	for i, s := range list {
		at := fmt.Sprintf("secret[%d].", i)
		c.check(slices.ContainsFunc(providers, func(p Provider) bool { return p.Name == s.Provider }), at+"provider", s.Provider, "the name of a [[provider]]")
		c.check(s.MaxAge >= 0, at+"max_age", s.MaxAge, "at least 0")
		c.lines(at+"parameters", s.Parameters)
		for k, d := range s.Deliver {
			at := fmt.Sprintf("%sdeliver[%d].", at, k)
			c.oneOf(at+"as", d.As, []string{"env", "file"})
			c.variable(at+"variable", d.Variable)
			c.check(!ownVariable(d.Variable), at+"variable", d.Variable, "none that the shell, the loader, the runner or cleanroom itself goes by")
			c.check(d.As == "file" && fileRE().MatchString(d.File) || d.As == "env" && d.File == "", at+"file", d.File, "a plain file name, and only with as = \"file\"")
			_, err := template.New("").Option("missingkey=error").Parse(d.Value)
			c.check(err == nil, at+"value", d.Value, "a Go template over the provider's fields, like {{.username}}:{{.password}}")
			same := func(o Deliver) bool { return o.Variable == d.Variable || d.File != "" && o.File == d.File }
			c.check(!slices.ContainsFunc(s.Deliver[:k], same), at+"variable", d.Variable, "another one: a variable or file holds one value")
		}
	}
}
