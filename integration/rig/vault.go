package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// VaultAudience is the aud of ID tokens for a Vault of ours.
const VaultAudience = "https://vault.test"

// Vault is a real Vault server (integration/vault), over TLS. It has KV
// version 2 at secret/, and keeps what it knows when it goes down.
type Vault struct {
	URL string
	CA  string // PEM file of the authority

	dir, root, listen string
	tls               authority
	client            *http.Client
	cmd               *exec.Cmd
}

// StartVault starts one that listens on a free port of host, an IP address of
// this machine. Stop removes all of it.
func StartVault(ctx context.Context, host string) (*Vault, error) {
	address, err := freeAddress(host)
	if err != nil {
		return nil, err
	}
	v := &Vault{listen: address, root: "root-" + rand.Text()}
	if v.dir, err = os.MkdirTemp("", "cleanroom-vault-"); err != nil {
		return nil, err
	}
	if err := v.begin(ctx, host); err != nil {
		return nil, errors.Join(err, v.Stop())
	}
	return v, nil
}

func (v *Vault) begin(ctx context.Context, host string) (err error) {
	if v.tls, err = makeAuthority(filepath.Join(v.dir, "tls"), host); err != nil {
		return err
	}
	v.CA = v.tls.file
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(v.tls.pem)
	v.client = &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true},
	}
	if err := os.WriteFile(filepath.Join(v.dir, "root-token"), []byte(v.root), 0o600); err != nil {
		return err
	}
	if err := v.Up(ctx); err != nil {
		return err
	}
	_, err = v.Write(ctx, "sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	return err
}

// Up starts the server, again after Down.
func (v *Vault) Up(ctx context.Context) error {
	binary := os.Getenv("VAULT_SERVER")
	if binary == "" {
		return errors.New("VAULT_SERVER is not set: run `make test`, which builds a Vault server")
	}
	c := exec.Command(binary, "--dir", v.dir, "--listen", v.listen,
		"--tls-cert", filepath.Join(v.tls.dir, "cert.pem"), "--tls-key", filepath.Join(v.tls.dir, "key.pem"))
	says, err := listening(ctx, c, v.dir)
	if err != nil {
		return err
	}
	v.cmd, v.URL = c, strings.TrimPrefix(says, "url=")
	v.listen = strings.TrimPrefix(v.URL, "https://") // the same port the next time
	return nil
}

// Down kills the server.
func (v *Vault) Down() {
	if v.cmd != nil {
		end(v.cmd)
		v.cmd = nil
	}
}

// Stop ends the server and removes its folder; it may be called twice.
func (v *Vault) Stop() error {
	v.Down()
	return os.RemoveAll(v.dir)
}

// Write does it as root.
func (v *Vault) Write(ctx context.Context, path string, body map[string]any) (map[string]any, error) {
	return v.ask(ctx, http.MethodPut, path, body)
}

// Read does it as root.
func (v *Vault) Read(ctx context.Context, path string) (map[string]any, error) {
	return v.ask(ctx, http.MethodGet, path, nil)
}

// Put writes a new version of a secret in KV, like shop/api.
func (v *Vault) Put(ctx context.Context, name string, fields map[string]any) error {
	_, err := v.Write(ctx, "secret/data/"+name, map[string]any{"data": fields})
	return err
}

// TrustGitLab has Vault take the ID tokens of a stand-in GitLab, at auth/jwt.
func (v *Vault) TrustGitLab(ctx context.Context, r *Rig) error {
	config := map[string]any{"jwks_url": r.URL + "/oauth/discovery/keys", "bound_issuer": r.URL}
	if r.CA != "" {
		pem, err := os.ReadFile(r.CA)
		if err != nil {
			return err
		}
		config["jwks_ca_pem"] = string(pem)
	}
	if _, err := v.Write(ctx, "sys/auth/jwt", map[string]any{"type": "jwt"}); err != nil {
		return err
	}
	_, err := v.Write(ctx, "auth/jwt/config", config)
	return err
}

