package identity

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/identity/idptest"
)

const api = "https://api.example.com"

// production is what a token for it must be.
func (r *rig) production() config.TokenProfile {
	return config.TokenProfile{
		Name: "production", Issuer: r.idp.URL, Audience: []string{api}, Subject: []string{"project_path:garden/*:ref_type:branch:ref:main"},
		MinLifetime: 10 * time.Minute,
		Claims:      []config.Claim{{Name: "environment", Values: []string{"production"}}, {Name: "project_path", Values: []string{"garden/*", "farm/**"}}},
	}
}

// scoped are claims that production accepts, with changes.
func scoped(changes map[string]any) map[string]any {
	c := claims(map[string]any{"aud": api, "environment": "production", "exp": time.Now().Add(time.Hour)})
	maps.Copy(c, changes)
	return c
}

// Every rule, and the line of the job that breaks it.
func TestCheckProfile(t *testing.T) {
	r := newRig(t)
	r.cfg.Profiles = []config.TokenProfile{r.production(), {Name: "staging", Issuer: r.idp.URL, Audience: []string{"staging"}}}
	now := time.Now()
	second := now.Truncate(time.Second)
	for _, test := range []struct {
		name    string
		changes map[string]any
		options []idptest.Option
		line    string // whole; none: accepted
	}{
		{name: "good"},
		{name: "several audiences", changes: map[string]any{"aud": []string{"other", api}}},
		{name: "audience", changes: map[string]any{"aud": "staging"},
			line: `token API_ID_TOKEN: audience is "staging", production accepts "https://api.example.com"`},
		{name: "audiences", changes: map[string]any{"aud": []string{"a", "b"}},
			line: `token API_ID_TOKEN: audience is "a" and "b", production accepts "https://api.example.com"`},
		{name: "audience without a slash is another", changes: map[string]any{"aud": api + "/"},
			line: `token API_ID_TOKEN: audience is "https://api.example.com/", production accepts "https://api.example.com"`},
		{name: "subject", changes: map[string]any{"sub": "project_path:garden/shed:ref_type:branch:ref:dev"},
			line: `token API_ID_TOKEN: subject is "project_path:garden/shed:ref_type:branch:ref:dev", production accepts "project_path:garden/*:ref_type:branch:ref:main"`},
		{name: "claim", changes: map[string]any{"environment": "staging"},
			line: `token API_ID_TOKEN: claim environment is "staging", production requires "production"`},
		{name: "no claim", changes: map[string]any{"environment": nil},
			line: `token API_ID_TOKEN: claim environment is missing, production requires "production"`},
		{name: "claim as list", changes: map[string]any{"environment": []string{"x", "production"}}},
		{name: "claim of a glob", changes: map[string]any{"project_path": "farm/a/b"}},
		{name: "claim beyond a glob", changes: map[string]any{"project_path": "garden/a/b"},
			line: `token API_ID_TOKEN: claim project_path is "garden/a/b", production requires "garden/*" or "farm/**"`},
		{name: "lifetime", changes: map[string]any{"exp": second.Add(40 * time.Second)},
			line: `token API_ID_TOKEN: expires in 40s, production needs at least 10m0s`},
		{name: "expired", changes: map[string]any{"exp": second.Add(-5 * time.Minute)},
			line: `token API_ID_TOKEN: expired 5m0s ago, production needs at least 10m0s`},
		{name: "issuer", changes: map[string]any{"iss": "https://other.test"},
			line: `token API_ID_TOKEN: issuer is "https://other.test", production accepts "` + r.idp.URL + `"`},
		{name: "signature", options: []idptest.Option{idptest.WrongKey()},
			line: `token API_ID_TOKEN: signature is not that of key "rsa-1" of ` + r.idp.URL},
		{name: "not of this job", changes: map[string]any{"job_id": "1"},
			line: `token API_ID_TOKEN: claim job_id is "1", the job response says "4711": it is another job's token`},
		{name: "not yet valid", changes: map[string]any{"nbf": second.Add(time.Hour)},
			line: `token API_ID_TOKEN: is not valid before ` + stamp(second.Add(time.Hour)) + `, in 1h0m0s`},
		{name: "all at once", changes: map[string]any{"aud": "staging", "environment": "staging", "exp": second.Add(time.Minute)},
			line: `token API_ID_TOKEN: audience is "staging", production accepts "https://api.example.com"; expires in 1m0s, production needs at least 10m0s; claim environment is "staging", production requires "production"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := map[string]any{"exp": second.Add(time.Hour), "iat": second, "nbf": second} // however slow the machine
			maps.Copy(all, test.changes)
			raw := r.idp.Sign(scoped(all), test.options...)
			profile := r.production()
			profile.Tokens = []string{"API_*"} // a profile may name tokens of issuers that are not configured
			r.cfg.Profiles[0] = profile
			v := r.verifier(t)
			i, err := Establish(t.Context(), job(variable("API_ID_TOKEN", raw), variable("API_URL", api)), v)
			if err != nil {
				t.Fatal(err)
			}
			v.now = func() time.Time { return second }
			lines, err := i.CheckProfile(t.Context(), "production")
			if test.line == "" {
				if err != nil || !slices.Equal(lines, []string{"token API_ID_TOKEN: production accepts it for 1h"}) {
					t.Errorf("%q %v", lines, err)
				}
				return
			}
			refused(t, err, ErrToken, test.line, raw)
			if err != nil && err.Error() != test.line || lines != nil {
				t.Errorf("%q and error\n%v\nwant\n%s", lines, err, test.line)
			}
		})
	}
}

// Which tokens a profile is about.
func TestProfileTokens(t *testing.T) {
	r := newRig(t)
	all, some := r.production(), r.production()
	all.Name, some.Name, some.Tokens = "all", "some", []string{"API_*", "B"}
	r.cfg.Profiles = []config.TokenProfile{all, some}
	good, bad := r.idp.Sign(scoped(nil)), r.idp.Sign(scoped(map[string]any{"aud": "staging"}))
	foreign := r.idp.Sign(scoped(map[string]any{"iss": "https://other.test"}))
	for _, test := range []struct {
		name, profile string
		tokens        map[string]string
		lines         int
		line          string
	}{
		{"all good", "all", map[string]string{"A": good, "B": good, "TEXT": "x"}, 2, ""},
		{"one of all bad", "all", map[string]string{"A": good, "B": bad}, 0, `token B: audience is "staging", all accepts "https://api.example.com"`},
		{"two bad", "all", map[string]string{"A": bad, "B": bad}, 0, `production`},
		{"others' are not asked", "all", map[string]string{"A": good, "C": foreign}, 1, ""},
		{"only the named", "some", map[string]string{"A": bad, "API_X": good, "B": good}, 2, ""},
		{"named, of another issuer", "some", map[string]string{"B": foreign}, 0, `token B: issuer is "https://other.test", some accepts "` + r.idp.URL + `"`},
		{"none", "all", nil, 0, `job has no ID token for identity profile all: add one under id_tokens: in .gitlab-ci.yml, with aud: "https://api.example.com"`},
		{"none named", "some", map[string]string{"A": good}, 0, `job has no ID token "API_*" or "B", which identity profile some is about: add it under id_tokens: in .gitlab-ci.yml, with aud: "https://api.example.com"`},
		{"a text", "some", map[string]string{"B": "x"}, 0, `job has no ID token "API_*" or "B"`},
		{"unknown", "prod", map[string]string{"A": good}, 0, `no identity profile is called "prod": this runner has all, some`},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := job()
			for name, raw := range test.tokens {
				j.Variables = append(j.Variables, variable(name, raw))
			}
			i, err := Establish(t.Context(), j, r.verifier(t))
			if err != nil {
				t.Fatal(err)
			}
			lines, err := i.CheckProfile(t.Context(), test.profile)
			if len(lines) != test.lines || !slices.IsSorted(lines) {
				t.Errorf("%q", lines)
			}
			switch {
			case test.line == "" && err != nil:
				t.Error(err)
			case test.line != "" && test.name == "two bad":
				refused(t, err, ErrToken, `token A: audience is "staging", all accepts "https://api.example.com"; token B: audience is`, bad)
			case test.line != "":
				refused(t, err, ErrToken, test.line, good)
			}
		})
	}
	r.idp.Down(true)
	r.cache = t.TempDir()
	i, err := Establish(t.Context(), job(variable("A", good)), r.verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = i.CheckProfile(t.Context(), "all")
	refused(t, err, ErrIssuer, "token A: cannot be verified", good)
}

func TestCheck(t *testing.T) {
	r := newRig(t)
	token, err := r.verifier(t).Verify(t.Context(), "A", r.idp.Sign(scoped(nil)))
	if err != nil {
		t.Fatal(err)
	}
	p := r.production()
	if err := Check(p, token, time.Now()); err != nil {
		t.Error(err)
	}
	if err := Check(p, token, token.Expires); !errors.Is(err, ErrToken) {
		t.Error("a token is not good when it expires:", err)
	}
	p.MinLifetime = 0
	if err := Check(p, token, token.Expires); !errors.Is(err, ErrToken) {
		t.Error("nor where no lifetime is required:", err)
	}
	p.Issuer = "https://other.test"
	if err := Check(p, token, time.Now()); err == nil || err.Error() != `token A: issuer is "`+r.idp.URL+`", production accepts "https://other.test"` {
		t.Error(err)
	}
}

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		58*time.Minute + 59*time.Second: "58m", time.Hour: "1h", 90 * time.Minute: "1h30m", 10 * time.Hour: "10h", 10 * time.Minute: "10m",
		100*time.Hour + time.Second: "100h", 40500 * time.Millisecond: "40s", time.Hour + 10*time.Minute: "1h10m",
	} {
		if got := short(d); got != want {
			t.Errorf("%s is %q, want %q", d, got, want)
		}
	}
}
