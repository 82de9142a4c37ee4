package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

const stubToken = "hvs.stub-token-canary"

// stub answers as Vault does up to the secret itself, which is secret's.
type stub struct {
	engine string // of every path
	secret func(w http.ResponseWriter, r *http.Request)
	seen   []string // requests: token and path
	header http.Header
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	s.seen = append(s.seen, r.Header.Get("X-Vault-Token")+" "+path)
	s.header = r.Header
	switch {
	case strings.HasPrefix(path, "auth/jwt/login"):
		fmt.Fprintf(w, `{"auth": {"client_token": %q, "accessor": "accessor", "policies": ["default"], "lease_duration": 7200, "renewable": true}}`, stubToken)
	case strings.HasPrefix(path, "auth/token/renew-self"):
		fmt.Fprint(w, `{"auth": {"lease_duration": 3500}}`)
	case strings.HasPrefix(path, "sys/internal/ui/mounts/"):
		fmt.Fprintf(w, `{"data": {"path": "secret/", "type": %q, "options": {"version": "2"}}}`, s.engine)
	case strings.HasPrefix(path, "sys/leases/renew"):
		fmt.Fprint(w, `{"lease_duration": 3500}`)
	case strings.HasPrefix(path, "sys/capabilities-self"):
		fmt.Fprint(w, `{"data": {"sys/leases/revoke": ["update"]}}`)
	default:
		s.secret(w, r)
	}
}

// stubbed is a job that asks a stub.
func stubbed(t *testing.T, engine string, answer func(w http.ResponseWriter, r *http.Request)) (*job, *stub) {
	t.Helper()
	s := &stub{engine: engine, secret: answer}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return &job{t: t, token: "id-token-canary", until: time.Now().Add(time.Hour), config: config.Provider{
		Name: "v", Timeout: time.Minute, Vault: config.Vault{Address: server.URL, Auth: "jwt", Role: "shop", Token: "VAULT_ID_TOKEN"},
	}}, s
}

// Whoever answers in Vault's place, the error is one line without a
// credential, and a refusal only where Vault said no.
func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		answer  func(w http.ResponseWriter, r *http.Request)
		refused bool
		words   string
	}{
		"echo": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			body, _ := json.Marshal(map[string]any{"errors": []string{"no\n\tentry for " + r.Header.Get("X-Vault-Token") + "\x1b[31m"}})
			w.Write(body)
		}, true, "no entry for [hidden]"},
		"html": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "<html>", r.Header.Get("X-Vault-Token"))
		}, false, "403 without Vault's JSON"},
		"html, 200":  {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") }, false, "not Vault's JSON"},
		"half":       {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"data": {"key": "value-canary`) }, false, "not Vault's JSON"},
		"a number":   {func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"data": 424242}`) }, false, "not Vault's JSON"},
		"nothing":    {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }, true, "no fields"},
		"overloaded": {func(w http.ResponseWriter, r *http.Request) { http.Error(w, `{"errors":["slow down"]}`, 429) }, false, "slow down (429)"},
		"broken":     {func(w http.ResponseWriter, r *http.Request) { http.Error(w, `{"errors":["internal error"]}`, 500) }, false, "internal error (500)"},
		"redirect":   {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://other.test/", 307) }, false, "redirects"},
		"only a login": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"auth": {"client_token": "value-canary"}}`)
		}, true, "no fields"},
		"too long": {func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"data": {"key": "`+strings.Repeat("x", maxBody)+`"}}`)
		}, false, "more than 2097152 bytes"},
		"too long an error": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, `{"errors":["`+strings.Repeat("x", maxBody)+`"]}`, 403)
		}, false, "more than 2097152 bytes"},
		"keys": {func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, `{"errors":["fetching keys: no route"]}`, 400)
		}, false, "fetching keys"},
		"gone away": {func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, false, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := stubbed(t, "database", test.answer)
			_, err := j.fetch("secret/shop/api")
			tells(t, err, []string{stubToken, j.token, "canary", "424242", "\x1b"}, test.words, "provider v")
			if errors.Is(err, secret.ErrRefused) != test.refused || len(err.Error()) > 700 {
				t.Errorf("error %v, want a refusal: %t", err, test.refused)
			}
		})
	}
}

func TestTimeout(t *testing.T) {
	over := make(chan struct{})
	j, _ := stubbed(t, "database", func(http.ResponseWriter, *http.Request) { <-over })
	defer close(over)
	j.config.Timeout = 100 * time.Millisecond
	j.until = time.Time{} // so that the login is not followed by a renewal
	_, err := j.fetch("secret/shop/api")
	// A loaded machine may need longer for the login already.
	tells(t, err, []string{stubToken, j.token}, "no answer from Vault within 100ms", "timeout")
	if errors.Is(err, secret.ErrRefused) {
		t.Errorf("error %v", err)
	}
}

// Nothing is used before it is journalled.
func TestJournalComesFirst(t *testing.T) {
	j, s := stubbed(t, "database", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"lease_id": "database/creds/x/1", "lease_duration": 7200, "renewable": true, "data": {"password": "p"}}`)
	})
	var order []string
	_, err := provider(t, j.config).Fetch(t.Context(), secret.Request{
		Secret: config.Secret{Name: "s", Path: "database/creds/x"}, Until: j.until,
		Token: func(context.Context, string) (string, error) { return j.token, nil },
		Journal: func(l secret.Lease) error {
			order = append(append(order, s.seen...), "journal "+l.ID+" "+string(l.Credential))
			s.seen = nil
			return nil
		},
	})
	order = append(order, s.seen...)
	want := []string{
		" auth/jwt/login",
		"journal accessor " + stubToken,
		stubToken + " auth/token/renew-self",
		stubToken + " sys/internal/ui/mounts/database/creds/x",
		stubToken + " database/creds/x",
		"journal database/creds/x/1 " + stubToken,
		stubToken + " sys/leases/renew",
	}
	if err != nil || !slices.Equal(order, want) {
		t.Errorf("%v\n%s", err, strings.Join(order, "\n"))
	}
}

