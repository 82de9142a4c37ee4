package identity

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/identity/idptest"
)

// Each token, and the line that its job gets.
func TestTokens(t *testing.T) {
	r := newRig(t)
	r.cfg.Issuers[0].Algorithms = []string{"RS256", "ES256"}
	idp, other := r.idp, idptest.New(t)
	v := r.verifier(t)
	now := time.Now()
	b64 := base64.RawURLEncoding.EncodeToString
	good := idp.Sign(claims(nil))
	parts := strings.Split(good, ".")
	for _, test := range []struct {
		name, raw, line string // no line: accepted
	}{
		{"good", good, ""},
		{"good ES256", idp.Sign(claims(nil), idptest.ES256()), ""},
		{"expired within the skew", idp.Sign(claims(map[string]any{"exp": now.Add(-10 * time.Second)})), ""},
		{"not yet valid within the skew", idp.Sign(claims(map[string]any{"nbf": now.Add(20 * time.Second)})), ""},
		{"another audience", idp.Sign(claims(map[string]any{"aud": "https://api.test"})), ""},
		{"several audiences", idp.Sign(claims(map[string]any{"aud": []string{"a", audience}})), ""},

		{"expired", idp.Sign(claims(map[string]any{"exp": now.Add(-time.Hour)})), "token T: expired 1h0m"},
		{"not yet valid", idp.Sign(claims(map[string]any{"nbf": now.Add(time.Hour)})), "token T: is not valid before 20"},
		{"from the future", idp.Sign(claims(map[string]any{"iat": now.Add(time.Hour)})), "ahead of this host's clock"},
		{"without an expiry", idp.Sign(claims(map[string]any{"exp": nil})), "token T: has no expiry (exp)"},
		{"expiry no number", idp.Sign(claims(map[string]any{"exp": "tomorrow"})), "token T: cannot be read"},
		{"expiry without end", idp.Sign(claims(map[string]any{"exp": 1e300})), "token T: cannot be read"},
		{"nbf no number", idp.Sign(claims(map[string]any{"nbf": true})), "token T: cannot be read"},
		{"alg none", idp.Sign(claims(nil), idptest.None()), `token T: is signed with "none", this runner accepts RS256, ES256`},
		{"alg NONE", idp.Sign(claims(nil), idptest.None(), idptest.Header("alg", "NONE")), `token T: is signed with "NONE"`},
		{"no alg", idp.Sign(claims(nil), idptest.Header("alg", nil)), "token T: is no ID token"},
		{"RS/HS confusion", idp.Sign(claims(nil), idptest.HS256WithPublicKey()), `token T: is signed with "HS256", this runner accepts`},
		{"HS signature called RS", idp.Sign(claims(nil), idptest.HS256WithPublicKey(), idptest.Header("alg", "RS256")), "signature is not that of key"},
		{"alg not in the list", idp.Sign(claims(nil), idptest.Header("alg", "RS512")), `token T: is signed with "RS512"`},
		{"one key's alg, another's name", idp.Sign(claims(nil), idptest.Header("kid", "ec-1")), `signature is not that of key "ec-1"`},
		{"unknown kid", idp.Sign(claims(nil), idptest.Header("kid", "x")), `token T: is signed by key "x", which is not among those of ` + idp.URL},
		{"missing kid", idp.Sign(claims(nil), idptest.Header("kid", nil)), "token T: does not name the key"},
		{"kid no text", idp.Sign(claims(nil), idptest.Header("kid", 7)), "token T: does not name the key"},
		{"its own key", idp.Sign(claims(nil), idptest.WrongKey(), idptest.Header("jwk", map[string]any{"kty": "oct", "k": "AAAA"})), "token T: "},
		{"unknown critical header", idp.Sign(claims(nil), idptest.Header("crit", []string{"b64"}), idptest.Header("b64", false)), "token T: "},
		{"wrong key", idp.Sign(claims(nil), idptest.WrongKey()), `token T: signature is not that of key "rsa-1" of ` + idp.URL},
		{"tampered", idp.Sign(claims(nil), idptest.Tampered(func(c map[string]any) { c["project_id"] = "1" })), "token T: signature is not that of key"},
		{"cut signature", good[:len(good)-8], "token T: signature is not that of key"},
		{"no signature", parts[0] + "." + parts[1] + ".", "token T: signature is not that of key"},
		{"wrong issuer", other.Sign(claims(nil)), fmt.Sprintf("token T: issuer is %q, this runner accepts %q", other.URL, idp.URL)},
		{"issuer with a slash", idp.Sign(claims(map[string]any{"iss": idp.URL + "/"})), "token T: issuer is"},
		{"issuer in capitals", idp.Sign(claims(map[string]any{"iss": strings.ToUpper(idp.URL)})), "token T: issuer is"},
		{"no issuer", idp.Sign(claims(map[string]any{"iss": nil})), `token T: issuer is ""`},
		{"another's key, our issuer", other.Sign(claims(map[string]any{"iss": idp.URL})), "token T: signature is not that of key"},
		{"oversized", idp.Sign(claims(map[string]any{"x": strings.Repeat("x", MaxToken)})), "more than the 65536 that an ID token may have"},
		{"a text", "hunter2hunter2hunter2", "token T: is no ID token"},
		{"empty", "", "token T: is no ID token"},
		{"two parts", parts[0] + "." + parts[1], "token T: is no ID token"},
		{"five parts (encrypted)", good + ".a.b", "token T: is no ID token"},
		{"JSON serialization", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, "token T: is no ID token"},
		{"a line end", good + "\n", "token T: "},
		{"claims no object", parts[0] + "." + b64([]byte("[1]")) + "." + parts[2], "token T: is no ID token"},
		{"header no object", b64([]byte("null")) + "." + parts[1] + "." + parts[2], "token T: is no ID token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			token, err := v.Verify(t.Context(), "T", test.raw)
			if test.line == "" {
				if err != nil {
					t.Fatal(err)
				}
				if project, _ := token.Claim("project_id"); project != "12" || token.Issuer != idp.URL || token.Variable != "T" {
					t.Errorf("%+v", token)
				}
				clean(t, fmt.Sprintf("%+v %#v", token, token), test.raw)
				return
			}
			if token != nil {
				t.Errorf("a token that is refused comes with %+v", token)
			}
			refused(t, err, ErrToken, test.line, test.raw)
		})
	}
}

