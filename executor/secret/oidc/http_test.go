package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// script is a server on loopback that answers what a test tells it to, and
// keeps what it was asked.
type script struct {
	*httptest.Server
	answers map[string]http.HandlerFunc
	asked   []*http.Request
}

func serve(t *testing.T, answers map[string]http.HandlerFunc) *script {
	t.Helper()
	s := &script{answers: answers}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, r) // requests come one after the other
		answer := s.answers[r.URL.Path]
		if answer == nil {
			t.Errorf("a request for %s", r.URL.Path)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

const token = `{"access_token": "canary-access-token", "token_type": "Bearer", "expires_in": 60}`

// scripted is a provider at such a server, without discovery.
func scripted(t *testing.T, s *script, grant string) config.Provider {
	t.Helper()
	return config.Provider{Name: "corp", Timeout: time.Minute, OIDC: config.OIDC{
		TokenURL: s.URL + "/token", Grant: grant, Token: "T", ClientID: "clean:room", ClientSecretFile: written(t, clientSecret),
	}}
}

// What is sent, to the letter.
func TestForms(t *testing.T) {
	const jwtType = "urn:ietf:params:oauth:token-type:jwt"
	exchange := url.Values{"grant_type": {grantExchange}, "subject_token": {"the-id-token"}, "subject_token_type": {jwtType}}
	with := func(base url.Values, more url.Values) url.Values {
		sum := url.Values{}
		for _, v := range []url.Values{base, more} {
			for key, values := range v {
				sum[key] = values
			}
		}
		return sum
	}
	for _, test := range []struct {
		name, grant string
		secret      config.Secret
		methods     string // token_endpoint_auth_methods_supported
		public      bool
		want        url.Values
		basic       bool
	}{
		{name: "exchange", grant: "token_exchange", secret: config.Secret{Path: "api"}, want: with(exchange, url.Values{"audience": {"api"}}), basic: true},
		{name: "its own name is no audience", grant: "token_exchange", secret: config.Secret{Path: "API_TOKEN"}, want: exchange, basic: true},
		{name: "lists", grant: "token_exchange", secret: config.Secret{Path: "api", Parameters: []string{
			"audience=two", "resource=https://a", "resource=https://b", "scope=read write", "scope=more", "requested_token_type=access_token", "subject_token_type=id_token",
		}}, want: with(exchange, url.Values{
			"audience": {"api", "two"}, "resource": {"https://a", "https://b"}, "scope": {"read write more"},
			"requested_token_type": {"urn:ietf:params:oauth:token-type:access_token"}, "subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"},
		}), basic: true},
		{name: "a type of somebody's", grant: "token_exchange", secret: config.Secret{Parameters: []string{"subject_token_type=urn:x:y"}},
			want: with(exchange, url.Values{"subject_token_type": {"urn:x:y"}}), basic: true},
		{name: "a public client", grant: "token_exchange", public: true, want: with(exchange, url.Values{"client_id": {"clean:room"}})},
		{name: "credentials", grant: "client_credentials", secret: config.Secret{Parameters: []string{"scope=x=y"}},
			want: url.Values{"grant_type": {"client_credentials"}, "scope": {"x=y"}}, basic: true},
		{name: "post", grant: "client_credentials", secret: config.Secret{Parameters: []string{"auth=post"}},
			want: url.Values{"grant_type": {"client_credentials"}, "client_id": {"clean:room"}, "client_secret": {clientSecret}}},
		{name: "post, says discovery", grant: "client_credentials", methods: `["private_key_jwt", "client_secret_post"]`,
			want: url.Values{"grant_type": {"client_credentials"}, "client_id": {"clean:room"}, "client_secret": {clientSecret}}},
		{name: "both, says discovery", grant: "client_credentials", methods: `["client_secret_post", "client_secret_basic"]`,
			want: url.Values{"grant_type": {"client_credentials"}}, basic: true},
		{name: "basic all the same", grant: "client_credentials", methods: `["client_secret_post"]`, secret: config.Secret{Parameters: []string{"auth=basic"}},
			want: url.Values{"grant_type": {"client_credentials"}}, basic: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, map[string]http.HandlerFunc{"/token": says(200, token)})
			p := scripted(t, s, test.grant)
			if test.public {
				p.OIDC.ClientSecretFile = ""
			}
			if test.methods != "" {
				p.OIDC.Issuer, p.OIDC.TokenURL = s.URL, ""
				s.answers["/.well-known/openid-configuration"] = says(200, fmt.Sprintf(`{"issuer": %q, "token_endpoint": %q, "token_endpoint_auth_methods_supported": %s}`, s.URL, s.URL+"/token", test.methods))
			}
			if _, err := open(t, p).Fetch(t.Context(), request(&journal{t: t}, test.secret, "the-id-token")); err != nil {
				t.Fatal(err)
			}
			r := s.asked[len(s.asked)-1]
			if r.URL.RawQuery != "" || r.PostForm.Encode() != test.want.Encode() {
				t.Errorf("?%s\n%s, want\n%s", r.URL.RawQuery, r.PostForm.Encode(), test.want.Encode())
			}
			id, password, ok := r.BasicAuth() // each escaped: RFC 6749, 2.3.1
			if ok != test.basic || ok && (id != "clean%3Aroom" || password != url.QueryEscape(clientSecret)) {
				t.Errorf("basic %v: %q %q", ok, id, password)
			}
		})
	}
}

