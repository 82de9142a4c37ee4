package vault

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// transport answers without a network.
type transport func(r *http.Request) (int, string)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	code, body := f(r)
	return &http.Response{
		StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), Request: r,
	}, nil
}

// Whatever Vault, or somebody in its place, answers at any step: there is an
// error of one line without a credential, or a secret with fields, whose
// leases are all journalled with the token. Its corpus is in testdata/fuzz.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, step, code int, body string) {
		if code < 200 || code > 599 || strings.Contains(body, "id-token-canary") {
			return // no HTTP answer, or one that nobody could give
		}
		good := []string{
			`{"auth": {"client_token": "` + stubToken + `", "accessor": "a", "policies": ["default"], "lease_duration": 7200, "renewable": true}}`,
			`{"auth": {"lease_duration": 3000}}`,
			`{"data": {"path": "secret/", "type": "kv", "options": {"version": "2"}}}`,
			`{"data": {"data": {"key": "value"}}}`,
		}
		n := -1
		c := config.Vault{Address: "https://vault.test", Auth: "jwt", Token: "T"}
		v := provider(t, config.Provider{Name: "v", Vault: c})
		var err error
		v.api, err = newClient(c, transport(func(*http.Request) (int, string) {
			if n++; n == step%4 || n >= len(good) {
				return code, body
			}
			return 200, good[n]
		}))
		if err != nil {
			t.Fatal(err)
		}
		journal := 0
		issued, err := v.Fetch(t.Context(), secret.Request{
			Secret: config.Secret{Name: "s", Path: "secret/shop"}, Until: time.Now().Add(time.Hour),
			Token: func(context.Context, string) (string, error) { return "id-token-canary", nil },
			Journal: func(l secret.Lease) error {
				if journal++; len(l.Credential) == 0 || l.ID == "" {
					return errors.New("no lease that anybody could revoke")
				}
				return nil
			},
		})
		switch {
		case err == nil && (len(issued.Fields) == 0 || journal == 0):
			t.Errorf("issued %d fields, %d entries in the journal", len(issued.Fields), journal)
		case err != nil && strings.ContainsAny(err.Error(), "\n\r"):
			t.Errorf("error %q is more than one line", err)
		case err != nil && strings.Contains(err.Error(), "id-token-canary"):
			t.Errorf("error %q has the ID token", err)
		}
	})
}