// A life that Vault does not shorten is journalled as it is.
func TestNotShortened(t *testing.T) {
	j, _ := stubbed(t, "database", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"lease_id": "database/creds/x/1", "lease_duration": 7200, "renewable": false, "data": {"password": "p"}}`)
	})
	j.until = time.Now().Add(10 * time.Minute) // the stub renews for 3500 s, whatever is asked
	issued := j.must("database/creds/x")
	if len(j.leases) != 3 || j.leases[0].ID != j.leases[1].ID {
		t.Fatalf("journal %+v", j.leases)
	}
	for i, want := range []time.Duration{10 * time.Minute, 3500 * time.Second, 3500 * time.Second} {
		if left := time.Until(j.leases[i].Expires); left > want || left < want-5*time.Minute {
			t.Errorf("entry %d: %s left, want %s", i, left, want)
		}
	}
	if !issued.Expires.Equal(j.leases[2].Expires) {
		t.Errorf("it expires at %s", issued.Expires)
	}
}

// What an engine's fields say of age and end, without a lease.
func TestTold(t *testing.T) {
	end := time.Now().Add(30 * time.Minute).Truncate(time.Second)
	rotated := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	for name, test := range map[string]struct {
		engine, data     string
		rotated, expires time.Time
	}{
		"certificate": {"pki", fmt.Sprintf(`{"certificate": "c", "expiration": %d}`, end.Unix()), time.Now(), end},
		"static role": {"database", fmt.Sprintf(`{"password": "p", "last_vault_rotation": %q, "ttl": 1800}`, rotated.Format(time.RFC3339Nano)), rotated, end},
		"nothing":     {"aws", `{"key": "k", "ttl": 1800, "expiration": 7}`, time.Time{}, time.Time{}},
		"nonsense":    {"pki", `{"key": "k", "expiration": -1e999}`, time.Time{}, time.Time{}},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := stubbed(t, test.engine, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"data": %s}`, test.data) })
			issued := j.must("engine/x")
			for _, pair := range [][2]time.Time{{issued.Rotated, test.rotated}, {issued.Expires, test.expires}} {
				if pair[0].IsZero() != pair[1].IsZero() || pair[0].Sub(pair[1]).Abs() > 5*time.Minute {
					t.Errorf("rotated %s, expires %s", issued.Rotated, issued.Expires)
				}
			}
		})
	}
}