func TestParametersRefused(t *testing.T) {
	for _, test := range []struct{ grant, parameter, want string }{
		{"token_exchange", "audiance=x", `parameter "audiance" is not known`},
		{"token_exchange", "scope", "write KEY=VALUE"},
		{"token_exchange", "scope=", "write KEY=VALUE"},
		{"token_exchange", "subject_token=x", "not known"},
		{"token_exchange", "auth=none", "basic or post"},
		{"client_credentials", "requested_token_type=jwt", "not known with client_credentials"},
		{"client_credentials", "client_secret=canary", "not known"},
	} {
		s := serve(t, nil)
		_, err := open(t, scripted(t, s, test.grant)).Fetch(t.Context(), request(&journal{t: t}, config.Secret{Parameters: []string{test.parameter}}, "x"))
		if !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", test.parameter, err)
		}
	}
}

// Whatever a token endpoint answers: one line that helps, and no credential.
func TestBadAnswers(t *testing.T) {
	basic := client{id: "clean:room", secret: clientSecret}.basic()
	echo := func(text string) string {
		b, err := json.Marshal(map[string]string{"error": "invalid_request", "error_description": text})
		must(t, err)
		return string(b)
	}
	for _, test := range []struct {
		name    string
		status  int
		body    string
		want    string
		refused bool
	}{
		{"no JSON", 200, "<html>canary-access-token</html>", "not the JSON of a token response", false},
		{"wrong type", 200, `{"access_token": 123456789012345}`, "not the JSON of a token response", false},
		{"wrong number", 200, `{"access_token": "canary-access-token", "expires_in": "canary"}`, "not the JSON", false},
		{"no token", 200, `{"token": "canary-access-token"}`, "holds no access_token", false},
		{"two lines", 200, `{"access_token": "canary-access-token\nX-Header: 1"}`, "RFC 6749, appendix A.12", false},
		{"much", 200, strings.Repeat(" ", maxBody) + token, "more than 1048576 bytes", false},
		{"page", 502, "<html>canary</html>", "answered 502 Bad Gateway", false},
		{"busy", 429, `{"error": "slow_down"}`, "answered 429 Too Many Requests: slow_down", false},
		{"later", 400, `{"error": "temporarily_unavailable"}`, "temporarily_unavailable", false},
		{"strange", 799, `{}`, "answered 799", false},
		{"scope", 400, `{"error": "invalid_scope", "error_description": "no scope\nof that\u0000name"}`, "answered 400 Bad Request: invalid_scope: no scope of that name", true},
		{"no code", 403, "", "answered 403 Forbidden", true},
		{"echo of the token", 400, echo("bad token canary-id-token-value"), "bad token [hidden]", true},
		{"echo of its beginning", 400, echo("bad token 'canary-id-token...'"), "bad token '[hidden]...'", true},
		{"echo of the secret", 400, echo("bad secret " + clientSecret), "bad secret [hidden]", true},
		{"echo of its escape", 400, echo("bad secret " + url.QueryEscape(clientSecret) + "&x"), "bad secret [hidden]&x", true},
		{"echo of the header", 401, echo("Authorization: " + basic), "Authorization: [hidden]", true},
		{"echo of its value", 401, echo("value " + strings.TrimPrefix(basic, "Basic ")), "value[hidden]", true},
		{"long", 400, echo(strings.Repeat("x", 5000) + " end"), "x end", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, map[string]http.HandlerFunc{"/token": says(test.status, test.body)})
			j := &journal{t: t}
			got, err := open(t, scripted(t, s, "token_exchange")).Fetch(t.Context(), request(j, config.Secret{}, "canary-id-token-value"))
			if err == nil || got.Fields != nil || len(j.leases) != 0 || len(s.asked) != 1 {
				t.Fatal(got, err)
			}
			text := err.Error()
			if !strings.Contains(text, test.want) || errors.Is(err, secret.ErrRefused) != test.refused {
				t.Errorf("%v (refused %v), want %q", text, !test.refused, test.want)
			}
			if strings.Contains(text, "canary") || strings.Contains(text, basic[8:20]) || strings.Contains(text, "\n") || len(text) > 600 {
				t.Errorf("%d bytes: %q", len(text), text)
			}
		})
	}
}

// Who redirects gets no credentials sent on, and is told of.
func TestRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		other := serve(t, nil) // any request fails the test
		s := serve(t, map[string]http.HandlerFunc{"/token": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/steal", status)
		}})
		_, err := open(t, scripted(t, s, "client_credentials")).Fetch(t.Context(), request(&journal{t: t}, config.Secret{}, ""))
		if err == nil || !strings.Contains(err.Error(), "redirects are not followed") || !errors.Is(err, secret.ErrRefused) {
			t.Error(err)
		}
	}
}

// A server that is slow, gone or no server of HTTP.
func TestNoAnswer(t *testing.T) {
	over := make(chan struct{})
	s := serve(t, map[string]http.HandlerFunc{"/token": func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}})
	defer close(over)
	p := scripted(t, s, "client_credentials")
	p.Timeout = 20 * time.Millisecond
	fetch := func() error {
		_, err := open(t, p).Fetch(t.Context(), request(&journal{t: t}, config.Secret{}, ""))
		return err
	}
	if err := fetch(); err == nil || !strings.Contains(err.Error(), "no answer within 20ms") || errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}

	p.Timeout = time.Minute
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		fmt.Fprintf(c, "%s\r\n\r\n", r.Header.Get("Authorization")) // its echo, where a status line should be
		c.Close()
	}))
	p.OIDC.TokenURL = odd.URL
	if err := fetch(); err == nil || strings.Contains(err.Error(), "Y2xlYW4") || !strings.Contains(err.Error(), "does not answer") {
		t.Error(err)
	}
	odd.Close()
	if err := fetch(); err == nil || !strings.Contains(err.Error(), "does not answer") || errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
}
