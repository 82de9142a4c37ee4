package vault

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

func TestJWT(t *testing.T) {
	shared.write(t, "secret/data/shop/jwt", map[string]any{"data": map[string]any{"password": "pw-canary"}})
	j := newJob(t, shared, "shop")
	if got := j.must("secret/shop/jwt").Fields["password"]; got != "pw-canary" {
		t.Errorf("password %q", got)
	}
	if len(j.leases) != 1 || !shared.alive(t, j.leases[0].ID) || !j.leases[0].Renewable {
		t.Fatalf("journal %+v, want the living token", j.leases)
	}
	// The instance keeps its session: one login for all secrets of a job.
	j.must("secret/shop/jwt")
	if len(j.leases) != 1 {
		t.Errorf("%d logins", len(j.leases))
	}
	if err := j.revoke(j.leases[0]); err != nil {
		t.Fatal(err)
	}
	if shared.alive(t, j.leases[0].ID) {
		t.Error("the token is alive after it was revoked")
	}
	if err := j.revoke(j.leases[0]); err != nil {
		t.Errorf("revoking twice: %v", err)
	}
}

func TestJWTRefused(t *testing.T) {
	for name, test := range map[string]struct {
		role   string
		change map[string]any
		words  []string
	}{
		"audience":     {"shop", map[string]any{"aud": "https://staging.test"}, []string{"login with ID token VAULT_ID_TOKEN", "audience", `role "shop"`}},
		"project":      {"shop", map[string]any{"project_path": "rival/items"}, []string{"project_path", "claims"}},
		"issuer":       {"shop", map[string]any{"iss": "https://other.test"}, []string{"iss"}},
		"expired":      {"shop", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}, []string{"expired"}},
		"role":         {"nobody", nil, []string{`role "nobody"`}},
		"batch tokens": {"batch", nil, []string{"batch tokens", "token_type=service"}},
		"no default":   {"bare", nil, []string{"default policy", "token_no_default_policy"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, shared, test.role)
			j.token = signed(t, test.change)
			_, err := j.fetch("secret/shop/jwt")
			refuses(t, err, []string{j.token, strings.Split(j.token, ".")[1]}, test.words...)
			if len(j.leases) != 0 {
				t.Errorf("journal %+v", j.leases)
			}
		})
	}
}

