package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cleanroom/executor/secret"
)

// verify is what an app does with a token: its claims, if the key signed it.
func verify(t *testing.T, token string, key any, algorithm jose.SignatureAlgorithm) (map[string]any, error) {
	t.Helper()
	signed, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{algorithm})
	if err != nil {
		t.Fatal(err)
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, err
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	return claims, nil
}

func public(t *testing.T, text string) any {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Two successive jobs get different keys, and what was signed in the first is
// refused with the key of the second. The token that a job gets fits the key
// that it gets, whichever it asks for first.
func TestTokensPerJob(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "jwt-key", rotating(t, random(), "job", 0))
	set(t, s, "token", rotating(t, &Generator{Kind: JWT, Key: "jwt-key", Claims: []byte(`{"sub": "{{.Project}}"}`)}, "job", 0))
	var keys, tokens []string
	for i, order := range [][]string{{"jwt-key", "token"}, {"token", "jwt-key"}} {
		room := []string{"cr-a", "cr-b"}[i]
		var leases []secret.Lease
		for _, name := range order {
			got := fetch(t, s, request(name, room, &leases)).Fields
			if name == "token" {
				tokens = append(tokens, got["token"])
			} else {
				keys = append(keys, got["value"])
			}
		}
		if claims, err := verify(t, tokens[i], []byte(keys[i]), jose.HS256); err != nil || claims["sub"] != "group/app" {
			t.Errorf("job %d: %v, %v", i, claims, err)
		}
		for _, l := range leases { // the job is over
			if err := s.Revoke(t.Context(), l); err != nil && !errors.Is(err, secret.ErrNotRevocable) {
				t.Error(err)
			}
		}
	}
	if _, err := verify(t, tokens[0], []byte(keys[1]), jose.HS256); !errors.Is(err, jose.ErrCryptoFailure) {
		t.Errorf("the second job takes the first one's token: %v", err)
	}
	doc, err := s.load()
	if err != nil {
		t.Fatal(err)
	}
	for name, e := range doc.Secrets {
		for _, v := range e.Versions {
			if v.State != Destroyed {
				t.Errorf("%s@%d is %s after its job", name, v.Number, v.State)
			}
		}
	}
}

func TestTokenClaims(t *testing.T) {
	s, c := in(t, t.TempDir())
	set(t, s, "ed", rotating(t, &Generator{Kind: Ed25519}, "24h", time.Hour))
	set(t, s, "rsa", rotating(t, &Generator{Kind: RSA, Bits: 2048}, "never", 0))
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, "ec", Change{Fields: map[string]string{"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}})
	pub := func(name string) any { return public(t, fetch(t, s, request(name, "cr-a", nil)).Fields["public_key"]) }
	const claims = `{"iss": "ci", "sub": "{{.Project}}", "n": 12345678901234567890, "aud": ["{{.Name}}", "x"], "ctx": {"job": "{{.Job}}", "room": "{{.Room}}", "on": true}}`
	tests := []struct {
		key, rotate string
		claims      string
		lifetime    time.Duration
		public      any
		algorithm   jose.SignatureAlgorithm
		exp         time.Time
	}{
		{"ed", "job", claims, 0, pub("ed"), jose.EdDSA, epoch.Add(2 * time.Hour)}, // with the job
		{"ed", "job", claims, time.Hour, pub("ed"), jose.EdDSA, epoch.Add(time.Hour)},
		{"ed", "job", claims, 99 * time.Hour, pub("ed"), jose.EdDSA, epoch.Add(2 * time.Hour)},
		{"rsa", "24h", `{"sub": "{{.Name}}"}`, 0, pub("rsa"), jose.RS256, epoch.Add(30 * time.Hour)}, // and 6h of grace
		{"ec", "never", `{}`, time.Hour, private.Public(), jose.ES256, epoch.Add(time.Hour)},
	}
	for _, test := range tests {
		t.Run(test.key+" "+test.rotate, func(t *testing.T) {
			defer s.Remove(t.Context(), "token")
			set(t, s, "token", rotating(t, &Generator{Kind: JWT, Key: test.key, Claims: []byte(test.claims), Lifetime: test.lifetime}, test.rotate, 6*time.Hour))
			// A project's path is its owner's to choose, and stays one claim.
			r := request("token", "cr-a", nil)
			r.Job.Project = `a","admin":true,"x":"{{.Room}}`
			got := fetch(t, s, r)
			all, err := verify(t, got.Fields["token"], test.public, test.algorithm)
			if err != nil {
				t.Fatal(err)
			}
			if !got.Expires.Equal(test.exp) || all["exp"] != float64(test.exp.Unix()) || all["iat"] != float64(epoch.Unix()) || len(all["jti"].(string)) < 26 || all["admin"] != nil {
				t.Errorf("expires %s: %v", got.Expires, all)
			}
			if test.rotate == "job" {
				ctx := all["ctx"].(map[string]any)
				if all["sub"] != r.Job.Project || ctx["job"] != "7" || ctx["room"] != "cr-a" || ctx["on"] != true || all["aud"].([]any)[0] != "token" {
					t.Errorf("claims %v", all)
				}
			}
			if test.rotate == "never" {
				c.pass(time.Hour)
				defer c.pass(-time.Hour)
				if _, err := s.Fetch(t.Context(), r); !errors.Is(err, secret.ErrRefused) {
					t.Errorf("an expired token was given: %v", err)
				}
			}
		})
	}
	// A token holds beyond its revocation, and its lease says until when.
	set(t, s, "token", rotating(t, &Generator{Kind: JWT, Key: "ed", Claims: []byte(`{}`), Lifetime: time.Hour}, "job", 0))
	var leases []secret.Lease
	fetch(t, s, request("token", "cr-z", &leases))
	if err := s.Revoke(t.Context(), leases[0]); !errors.Is(err, secret.ErrNotRevocable) || !leases[0].Expires.Equal(epoch.Add(time.Hour)) {
		t.Errorf("%v, lease %+v", err, leases[0])
	}
	if got := states(t, s, "token"); len(got) != 1 || got[0] != Destroyed {
		t.Errorf("states %v", got)
	}
}

func TestKeysThatCannotSign(t *testing.T) {
	s, _ := in(t, t.TempDir())
	for name, fields := range map[string]map[string]string{
		"short": {"value": "hunter2-hunter2-hunter2-hunter2"}, // 31 bytes
		"two":   {"a": "hunter2", "b": "hunter2"},
		"pem":   {"private_key": "hunter2"},
		"pkcs8": {"private_key": "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n"},
	} {
		set(t, s, name, Change{Fields: fields})
		_, err := s.Set(t.Context(), "token", rotating(t, &Generator{Kind: JWT, Key: name, Claims: []byte(`{}`)}, "24h", 0))
		if !errors.Is(err, ErrInput) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && containsAny(err.Error(), "hunter2", "aHVudGVyMg") {
			t.Errorf("%s: error %q", name, err)
		}
	}
}
