package vault

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

const (
	issuer   = "https://gitlab.test"
	audience = "https://vault.test"
)

var signer *rsa.PrivateKey

// policies by name. "job" reads secrets, "revoker" may revoke leases too.
var policies = map[string]string{
	"job": `
		path "secret/data/shop/*" { capabilities = ["read"] }
		path "v1/shop/*" { capabilities = ["read"] }
		path "ssh/creds/*" { capabilities = ["read", "update"] }
		path "database/creds/*" { capabilities = ["read"] }`,
	"revoker": `path "sys/leases/revoke" { capabilities = ["update"] }`,
	"parent":  `path "auth/token/create" { capabilities = ["update"] }`,
}

// configure gives a server what tests use, but for the database.
func configure(s *server) error {
	var err error
	if signer == nil {
		if signer, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			return err
		}
	}
	der, err := x509.MarshalPKIXPublicKey(&signer.PublicKey)
	if err != nil {
		return err
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	type request struct {
		path string
		body map[string]any
	}
	role := func(more map[string]any) map[string]any {
		body := map[string]any{
			"role_type": "jwt", "user_claim": "job_id", "bound_audiences": []string{audience},
			"bound_claims": map[string]any{"project_path": "shop/items"}, "token_policies": []string{"job", "revoker"},
		}
		for key, value := range more {
			body[key] = value
		}
		return body
	}
	list := []request{
		{"sys/auth/jwt", map[string]any{"type": "jwt"}},
		{"auth/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{public}, "bound_issuer": issuer}},
		{"auth/jwt/role/shop", role(nil)},
		{"auth/jwt/role/plain", role(map[string]any{"token_policies": []string{"job"}})},
		{"auth/jwt/role/short", role(map[string]any{"token_ttl": 600, "token_max_ttl": 900})},
		{"auth/jwt/role/once", role(map[string]any{"token_ttl": 2, "token_max_ttl": 2})},
		{"auth/jwt/role/batch", role(map[string]any{"token_type": "batch"})},
		{"auth/jwt/role/bare", role(map[string]any{"token_no_default_policy": true})},
		{"sys/auth/approle", map[string]any{"type": "approle"}},
		{"auth/approle/role/shop", map[string]any{"token_policies": []string{"job", "revoker"}}},
		{"sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "2"}}},
		{"sys/mounts/v1", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}},
		{"sys/mounts/ssh", map[string]any{"type": "ssh"}},
		{"ssh/roles/otp", map[string]any{"key_type": "otp", "default_user": "shop", "cidr_list": "0.0.0.0/0"}},
	}
	for name, text := range policies {
		list = append(list, request{"sys/policies/acl/" + name, map[string]any{"policy": text}})
	}
	for _, r := range list {
		if _, err := s.ask(http.MethodPut, r.path, r.body); err != nil {
			return err
		}
	}
	return nil
}

// signed is an ID token as GitLab makes it, with some claims changed.
func signed(t *testing.T, change map[string]any) string {
	t.Helper()
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": "project_path:shop/items:ref_type:branch:ref:main", "jti": rand.Text(),
		"iat": time.Now().Unix(), "nbf": time.Now().Add(-5 * time.Second).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
		"project_path": "shop/items", "job_id": "7",
	}
	for name, value := range change {
		claims[name] = value
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	text := b64([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, signer, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + b64(sig)
}

// job is one that asks a server for secrets, and its journal.
type job struct {
	t       *testing.T
	config  config.Provider
	token   string // the ID token
	until   time.Time
	leases  []secret.Lease
	journal error // of the next entry
	vault   *Vault
}

// newJob asks as a role of JWT auth.
func newJob(t *testing.T, s *server, role string) *job {
	t.Helper()
	return &job{t: t, token: signed(t, nil), until: time.Now().Add(time.Hour), config: config.Provider{
		Name: "v", Kind: "vault", Timeout: time.Minute,
		Vault: config.Vault{Address: s.url, Auth: "jwt", Role: role, Token: "VAULT_ID_TOKEN"},
	}}
}

func (j *job) fetch(path string, parameters ...string) (secret.Issued, error) {
	j.t.Helper()
	if j.vault == nil {
		j.vault = provider(j.t, j.config)
	}
	return j.vault.Fetch(j.t.Context(), secret.Request{
		Secret: config.Secret{Name: "s", Path: path, Parameters: parameters},
		Job:    secret.Job{ID: 7, Project: "shop/items", Room: "room-7"}, Until: j.until,
		Token: func(_ context.Context, variable string) (string, error) {
			if variable != "VAULT_ID_TOKEN" {
				return "", errors.New("another variable: " + variable)
			}
			return j.token, nil
		},
		Journal: func(l secret.Lease) error {
			if j.journal != nil {
				return j.journal
			}
			j.leases = append(j.leases, l)
			return nil
		},
	})
}

func (j *job) must(path string, parameters ...string) secret.Issued {
	j.t.Helper()
	issued, err := j.fetch(path, parameters...)
	if err != nil {
		j.t.Fatal(err)
	}
	return issued
}

// revoke does it as a later command does: with a provider of its own.
func (j *job) revoke(l secret.Lease) error {
	j.t.Helper()
	return provider(j.t, j.config).Revoke(j.t.Context(), l)
}

func provider(t *testing.T, c config.Provider) *Vault {
	t.Helper()
	v, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// refuses checks an error: refused, its words, and one line without secrets.
func refuses(t *testing.T, err error, hide []string, words ...string) {
	t.Helper()
	if !errors.Is(err, secret.ErrRefused) {
		t.Errorf("error %v, want a refusal", err)
	}
	tells(t, err, hide, words...)
}

func tells(t *testing.T, err error, hide []string, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not say %q", err, word)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r\t") {
		t.Errorf("error %q is more than one line", err)
	}
	for _, value := range hide {
		if value != "" && strings.Contains(err.Error(), value) {
			t.Errorf("error %q has a credential", err)
		}
	}
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "credential")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