// Role lets the jobs of a project log in, with a policy of the same name, in
// Vault's language. Their ID tokens have VaultAudience.
func (v *Vault) Role(ctx context.Context, name, project, policy string) error {
	if _, err := v.Write(ctx, "sys/policies/acl/"+name, map[string]any{"policy": policy}); err != nil {
		return err
	}
	_, err := v.Write(ctx, "auth/jwt/role/"+name, map[string]any{
		"role_type": "jwt", "user_claim": "project_path", "bound_audiences": []string{VaultAudience},
		"bound_claims": map[string]any{"project_path": project}, "token_policies": []string{name},
	})
	return err
}

// Database has Vault make users of a PostgreSQL at database/creds/ROLE, which
// live for ttl, and twice as long when they are renewed.
func (v *Vault) Database(ctx context.Context, p *Postgres, role string, ttl time.Duration) error {
	if _, err := v.Read(ctx, "sys/mounts/database"); err != nil {
		if _, err := v.Write(ctx, "sys/mounts/database", map[string]any{"type": "database"}); err != nil {
			return err
		}
	}
	if _, err := v.Write(ctx, "database/config/shop", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": []string{"*"}, "username": p.user, "password": p.password,
		"connection_url": "postgresql://{{username}}:{{password}}@" + p.Address + "/" + p.database + "?sslmode=disable",
	}); err != nil {
		return err
	}
	_, err := v.Write(ctx, "database/roles/"+role, map[string]any{
		"db_name": "shop", "default_ttl": int(ttl / time.Second), "max_ttl": int(2 * ttl / time.Second),
		"creation_statements": []string{
			`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`,
			`GRANT ALL ON SCHEMA public TO "{{name}}";`,
		},
		// What a job made of its own would keep its role.
		"revocation_statements": []string{
			`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{{name}}';`,
			`DROP OWNED BY "{{name}}";`, `DROP ROLE IF EXISTS "{{name}}";`,
		},
	})
	return err
}

// Leases are the ids of those under a path, like database/creds/shop.
func (v *Vault) Leases(ctx context.Context, path string) ([]string, error) {
	return v.list(ctx, "sys/leases/lookup/"+path)
}

// Tokens are the accessors of all living ones but the root token's.
func (v *Vault) Tokens(ctx context.Context) ([]string, error) {
	about, err := v.Read(ctx, "auth/token/lookup-self")
	if err != nil {
		return nil, err
	}
	own := fmt.Sprint(about["data"].(map[string]any)["accessor"])
	all, err := v.list(ctx, "auth/token/accessors")
	var others []string
	for _, a := range all {
		if a != own {
			others = append(others, a)
		}
	}
	return others, err
}

func (v *Vault) list(ctx context.Context, path string) ([]string, error) {
	answer, err := v.ask(ctx, "LIST", path, nil)
	if s := new(vaultStatus); errors.As(err, &s) && s.code == http.StatusNotFound {
		return nil, nil // an empty list
	}
	if err != nil {
		return nil, err
	}
	data, _ := answer["data"].(map[string]any)
	keys, _ := data["keys"].([]any)
	var list []string
	for _, key := range keys {
		list = append(list, fmt.Sprint(key))
	}
	return list, nil
}

// vaultStatus is an answer that says no.
type vaultStatus struct {
	what string
	code int
	body []byte
}

func (s *vaultStatus) Error() string { return fmt.Sprintf("%s: %d: %s", s.what, s.code, s.body) }

func (v *Vault) ask(ctx context.Context, method, path string, body map[string]any) (map[string]any, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, v.URL+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	r.Header.Set("X-Vault-Token", v.root)
	resp, err := v.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if text, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, &vaultStatus{method + " " + path, resp.StatusCode, text}
	}
	answer := map[string]any{}
	if len(text) > 0 {
		err = json.Unmarshal(text, &answer)
	}
	return answer, err
}
