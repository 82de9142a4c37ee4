package idptest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
)

// What this provider signs a stock verifier accepts, and what it spoils not.
func TestSignAsOthersVerify(t *testing.T) {
	p := New(t)
	ctx := oidc.ClientContext(t.Context(), p.Client())
	provider, err := oidc.NewProvider(ctx, p.URL)
	if err != nil {
		t.Fatal(err)
	}
	v := provider.VerifierContext(ctx, &oidc.Config{ClientID: "a"})
	claims := JobClaims(1, 2, "a")
	for name, raw := range map[string]string{"RS256": p.Sign(claims), "ES256": p.Sign(claims, ES256())} {
		token, err := v.Verify(ctx, raw)
		if err != nil || token.Issuer != p.URL || time.Until(token.Expiry) < 50*time.Minute {
			t.Errorf("%s: %+v %v", name, token, err)
		}
	}
	for name, raw := range map[string]string{
		"none": p.Sign(claims, None()), "HS256": p.Sign(claims, HS256WithPublicKey()), "wrong key": p.Sign(claims, WrongKey()),
		"kid":      p.Sign(claims, Header("kid", "x")),
		"tampered": p.Sign(claims, Tampered(func(c map[string]any) { c["job_id"] = "9" })),
		"expired":  p.Sign(map[string]any{"aud": "a", "exp": time.Now().Add(-time.Hour)}),
		"no exp":   p.Sign(map[string]any{"aud": "a", "exp": nil}),
	} {
		if _, err := v.Verify(ctx, raw); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	p.RotateKeys()
	for name, raw := range map[string]string{"new": p.Sign(claims), "old": p.Sign(claims, OldKey())} {
		if _, err := v.Verify(ctx, raw); err != nil {
			t.Errorf("%s key after rotation: %v", name, err)
		}
	}
	p.WithdrawOldKeys()
	fresh := provider.VerifierContext(ctx, &oidc.Config{ClientID: "a"})
	if _, err := fresh.Verify(ctx, p.Sign(claims, OldKey())); err == nil {
		t.Error("a key that was withdrawn is accepted")
	}
}

func TestFaults(t *testing.T) {
	p := New(t)
	get := func() (int, error) {
		answer, err := p.Client().Get(p.URL + JWKSPath)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	p.Down(true)
	if _, err := get(); err == nil {
		t.Error("it is not down")
	}
	p.Down(false)
	p.Fail(JWKSPath, 500)
	if status, err := get(); status != 500 || err != nil {
		t.Error(status, err)
	}
	p.Fail(JWKSPath, 0)
	if status, err := get(); status != 200 || err != nil {
		t.Error(status, err)
	}
	if n := p.Requests(JWKSPath); n < 3 { // a client may try again when a connection ends
		t.Errorf("%d requests", n)
	}
	p.Slow(time.Hour)
	client := *p.Client()
	client.Timeout = 50 * time.Millisecond
	if _, err := client.Get(p.URL + JWKSPath); err == nil {
		t.Error("it is not slow")
	}
}

// post asks as a client and gives status and answer.
func post(t *testing.T, p *Provider, path, id, secret string, form url.Values) (int, map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	answer, err := p.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(answer.Body).Decode(&body); err != nil && err != io.EOF {
		t.Fatal(err)
	}
	return answer.StatusCode, body
}

func TestOAuth(t *testing.T) {
	gitlab, p := New(t), New(t)
	p.AddClient("cleanroom", "a&b:c")
	p.AddClient("other", "x")
	p.Trust(gitlab, p.URL)
	subject := gitlab.Sign(JobClaims(1, 2, p.URL))
	form := func(pairs ...string) url.Values {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return v
	}
	exchange := func(token string) url.Values {
		return form("grant_type", tokenExchange, "subject_token", token, "subject_token_type", typeJWT, "audience", "https://api.test")
	}
	if status, body := post(t, p, TokenPath, "cleanroom", "wrong", form("grant_type", clientCredentials)); status != 401 || body["error"] != "invalid_client" {
		t.Error(status, body)
	}
	if status, body := post(t, p, TokenPath, "", "", form("grant_type", clientCredentials, "client_id", "cleanroom", "client_secret", "a&b:c", "scope", "read")); status != 200 || body["scope"] != "read" {
		t.Error(status, body)
	}
	for name, raw := range map[string]string{
		"another audience": gitlab.Sign(JobClaims(1, 2, "x")), "wrong key": gitlab.Sign(JobClaims(1, 2, p.URL), WrongKey()),
		"expired": gitlab.Sign(map[string]any{"aud": p.URL, "sub": "x", "exp": time.Now().Add(-time.Hour)}),
		"its own": p.Sign(JobClaims(1, 2, p.URL)), "garbage": "x",
	} {
		if status, body := post(t, p, TokenPath, "cleanroom", "a&b:c", exchange(raw)); status != 400 || body["error"] != "invalid_request" {
			t.Errorf("%s: %d %v", name, status, body)
		}
	}
	p.GiveRefreshTokens(true)
	status, body := post(t, p, TokenPath, "cleanroom", "a&b:c", exchange(subject))
	token, _ := body["access_token"].(string)
	refresh, _ := body["refresh_token"].(string)
	if status != 200 || body["issued_token_type"] != typeAccessToken || !p.Active(token) || !p.Active(refresh) || p.Active("") {
		t.Fatal(status, body)
	}
	grants := p.Grants()
	if g := grants[len(grants)-1]; g.Audience != "https://api.test" || !strings.HasPrefix(g.Subject, "project_path:garden/shed") || g.Client != "cleanroom" {
		t.Errorf("%+v", g)
	}
	if status, body := post(t, p, TokenPath, "cleanroom", "a&b:c", form("grant_type", refreshToken, "refresh_token", refresh)); status != 200 {
		t.Error(status, body)
	}
	if status, _ := post(t, p, RevokePath, "other", "x", form("token", token)); status != 400 || !p.Active(token) {
		t.Error("another client took it back:", status)
	}
	if status, _ := post(t, p, RevokePath, "cleanroom", "a&b:c", form("token", "unknown")); status != 200 {
		t.Error("an unknown token:", status)
	}
	if status, _ := post(t, p, RevokePath, "cleanroom", "a&b:c", form("token", refresh)); status != 200 || p.Active(token) || p.Active(refresh) {
		t.Error("it was not taken back:", status)
	}
	p.AllowAudiences("https://other.test")
	if status, body := post(t, p, TokenPath, "cleanroom", "a&b:c", exchange(subject)); status != 400 || body["error"] != "invalid_target" {
		t.Error(status, body)
	}
	p.AllowAudiences()
	p.SetLifetime(0)
	if _, body := post(t, p, TokenPath, "cleanroom", "a&b:c", exchange(subject)); p.Active(body["access_token"].(string)) {
		t.Error("it has no lifetime left")
	}
}
