package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/identity/idptest"
	"cleanroom/executor/secret"
)

const clientSecret = "canary/client+secret=4711"

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// written is a file that is private.
func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// table is a configuration for a provider.
func table(t *testing.T, grant string, idp *idptest.Provider) config.Provider {
	t.Helper()
	return config.Provider{Name: "corp", Kind: "oidc", Timeout: time.Minute, OIDC: config.OIDC{
		Issuer: idp.URL, CAFile: written(t, string(idp.CA())), Grant: grant, Token: "CORP_ID_TOKEN",
		ClientID: "clean:room", ClientSecretFile: written(t, clientSecret+"\n"),
	}}
}

func open(t *testing.T, p config.Provider) secret.Provider {
	t.Helper()
	provider, err := New(p)
	must(t, err)
	return provider
}

// journal takes leases and looks that none can be used by who reads it.
type journal struct {
	t      *testing.T
	leases []secret.Lease
}

func (j *journal) add(l secret.Lease) error {
	if l.ID == "" || strings.Contains(string(l.Credential), l.ID) {
		j.t.Errorf("%q names the lease", l.ID)
	}
	j.leases = append(j.leases, l)
	return nil
}

func request(j *journal, s config.Secret, token string) secret.Request {
	if s.Name == "" {
		s.Name = "API_TOKEN"
	}
	return secret.Request{
		Secret: s, Job: secret.Job{ID: 4711, Project: "garden/shed", Room: "r"}, Until: time.Now().Add(time.Hour),
		Token: func(_ context.Context, variable string) (string, error) {
			if token == "" {
				return "", errors.Join(secret.ErrRefused, errors.New("the job has no "+variable))
			}
			return token, nil
		},
		Journal: j.add,
	}
}

func TestNew(t *testing.T) {
	good := config.OIDC{Issuer: "https://id.example.com", Grant: "token_exchange", Token: "T"}
	for _, test := range []struct {
		change func(o *config.OIDC)
		want   string // empty: good
	}{
		{func(o *config.OIDC) {}, ""},
		{func(o *config.OIDC) { o.Issuer = "http://127.0.0.1:8080" }, ""},
		{func(o *config.OIDC) { o.Issuer = "http://[::1]:8080" }, ""},
		{func(o *config.OIDC) { o.Issuer = "http://localhost/realms/x" }, ""},
		{func(o *config.OIDC) { o.Issuer = "http://id.example.com" }, "oidc.issuer: \"http://id.example.com\" must be an https URL"},
		{func(o *config.OIDC) { o.Issuer = "http://localhost.example.com" }, "must be an https URL"},
		{func(o *config.OIDC) { o.Issuer = "https://user:pw@id.example.com" }, "must be a URL"},
		{func(o *config.OIDC) { o.TokenURL = "http://id.example.com/token" }, "oidc.token_url"},
		{func(o *config.OIDC) { o.RevokeURL = "ftp://id.example.com/revoke" }, "oidc.revoke_url"},
		{func(o *config.OIDC) { o.Issuer = "" }, "oidc.issuer: set"},
		{func(o *config.OIDC) { o.Issuer, o.TokenURL = "", "https://id.example.com/token" }, ""},
		{func(o *config.OIDC) { o.Token = "" }, "oidc.token: set"},
		{func(o *config.OIDC) { o.Grant = "password" }, "oidc.grant"},
		{func(o *config.OIDC) { o.Grant = "client_credentials" }, "client_secret_file"},
		{func(o *config.OIDC) { o.ClientSecretFile = "/x" }, "whose secret"},
		{func(o *config.OIDC) { o.CAFile = "/nowhere/ca.pem" }, "oidc.ca_file"},
		{func(o *config.OIDC) { o.CAFile = written(t, "no certificate") }, "no PEM certificate"},
	} {
		o := good
		test.change(&o)
		p, err := New(config.Provider{Name: "corp", OIDC: o})
		if test.want == "" {
			if err != nil || p == nil {
				t.Errorf("%+v: %v", o, err)
			}
		} else if p != nil || !errors.Is(err, config.ErrConfig) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "pw@") && !strings.Contains(test.want, "URL") {
			t.Errorf("%+v: %v, want %q", o, err, test.want)
		}
	}
}

