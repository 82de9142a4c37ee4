package oidc

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// What revocation and introspection say together.
func TestRevoke(t *testing.T) {
	const unsupported = `{"error": "unsupported_token_type", "error_description": "no canary-access-token"}`
	const both = `{"access_token": "canary-access-token", "refresh_token": "canary-refresh-token"}`
	only := func(kind string, answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.PostForm.Get("token_type_hint") == kind {
				answer(w, r)
			}
		}
	}
	for _, test := range []struct {
		name               string
		token              string
		revoke, introspect http.HandlerFunc
		want               string // empty: gone
		final              bool   // ErrNotRevocable
		requests           int    // after the token came
	}{
		{name: "gone", token: token, revoke: says(200, ""), requests: 1},
		{name: "gone, and seen", token: token, revoke: says(200, ""), introspect: says(200, `{"active": false}`), requests: 2},
		{name: "both gone", token: both, revoke: says(200, ""), introspect: says(200, `{"active": false}`), requests: 4},
		{name: "not gone", token: token, revoke: says(200, ""), introspect: says(200, `{"active": true, "sub": "canary-access-token"}`), want: "is good after its revocation", requests: 2},
		{name: "not for us to see", token: token, revoke: says(200, ""), introspect: says(401, ""), requests: 2},
		{name: "forbidden to see", token: token, revoke: says(200, ""), introspect: says(403, ""), requests: 2},
		{name: "cannot see", token: token, revoke: says(200, ""), introspect: says(503, ""), want: "introspection endpoint, access_token: answered 503", requests: 2},
		{name: "sees nonsense", token: token, revoke: says(200, ""), introspect: says(200, `{"activ": false}`), want: "introspection response", requests: 2},
		{name: "unsupported", token: token, revoke: says(400, unsupported), want: "takes back no access_token", final: true, requests: 1},
		{name: "unsupported but gone", token: both, revoke: only("access_token", says(400, unsupported)), introspect: says(200, `{"active": false}`), requests: 4},
		{name: "unsupported and good", token: token, revoke: says(400, unsupported), introspect: says(200, `{"active": true}`), want: "takes back no", final: true, requests: 2},
		{name: "busy", token: token, revoke: says(503, ""), want: "revocation endpoint, access_token: answered 503", requests: 1},
		{name: "not ours", token: token, revoke: says(400, `{"error": "invalid_client"}`), want: "invalid_client", requests: 1},
		{name: "redirect", token: token, revoke: says(302, ""), want: "redirects are not followed", requests: 1},
		{name: "the second after the first failed", token: both, revoke: only("refresh_token", says(503, "")), want: "refresh_token: answered 503", requests: 2},
		// Who reads ErrNotRevocable does not try again, and one of the two may
		// still be taken back.
		{name: "one not now, one never", token: both, revoke: func(w http.ResponseWriter, r *http.Request) {
			if r.PostForm.Get("token_type_hint") == "refresh_token" {
				says(503, "")(w, r)
			} else {
				says(400, unsupported)(w, r)
			}
		}, want: "answered 503", requests: 2},
		{name: "one never, one not now", token: both, revoke: func(w http.ResponseWriter, r *http.Request) {
			if r.PostForm.Get("token_type_hint") == "access_token" {
				says(503, "")(w, r)
			} else {
				says(400, unsupported)(w, r)
			}
		}, want: "answered 503", requests: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, map[string]http.HandlerFunc{"/token": says(200, test.token), "/revoke": test.revoke})
			p := scripted(t, s, "client_credentials")
			p.OIDC.Issuer, p.OIDC.TokenURL = s.URL, ""
			document := `{"issuer": "` + s.URL + `", "token_endpoint": "` + s.URL + `/token", "revocation_endpoint": "` + s.URL + `/revoke"`
			if test.introspect != nil {
				s.answers["/introspect"] = test.introspect
				document += `, "introspection_endpoint": "` + s.URL + `/introspect"`
			}
			s.answers["/.well-known/openid-configuration"] = says(200, document+"}")
			j := &journal{t: t}
			if _, err := open(t, p).Fetch(t.Context(), request(j, config.Secret{}, "")); err != nil {
				t.Fatal(err)
			}
			before := len(s.asked)
			err := open(t, p).Revoke(t.Context(), j.leases[0])
			if (err == nil) != (test.want == "") || errors.Is(err, secret.ErrNotRevocable) != test.final {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if err != nil && (!strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%q, want %q", err, test.want)
			}
			if n := len(s.asked) - before; n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
			for _, r := range s.asked[before:] {
				if _, _, ok := r.BasicAuth(); !ok || !strings.HasPrefix(r.PostForm.Get("token"), "canary-") {
					t.Errorf("%s with %v", r.URL.Path, r.PostForm)
				}
			}
		})
	}
}

// revoke_url serves where no document names one.
func TestRevokeURL(t *testing.T) {
	s := serve(t, map[string]http.HandlerFunc{"/token": says(200, token), "/back": says(200, "")})
	p := scripted(t, s, "client_credentials")
	p.OIDC.RevokeURL = s.URL + "/back"
	j := &journal{t: t}
	if _, err := open(t, p).Fetch(t.Context(), request(j, config.Secret{Parameters: []string{"auth=post"}}, "")); err != nil || len(j.leases) != 1 {
		t.Fatal(err)
	}
	if err := open(t, p).Revoke(t.Context(), j.leases[0]); err != nil {
		t.Fatal(err)
	}
	form := s.asked[1].PostForm
	if form.Get("token") != "canary-access-token" || form.Get("client_secret") != clientSecret {
		t.Errorf("%v: the client is the one of the secret", form)
	}
}