// GitLab does not give its keys to Vault: that is nobody's refusal.
func TestKeysDown(t *testing.T) {
	gitlab := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"keys": []}`) }))
	defer gitlab.Close()
	shared.write(t, "sys/auth/down", map[string]any{"type": "jwt"})
	shared.write(t, "auth/down/config", map[string]any{"jwks_url": gitlab.URL})
	shared.write(t, "auth/down/role/shop", map[string]any{"role_type": "jwt", "user_claim": "job_id", "bound_audiences": []string{audience}})
	gitlab.Close()
	j := newJob(t, shared, "shop")
	j.config.Vault.Mount = "down"
	_, err := j.fetch("secret/shop/jwt")
	tells(t, err, []string{j.token}, "fetching keys")
	if errors.Is(err, secret.ErrRefused) {
		t.Errorf("error %v", err)
	}
}

func TestMount(t *testing.T) {
	j := newJob(t, shared, "shop")
	j.config.Vault.Mount = "elsewhere"
	_, err := j.fetch("secret/shop/jwt")
	refuses(t, err, []string{j.token}, "login with ID token")
}

func TestAppRole(t *testing.T) {
	shared.write(t, "v1/shop/approle", map[string]any{"value": "v"})
	answer, err := shared.ask(http.MethodGet, "auth/approle/role/shop/role-id", nil)
	if err != nil {
		t.Fatal(err)
	}
	roleID := answer["data"].(map[string]any)["role_id"].(string)
	secretID := shared.write(t, "auth/approle/role/shop/secret-id", nil)["data"].(map[string]any)["secret_id"].(string)
	j := newJob(t, shared, "")
	j.config.Vault = config.Vault{Address: shared.url, Auth: "approle", RoleID: roleID, SecretIDFile: write(t, secretID+"\n", 0o600)}
	j.must("v1/shop/approle")
	if err := j.revoke(j.leases[0]); err != nil || shared.alive(t, j.leases[0].ID) {
		t.Errorf("revoke: %v", err)
	}

	j.vault, j.config.Vault.SecretIDFile = nil, write(t, "not-the-secret-id", 0o600)
	_, err = j.fetch("v1/shop/approle")
	refuses(t, err, []string{"not-the-secret-id", secretID}, "login by AppRole", "vault.secret_id_file")

	j.vault, j.config.Vault.SecretIDFile = nil, write(t, secretID, 0o644)
	_, err = j.fetch("v1/shop/approle")
	refuses(t, err, []string{secretID}, "vault.secret_id_file", "0644")
}

func TestTokenFile(t *testing.T) {
	shared.write(t, "v1/shop/token", map[string]any{"value": "v"})
	answer := shared.write(t, "auth/token/create", map[string]any{"policies": []string{"job", "parent"}, "ttl": "24h"})
	auth := answer["auth"].(map[string]any)
	admin, accessor := auth["client_token"].(string), auth["accessor"].(string)
	j := newJob(t, shared, "")
	j.config.Vault = config.Vault{Address: shared.url, Auth: "token_file", TokenFile: write(t, admin, 0o400)}
	j.must("v1/shop/token")
	child := j.leases[0]
	if child.ID == accessor || string(child.Credential) == admin {
		t.Fatal("the admin's own token was handed on")
	}
	// It ends with the job, whatever anybody renews.
	if child.Expires.After(j.until) || child.Expires.Before(j.until.Add(-time.Minute)) {
		t.Errorf("it expires at %s, the job at %s", child.Expires, j.until)
	}
	about := shared.write(t, "auth/token/lookup-accessor", map[string]any{"accessor": child.ID})["data"].(map[string]any)
	if about["display_name"] != "token-cleanroom-job-7" || about["meta"].(map[string]any)["project"] != "shop/items" || about["explicit_max_ttl"] == 0.0 {
		t.Errorf("the child is %v", about)
	}
	if err := j.revoke(child); err != nil || shared.alive(t, child.ID) {
		t.Errorf("revoke: %v", err)
	}
	if !shared.alive(t, accessor) {
		t.Error("the admin's token was revoked")
	}

	j.vault, j.config.Vault.TokenFile = nil, write(t, admin, 0o640)
	_, err := j.fetch("v1/shop/token")
	refuses(t, err, []string{admin}, "vault.token_file", "0640")

	shared.write(t, "auth/token/revoke", map[string]any{"token": admin})
	j.vault, j.config.Vault.TokenFile = nil, write(t, admin, 0o400)
	_, err = j.fetch("v1/shop/token")
	refuses(t, err, []string{admin}, "vault.token_file", "permission denied")
}

// A token that cannot be journalled is not used, and does not stay.
func TestJournalFails(t *testing.T) {
	full := errors.New("no space left on device")
	j := newJob(t, shared, "shop")
	j.journal = full
	var tokens int
	before := accessors(t)
	if _, err := j.fetch("secret/shop/jwt"); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	for accessor := range accessors(t) {
		if !before[accessor] {
			tokens++
		}
	}
	if tokens != 0 {
		t.Errorf("%d tokens are left", tokens)
	}
}

func accessors(t *testing.T) map[string]bool {
	t.Helper()
	answer, err := shared.ask("LIST", "auth/token/accessors", nil)
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]bool{}
	for _, a := range answer["data"].(map[string]any)["keys"].([]any) {
		list[a.(string)] = true
	}
	return list
}

func TestTimeIsOver(t *testing.T) {
	j := newJob(t, shared, "shop")
	j.until = time.Now().Add(-time.Second)
	_, err := j.fetch("secret/shop/jwt")
	tells(t, err, nil, "the job's time is over")
	if errors.Is(err, secret.ErrRefused) || len(j.leases) != 0 {
		t.Errorf("error %v, journal %v", err, j.leases)
	}
}