// With both grants a token comes, is journalled, works, and is gone when it
// was revoked, by another process that has but configuration and lease.
func TestLife(t *testing.T) {
	for _, grant := range []string{"token_exchange", "client_credentials"} {
		for _, refresh := range []bool{false, true} {
			idp, gitlab := idptest.New(t), idptest.New(t)
			idp.AddClient("clean:room", clientSecret)
			idp.Trust(gitlab, "https://corp.example.com")
			idp.SetLifetime(20 * time.Minute)
			idp.GiveRefreshTokens(refresh)
			token := gitlab.Sign(idptest.JobClaims(4711, 42, "https://corp.example.com"))

			j, before := &journal{t: t}, time.Now()
			p := table(t, grant, idp)
			got, err := open(t, p).Fetch(t.Context(), request(j, config.Secret{Path: "https://api.example.com", Parameters: []string{"scope=read write"}}, token))
			must(t, err)
			g := idp.Grants()[0]
			want := map[string]string{"access_token": g.AccessToken, "token_type": "Bearer", "expires_in": "1200", "scope": "read write"}
			if !maps.Equal(got.Fields, want) || g.Audience != "https://api.example.com" || g.Client != "clean:room" || (g.Subject != "") != (grant == "token_exchange") {
				t.Errorf("%s: fields %v of %+v", grant, slices.Sorted(maps.Keys(got.Fields)), g)
			}
			if got.Expires.Before(before.Add(20*time.Minute)) || got.Expires.After(time.Now().Add(20*time.Minute)) || got.Rotated.Before(before) {
				t.Errorf("%s: expires %v, rotated %v", grant, got.Expires, got.Rotated)
			}
			if len(j.leases) != 1 || j.leases[0].Renewable || j.leases[0].Expires.IsZero() != refresh {
				t.Fatalf("%s: %d leases", grant, len(j.leases))
			}
			if !idp.Active(g.AccessToken) {
				t.Fatal("the token was revoked before its time")
			}
			idp.SetDiscovery(map[string]any{"revocation_endpoint": nil}) // cleaning up does not need it
			for range 2 {
				if err := open(t, p).Revoke(t.Context(), j.leases[0]); err != nil {
					t.Errorf("%s: %v", grant, err)
				}
			}
			if idp.Active(g.AccessToken) || refresh && idp.Active(g.RefreshToken) {
				t.Errorf("%s: a token is good after its revocation", grant)
			}
			if n := idp.Requests(idptest.DiscoveryPath); n != 1 {
				t.Errorf("%d requests for the discovery document", n)
			}
		}
	}
}

// A provider that takes nothing back gives no lease, and says when the token
// ends.
func TestNoRevocation(t *testing.T) {
	idp := idptest.New(t)
	idp.AddClient("clean:room", clientSecret)
	idp.SetDiscovery(map[string]any{"revocation_endpoint": nil})
	j := &journal{t: t}
	got, err := open(t, table(t, "client_credentials", idp)).Fetch(t.Context(), request(j, config.Secret{}, ""))
	if err != nil || len(j.leases) != 0 || got.Expires.IsZero() {
		t.Errorf("%d leases, expires %v: %v", len(j.leases), got.Expires, err)
	}
}

// What could not be written down is not used, and is given back.
func TestJournalFails(t *testing.T) {
	idp := idptest.New(t)
	idp.AddClient("clean:room", clientSecret)
	r := request(&journal{t: t}, config.Secret{}, "")
	ctx, cancel := context.WithCancel(t.Context())
	full := errors.New("no space left")
	r.Journal = func(secret.Lease) error { cancel(); return full }
	got, err := open(t, table(t, "client_credentials", idp)).Fetch(ctx, r)
	if !errors.Is(err, full) || got.Fields != nil || len(idp.Grants()) != 1 || idp.Active(idp.Grants()[0].AccessToken) {
		t.Errorf("%v, %+v", err, idp.Grants())
	}
}

