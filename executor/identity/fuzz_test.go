package identity

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cleanroom/config"
)

// Whatever a job puts into a variable: no panic, no token without a good
// signature, and one line that holds nothing of it.
func FuzzVerify(f *testing.F) {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	const payload = `{"iss":"https://gitlab.test","aud":"https://cleanroom.test","exp":4000000000,"job_id":"4711"}`
	for _, header := range []string{
		`{"alg":"RS256","kid":"rsa-1"}`, `{"alg":"none","kid":"rsa-1"}`, `{"alg":"HS256","kid":"rsa-1"}`, `{"alg":"RS256"}`,
		`{"alg":"RS256","kid":"rsa-1","alg":"none"}`, `{"alg":"RS256","kid":"rsa-1","crit":["b64"],"b64":false}`, `{"alg":["RS256"],"kid":{}}`,
		`{"alg":"RS256","kid":"rsa-1","jwk":{"kty":"oct","k":"AA"}}`,
	} {
		f.Add(part(header) + "." + part(payload) + "." + part("hunter2hunter2"))
	}
	f.Add(part(`{"alg":"RS256","kid":"rsa-1"}`) + "." + part(`{"iss":7,"aud":[7]}`) + ".")
	f.Add("..")
	f.Add("a.b.c")
	f.Add(`{"payload":"e30","signatures":[]}`)
	v, err := NewVerifier(config.Identity{Issuers: []config.Issuer{{URL: "https://gitlab.test", Audience: audience, KeysMaxAge: time.Hour}}}, "")
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1800000000, 0)
	v.now = func() time.Time { return now }
	i := v.issuers[0]
	set := []byte(fuzzKeys)
	keys, err := parseKeys(set, i.algorithms)
	if err != nil {
		f.Fatal(err)
	}
	// Asked just now: no network is asked.
	if err := i.cache.save(&entry{Issuer: i.URL, Fetched: now, Asked: now, Keys: set, keys: keys}); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		token, err := v.Verify(t.Context(), "T", raw)
		if token != nil || err == nil || !errors.Is(err, ErrToken) {
			t.Fatalf("%+v %v", token, err)
		}
		if strings.ContainsAny(err.Error(), "\n\r\x1b") || len(err.Error()) > 1000 {
			t.Errorf("%q", err)
		}
		j := job(variable("T", raw))
		if id, err := Establish(t.Context(), j, v); err == nil {
			if len(id.Facts) != len(FromJob(j)) {
				t.Errorf("facts of %q", raw)
			}
			if text, err := id.Token(t.Context(), "T"); err == nil || text != "" {
				t.Errorf("%q is given out", raw)
			}
		}
	})
}

// Whatever stands on the disk: an entry that can be used, or none.
func FuzzParseEntry(f *testing.F) {
	now := time.Unix(1800000000, 0)
	const head = `{"issuer":"https://gitlab.test","fetched":"2026-11-23T00:00:00Z","asked":"2026-11-23T00:00:00Z","keys":`
	f.Add([]byte(head + fuzzKeys + "}"))
	f.Add([]byte(head + `{"keys":[{"kty":"oct","kid":"x","k":"AAAA","alg":"HS256"}]}}`))
	f.Add([]byte(head + `null}`))
	f.Add([]byte(head + `{"keys":[{"kty":"RSA","kid":"x","n":"AQAB","e":"AQAB","x5c":["AAAA"]}]}}`))
	f.Add([]byte(`{"issuer":"https://gitlab.test","fetched":"9999-01-01T00:00:00Z","keys":` + fuzzKeys + `}`))
	f.Add([]byte("\x00"))
	i, err := newIssuer(config.Issuer{URL: "https://gitlab.test", Algorithms: []string{"RS256", "ES256", "EdDSA"}}, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := i.parseEntry(data, now)
		if e == nil {
			return
		}
		if e.Issuer != i.URL || e.Fetched.After(now) || len(e.keys) == 0 {
			t.Errorf("%+v", e)
		}
		usable(t, e.keys)
		if err := i.cache.save(e); err != nil || i.cache.load(now) == nil {
			t.Error("what was loaded cannot be kept:", err)
		}
	})
}

// Whatever an issuer answers: public keys for signatures, or an error.
func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(fuzzKeys))
	f.Add([]byte(`{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"x","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`))
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"x","x":"AA","y":"AA"}]}`))
	f.Add([]byte(`{"keys":{}}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseKeys(data, algorithms)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		usable(t, keys)
	})
}

func usable(t *testing.T, keys []jose.JSONWebKey) {
	for _, k := range keys {
		if k.KeyID == "" || !k.IsPublic() || !k.Valid() {
			t.Errorf("%+v", k)
		}
		if _, symmetric := k.Key.([]byte); symmetric {
			t.Error("a shared secret among public keys")
		}
	}
}

// fuzzKeys is a key set whose private key nobody has.
const fuzzKeys = `{"keys":[{"use":"sig","kty":"RSA","kid":"rsa-1","alg":"RS256","n":"qakRZvAim5sSul-Wzal5VRlz71ML1KjJhzlo8S5Muwc_O900FELekRmIuJgOERyYFTgDZ9wlppFql2xyhwFGPV05_E0l1xM_nnuKJwccwN5aLdXC2syfnH_JufBP-mIz0JRlBGogIVooLegsAZlJ7iIKyOHzP0rbIZII5w5jwkVoTKaOI0RVpn606UH3d228Fv9I6af7FWvFzE32oiUnqrlxPp8wdHXxtiQMjI-9Nq0q1sVp0nBCyGtx42D2ZBShPkLoQD3X1y5WihmXuVy7Qk6CQCAkOmmcCm5Tgr_6MM0p9Wk0nT9uZfZ-dULPBkR_uc8k8yNNFluxDJIRH_WF4Q","e":"AQAB"}]}`
