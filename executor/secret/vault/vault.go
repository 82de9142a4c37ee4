// Package vault gets secrets from HashiCorp Vault or OpenBao: the newest
// version of a KV secret, or what a dynamic engine (database, ssh, pki, aws
// and so on) makes for the job.
//
// Each job has a Vault token of its own, by a login with its ID token (jwt),
// by AppRole, or as a child of an admin's token (token_file). That token never
// reaches the job, and neither does the admin's.
//
// What it promises: the token and every lease are journalled before they are
// used. They live no longer than the job may, where Vault lets a holder
// shorten them; else Expires says how long. Revoking is told as done only
// when Vault was asked again and did not know the lease any more. Credentials
// go over TLS (or this machine's loopback) to the configured address and to
// nobody it redirects to; VAULT_* variables change nothing; each request is
// bounded in time and bytes; an error holds Vault's reason and no credential.
//
// A policy for a job has to grant the secret's own path and nothing else,
// beside Vault's default policy, which is required: a token without it cannot
// be seen to be gone. A lease that Vault cannot renew (an SSH one-time
// password) needs update on sys/leases/revoke as well.
package vault

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"cleanroom/config"
	"cleanroom/executor/https"
	"cleanroom/executor/secret"
)

// defaultTimeout bounds a request where the configuration does not.
const defaultTimeout = 10 * time.Second

// Vault is one server, and we as one client of it.
type Vault struct {
	name    string
	config  config.Vault
	timeout time.Duration
	api     *api.Client
	login   *login // of the job; nil before the first Fetch
}

var _ secret.Provider = (*Vault)(nil)

// New makes the provider of a configuration's table. It reads the CA file and
// asks nobody. Its errors wrap config.ErrConfig.
func New(p config.Provider) (*Vault, error) {
	fail := func(key, what string) (*Vault, error) {
		return nil, fmt.Errorf("%w: provider %s: vault.%s: %s", config.ErrConfig, p.Name, key, what)
	}
	c := p.Vault
	if err := https.CheckURL(c.Address); err != nil {
		return fail("address", err.Error())
	}
	switch c.Auth {
	case "jwt":
		if c.Token == "" {
			return fail("token", "set the name of the variable that holds the job's ID token")
		}
	case "approle":
		if c.RoleID == "" || c.SecretIDFile == "" {
			return fail("role_id", "approle needs role_id and secret_id_file")
		}
	case "token_file":
		if c.TokenFile == "" {
			return fail("token_file", "set the file that holds the token to make children of")
		}
	default:
		return fail("auth", "must be jwt, approle or token_file")
	}
	v := &Vault{name: p.Name, config: c, timeout: p.Timeout}
	if v.timeout <= 0 {
		v.timeout = defaultTimeout
	}
	transport, err := https.Transport(c.CAFile)
	if err != nil {
		return fail("ca_file", err.Error())
	}
	if v.api, err = newClient(c, transport); err != nil {
		return fail("address", err.Error())
	}
	return v, nil
}

// Fetch issues a secret. Of a path in KV the newest version is read; any other
// path is read, or written to when the secret has parameters.
func (v *Vault) Fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	issued, err := v.fetch(ctx, r)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("provider %s: %w", v.name, err)
	}
	return issued, nil
}

func (v *Vault) fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	if !r.Until.IsZero() && time.Until(r.Until) < time.Second {
		return secret.Issued{}, errors.New("the job's time is over: nothing is issued any more")
	}
	at, err := secretPath(r.Secret)
	if err != nil {
		return secret.Issued{}, err
	}
	parameters, err := parameters(r.Secret.Parameters)
	if err != nil {
		return secret.Issued{}, err
	}
	l, err := v.session(ctx, r)
	if err != nil {
		return secret.Issued{}, err
	}
	m, err := v.mount(ctx, l.token, at)
	switch {
	case err != nil:
		return secret.Issued{}, err
	case m.stores() && len(parameters) > 0:
		// They would be written, over the secret that is there.
		return secret.Issued{}, fmt.Errorf("%w: %s is in a %s engine, which takes no parameters: remove them", secret.ErrRefused, at, m.kind)
	case m.versioned:
		return v.newest(ctx, l.token, m, at)
	}
	return v.generic(ctx, r, l, m, at, parameters)
}

// secretPath is where a secret is, without slashes around it.
func secretPath(s config.Secret) (string, error) {
	at := strings.Trim(s.Path, "/")
	if at == "" {
		at = s.Name
	}
	// The client would clean it, to another path than policies are written for.
	if path.Clean(at) != at || strings.HasPrefix(at, "..") {
		return "", fmt.Errorf("%w: path %q: write it as `vault read` takes it", secret.ErrRefused, at)
	}
	return at, nil
}

func parameters(lines []string) (map[string]any, error) {
	list := map[string]any{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		if _, twice := list[key]; twice {
			return nil, fmt.Errorf("%w: parameter %s is given twice: keep one", secret.ErrRefused, key)
		}
		list[key] = value
	}
	return list, nil
}
