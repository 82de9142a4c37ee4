package vault

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"cleanroom/config"
)

// VAULT_* of whoever starts the runner change nothing: neither a wrong one
// that the client would fail at, nor one that it would obey.
func TestEnvironment(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a request went to VAULT_ADDR or a proxy: %s", r.URL.Path)
	}))
	defer elsewhere.Close()
	for key, value := range map[string]string{
		"VAULT_ADDR": elsewhere.URL, "VAULT_AGENT_ADDR": elsewhere.URL, "VAULT_PROXY_ADDR": elsewhere.URL,
		"VAULT_TOKEN": "env-token", "VAULT_NAMESPACE": "env-namespace", "VAULT_HEADERS": `{"Env-Header": "1"}`,
		"VAULT_CACERT": "/nonexistent", "VAULT_CLIENT_TIMEOUT": "never", "VAULT_RATE_LIMIT": "x", "VAULT_MAX_RETRIES": "-1",
		"VAULT_SKIP_VERIFY": "perhaps", "VAULT_WRAP_TTL": "5m",
	} {
		t.Setenv(key, value)
	}
	j, s := stubbed(t, "kv", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"data": {"data": {"key": "value"}, "metadata": {"version": 3}}}`)
	})
	if issued := j.must("secret/shop/api"); issued.Fields["key"] != "value" || issued.Version != "3" {
		t.Errorf("issued %+v", issued)
	}
	for _, key := range []string{"X-Vault-Namespace", "Env-Header", "X-Vault-Wrap-Ttl"} {
		if s.header.Get(key) != "" {
			t.Errorf("header %s: %q", key, s.header.Get(key))
		}
	}
	if !strings.HasPrefix(s.seen[0], " auth/jwt/login") {
		t.Errorf("the login came with a token: %s", s.seen[0])
	}
	if os.Getenv("VAULT_NAMESPACE") != "env-namespace" {
		t.Error("the environment was not put back")
	}
}

func TestNamespace(t *testing.T) {
	j, s := stubbed(t, "kv", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"data": {"data": {"key": "value"}}}`)
	})
	j.config.Vault.Namespace = "teams/shop"
	j.must("secret/shop/api")
	if got := s.header.Get("X-Vault-Namespace"); got != "teams/shop" {
		t.Errorf("namespace %q", got)
	}
}

func TestTLS(t *testing.T) {
	s := &stub{engine: "kv", secret: func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"data": {"data": {"key": "value"}}}`)
	}}
	server := httptest.NewUnstartedServer(s)
	server.Config.ErrorLog = nil
	server.StartTLS()
	defer server.Close()
	ca := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})), 0o644)
	j, _ := stubbed(t, "kv", nil)
	j.config.Vault.Address, j.config.Vault.CAFile = server.URL, ca
	j.must("secret/shop/api")

	j.vault, j.config.Vault.CAFile = nil, ""
	_, err := j.fetch("secret/shop/api")
	tells(t, err, []string{j.token}, "does not answer", "certificate")
}

func TestNew(t *testing.T) {
	good := config.Vault{Address: "https://vault.test:8200", Auth: "jwt", Role: "r", Token: "T"}
	for name, test := range map[string]struct {
		change func(*config.Vault)
		word   string
	}{
		"good":             {func(*config.Vault) {}, ""},
		"http, loopback":   {func(c *config.Vault) { c.Address = "http://127.0.0.1:8200" }, ""},
		"http":             {func(c *config.Vault) { c.Address = "http://vault.test" }, "must be an https URL"},
		"unix":             {func(c *config.Vault) { c.Address = "unix:///run/vault.sock" }, "vault.address"},
		"user":             {func(c *config.Vault) { c.Address = "https://me:pw-canary@vault.test" }, "vault.address"},
		"no address":       {func(c *config.Vault) { c.Address = "" }, "vault.address"},
		"no variable":      {func(c *config.Vault) { c.Token = "" }, "vault.token"},
		"auth":             {func(c *config.Vault) { c.Auth = "ldap" }, "vault.auth"},
		"approle":          {func(c *config.Vault) { c.Auth = "approle" }, "vault.role_id"},
		"token_file":       {func(c *config.Vault) { c.Auth = "token_file" }, "vault.token_file"},
		"no such CA":       {func(c *config.Vault) { c.CAFile = "/nonexistent" }, "vault.ca_file"},
		"CA without a PEM": {func(c *config.Vault) { c.CAFile = write(t, "none", 0o644) }, "no PEM certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			test.change(&c)
			_, err := New(config.Provider{Name: "v", Vault: c})
			if test.word == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			tells(t, err, []string{"canary"}, test.word, "provider v")
			if !errors.Is(err, config.ErrConfig) {
				t.Errorf("error %v", err)
			}
		})
	}
}
