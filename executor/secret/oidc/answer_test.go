package oidc

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"cleanroom/executor/https"
)

func TestExpires(t *testing.T) {
	asked := time.Unix(1_800_000_000, 0)
	jwt := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	for _, test := range []struct {
		body string
		want int64 // seconds after asked; 0: not known
	}{
		{`{"access_token": "x", "expires_in": 3600}`, 3600},
		{`{"access_token": "x", "expires_in": "3600"}`, 3600},
		{`{"access_token": "x", "expires_in": 3600.9}`, 3600},
		{`{"access_token": "x", "expires_in": null}`, 0},
		{`{"access_token": "x"}`, 0},
		{`{"access_token": "x.y.z"}`, 0},
		{`{"access_token": "` + jwt(`{"exp": 1800000060}`) + `"}`, 60},
		{`{"access_token": "` + jwt(`{"exp": 1800000060}`) + `", "expires_in": 30}`, 30},
		{`{"access_token": "` + jwt(`{"exp": "soon"}`) + `"}`, 0},
		{`{"access_token": "` + jwt(`{"exp": 1e300}`) + `"}`, 0},
		{`{"access_token": "` + jwt(`{"exp": -5}`) + `"}`, 0},
	} {
		a, err := parseAnswer([]byte(test.body))
		if err != nil {
			t.Errorf("%s: %v", test.body, err)
			continue
		}
		if got := a.expires(asked); got.IsZero() != (test.want == 0) || !got.IsZero() && got.Unix() != asked.Unix()+test.want {
			t.Errorf("%s: %v", test.body, got)
		}
	}
	for _, n := range []string{"-1", "1e30", `"x"`, "[]", "true"} {
		if _, err := parseAnswer([]byte(`{"access_token": "x", "expires_in": ` + n + `}`)); err == nil {
			t.Errorf("expires_in %s is taken", n)
		}
	}
}

func TestDiscovery(t *testing.T) {
	const issuer = "https://id.example.com"
	for _, test := range []struct{ body, want string }{
		{`{"issuer": "https://id.example.com", "token_endpoint": "https://api.example.com/token"}`, ""},
		{`{"issuer": "https://evil.example.com", "token_endpoint": "https://api.example.com/token"}`, `of the issuer "https://evil.example.com"`},
		{`{"issuer": "https://id.example.com/", "token_endpoint": "https://api.example.com/token"}`, "write oidc.issuer like that"},
		{`{"issuer": "https://id.example.com", "token_endpoint": "http://id.example.com/token"}`, "token_endpoint"},
		{`{"issuer": "https://id.example.com", "revocation_endpoint": "http://id.example.com/revoke"}`, "revocation_endpoint"},
		{`{"issuer": "https://id.example.com", "introspection_endpoint": "file:///etc/passwd"}`, "introspection_endpoint"},
		{`{"issuer": 7}`, "not the JSON"},
		{`<html>`, "not the JSON"},
		{``, "not the JSON"},
	} {
		e, err := parseDiscovery([]byte(test.body), issuer)
		if (err == nil) != (test.want == "") || (e == nil) != (err != nil) || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", test.body, err)
		}
	}
}

func line(t *testing.T, err error) {
	t.Helper()
	if text := err.Error(); text == "" || len(text) > 1000 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("%q", text)
	}
}

// Whatever a token endpoint says: a token that can stand in a header, or one
// line with nothing of it.
func FuzzAnswer(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := parseAnswer(body)
		if err != nil {
			line(t, err)
			if a != nil {
				t.Error("an answer and an error")
			}
			return
		}
		fields := a.fields()
		for _, name := range []string{"access_token", "id_token"} {
			if strings.ContainsAny(fields[name], "\r\n\x00") {
				t.Errorf("%q", fields[name])
			}
		}
		asked := time.Unix(1_800_000_000, 0)
		if fields["access_token"] == "" || !a.expires(asked).IsZero() && a.expires(asked).Year() > 2200 {
			t.Errorf("%v %v", fields, a.expires(asked))
		}
	})
}

// Whatever is said of an error: one line, without what was sent.
func FuzzFault(f *testing.F) {
	f.Fuzz(func(t *testing.T, status int, body []byte, sent string) {
		fault := parseFault(status, body, []string{sent})
		line(t, fault)
		// Our own [hidden] may be what is looked for.
		if len(sent) >= 8 && !strings.ContainsAny(sent, "[]") && (strings.Contains(fault.words, sent) || strings.Contains(fault.code, sent)) {
			t.Errorf("%q shows %q", fault, sent)
		}
	})
}

// Whatever a discovery document says: nobody is sent to an endpoint in the
// clear.
func FuzzDiscovery(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, issuer string) {
		e, err := parseDiscovery(body, issuer)
		if err != nil {
			line(t, err)
			return
		}
		for _, url := range []string{e.Token, e.Revoke, e.Introspect} {
			if url != "" && !strings.HasPrefix(strings.ToLower(url), "https://") && https.CheckURL(url) != nil {
				t.Errorf("%q", url)
			}
		}
	})
}

func FuzzIntrospection(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte) {
		if active, err := parseIntrospection(body); err != nil {
			line(t, err)
		} else if !strings.Contains(string(body), fmt.Sprint(active)) {
			t.Errorf("active %v", active)
		}
	})
}