// What cannot be configured into working.
func TestClosedAlgorithms(t *testing.T) {
	for _, algorithm := range []string{"none", "HS256", "HS384", "HS512", "", "rs256", "dir"} {
		cfg := config.Identity{Issuers: []config.Issuer{{URL: "https://gitlab.test", Algorithms: []string{"RS256", algorithm}}}}
		if _, err := NewVerifier(cfg, ""); err == nil || !strings.Contains(err.Error(), "cannot be used") {
			t.Errorf("%q: %v", algorithm, err)
		}
	}
	r := newRig(t)
	es := r.idp.Sign(claims(nil), idptest.ES256())
	_, err := r.verifier(t).Verify(t.Context(), "T", es)
	refused(t, err, ErrToken, `is signed with "ES256", this runner accepts RS256`, es)
}

func TestNewVerifier(t *testing.T) {
	for _, test := range []struct {
		issuers []config.Issuer
		line    string
	}{
		{[]config.Issuer{{URL: "gitlab.test"}}, "must be one like"},
		{[]config.Issuer{{URL: "ftp://gitlab.test"}}, "must be one like"},
		{[]config.Issuer{{URL: ""}}, "must be one like"},
		{[]config.Issuer{{URL: "https://gitlab.test"}, {URL: "https://gitlab.test"}}, "there twice"},
		{[]config.Issuer{{URL: "https://gitlab.test", CAFile: "/dev/null"}}, "holds no PEM certificate"},
		{[]config.Issuer{{URL: "https://gitlab.test", CAFile: "/none"}}, "no such file"},
	} {
		if _, err := NewVerifier(config.Identity{Issuers: test.issuers}, ""); err == nil || !strings.Contains(err.Error(), test.line) {
			t.Errorf("%+v: %v", test.issuers, err)
		}
	}
	if _, err := NewVerifier(config.Identity{Issuers: []config.Issuer{{URL: "https://gitlab.test"}}}, "/dev/null/keys"); err == nil {
		t.Error("a folder that cannot be made")
	}
}

// A job's words in a line cannot end it, or colour it.
func TestLinesStayLines(t *testing.T) {
	r := newRig(t)
	v := r.verifier(t)
	for _, raw := range []string{
		r.idp.Sign(claims(map[string]any{"iss": "https://x\n\x1b[31mforged line"})),
		r.idp.Sign(claims(nil), idptest.Header("kid", "x\n\x1b[31m"+strings.Repeat("y", 4000))),
		r.idp.Sign(claims(nil), idptest.Header("alg", "x\ny")),
	} {
		_, err := v.Verify(t.Context(), "NAME\n\x1b", raw)
		refused(t, err, ErrToken, `token "NAME\n\x1b": `, raw)
		if len(err.Error()) > 600 {
			t.Errorf("a line of %d bytes", len(err.Error()))
		}
	}
}