func TestRefusals(t *testing.T) {
	idp, gitlab := idptest.New(t), idptest.New(t)
	idp.AddClient("clean:room", clientSecret)
	idp.Trust(gitlab, "https://corp.example.com")
	idp.AllowAudiences("https://api.example.com")
	good := gitlab.Sign(idptest.JobClaims(1, 2, "https://corp.example.com"))
	wrong := gitlab.Sign(idptest.JobClaims(1, 2, "https://staging.example.com"))
	for _, test := range []struct {
		name, token string
		path        string
		change      func(o *config.OIDC)
		want        string
	}{
		{"audience not given", good, "https://other.example.com", nil, "invalid_target: that audience is not given to anybody"},
		{"wrong token", wrong, "https://api.example.com", nil, "the subject token is not good"},
		{"no token", "", "https://api.example.com", nil, "the job has no CORP_ID_TOKEN"},
		{"wrong client secret", good, "https://api.example.com", func(o *config.OIDC) { o.ClientSecretFile = written(t, "canary-wrong-secret") }, "401 Unauthorized: invalid_client"},
		{"empty client secret", good, "https://api.example.com", func(o *config.OIDC) { o.ClientSecretFile = written(t, "") }, "oidc.client_secret_file"},
		{"loose client secret", good, "https://api.example.com", func(o *config.OIDC) { must(t, os.Chmod(o.ClientSecretFile, 0o644)) }, "has mode 0644"},
		{"another issuer", good, "https://api.example.com", func(o *config.OIDC) { o.Issuer += "/" }, "write oidc.issuer like that"},
	} {
		t.Run(test.name, func(t *testing.T) {
			j, p := &journal{t: t}, table(t, "token_exchange", idp)
			if test.change != nil {
				test.change(&p.OIDC)
			}
			got, err := open(t, p).Fetch(t.Context(), request(j, config.Secret{Path: test.path}, test.token))
			if !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.want) || got.Fields != nil || len(j.leases) != 0 {
				t.Fatalf("%v, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "canary") || test.token != "" && strings.Contains(err.Error(), test.token[:20]) {
				t.Errorf("it shows a credential: %v", err)
			}
		})
	}
	if len(idp.Grants()) != 0 {
		t.Errorf("%d tokens were given", len(idp.Grants()))
	}
}

// The authority of ca_file alone is believed.
func TestAuthority(t *testing.T) {
	idp, other := idptest.New(t), idptest.New(t)
	idp.AddClient("clean:room", clientSecret)
	p := table(t, "client_credentials", idp)
	p.OIDC.CAFile = written(t, string(other.CA()))
	_, err := open(t, p).Fetch(t.Context(), request(&journal{t: t}, config.Secret{}, ""))
	if err == nil || !strings.Contains(err.Error(), "certificate") || errors.Is(err, secret.ErrRefused) || idp.Requests(idptest.DiscoveryPath) != 0 {
		t.Error(err)
	}
}

func TestRenew(t *testing.T) {
	idp := idptest.New(t)
	if _, err := open(t, table(t, "client_credentials", idp)).Renew(t.Context(), secret.Lease{}, time.Now()); !errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
}

// The provider is asked for a lease that should be over, too, and its silence
// ends that; one that is broken says so.
func TestRevokeOddLeases(t *testing.T) {
	idp := idptest.New(t)
	p := open(t, table(t, "client_credentials", idp))
	credential, err := json.Marshal(kept{AccessToken: "canary-token", Revoke: idp.URL + idptest.RevokePath})
	must(t, err)
	if err := p.Revoke(t.Context(), secret.Lease{ID: "x", Credential: credential, Expires: time.Now().Add(-2 * clockSkew)}); !errors.Is(err, secret.ErrNotRevocable) || idp.Requests(idptest.RevokePath) != 1 {
		t.Error(err)
	}
	plain, err := json.Marshal(kept{AccessToken: "canary-token", Revoke: "http://id.example.com/revoke"})
	must(t, err)
	for _, credential := range []string{"", "canary", `{"access_token": "canary"}`, `{"revoke": "https://id.example.com"}`, string(plain)} {
		if err := p.Revoke(t.Context(), secret.Lease{ID: "lease-7", Credential: []byte(credential)}); err == nil || !strings.Contains(err.Error(), "lease-7") || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", credential, err)
		}
	}
}
