package store

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"
)

func TestRandom(t *testing.T) {
	tests := map[string]struct {
		g   Generator
		set string
	}{
		"alnum":     {Generator{Alphabet: "alnum", Length: 4096}, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"},
		"hex":       {Generator{Alphabet: "hex", Length: 4096}, "0123456789abcdef"},
		"base64url": {Generator{Alphabet: "base64url", Length: 4096}, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"},
		"ascii":     {Generator{Alphabet: "ascii", Length: 4096}, "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"},
		"own":       {Generator{Characters: "ab c", Length: 4096}, "ab c"},
		"weak":      {Generator{Characters: "01", Length: 4, AllowWeak: true}, "01"},
		"64 bits":   {Generator{Alphabet: "hex", Length: 16}, "0123456789abcdef"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			g := &test.g
			g.Kind = Random
			if err := g.check(); err != nil {
				t.Fatal(err)
			}
			one, err := g.random()
			if err != nil {
				t.Fatal(err)
			}
			text := one.fields["value"]
			if len(text) != g.Length || strings.Trim(text, test.set) != "" {
				t.Errorf("%d characters, some not of the set", len(text))
			}
			if g.Length < 4096 {
				return
			}
			// Each character comes about evenly often: with modulo bias the
			// first ones would come more often by a third and more. The bounds
			// are seven deviations of a binomial distribution away.
			want := float64(g.Length) / float64(len(test.set))
			for _, c := range test.set {
				n := float64(strings.Count(text, string(c)))
				if d := n - want; d*d > 49*want+49 {
					t.Errorf("%q came %.0f times, want about %.0f", c, n, want)
				}
			}
		})
	}
}

func TestKeyPairs(t *testing.T) {
	for _, g := range []*Generator{{Kind: Ed25519}, {Kind: RSA, Bits: 2048}} {
		t.Run(string(g.Kind), func(t *testing.T) {
			if err := g.check(); err != nil {
				t.Fatal(err)
			}
			made, err := g.keyPair()
			if err != nil {
				t.Fatal(err)
			}
			private, rest := pem.Decode([]byte(made.fields["private_key"]))
			if private == nil || private.Type != "PRIVATE KEY" || len(rest) > 0 || len(made.fields) != 2 {
				t.Fatal("no PKCS #8 PEM")
			}
			key, err := x509.ParsePKCS8PrivateKey(private.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			block, _ := pem.Decode([]byte(made.fields["public_key"]))
			if block == nil || block.Type != "PUBLIC KEY" {
				t.Fatal("no public PEM")
			}
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			digest := sha256.Sum256([]byte("text"))
			switch public := public.(type) {
			case ed25519.PublicKey:
				if !ed25519.Verify(public, []byte("text"), ed25519.Sign(key.(ed25519.PrivateKey), []byte("text"))) {
					t.Error("the halves do not fit")
				}
			case *rsa.PublicKey:
				sig, err := rsa.SignPKCS1v15(rand.Reader, key.(*rsa.PrivateKey), crypto.SHA256, digest[:])
				if err != nil || rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], sig) != nil || public.N.BitLen() != g.Bits {
					t.Errorf("the halves do not fit: %v", err)
				}
			}
		})
	}
}

func TestParseRotation(t *testing.T) {
	for text, want := range map[string]string{"job": "job", "never": "never", "720h": "720h", "90m": "1h30m", "1m": "1m", "61s": "1m1s"} {
		r, err := ParseRotation(text)
		if err != nil || r.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, r, err, want)
		}
		if again, err := ParseRotation(r.String()); err != nil || again != r {
			t.Errorf("%s: reads back as %s, %v", text, again, err)
		}
	}
	for _, text := range []string{"", "0", "30", "30s", "-1h", "daily", "job ", "30d"} {
		if r, err := ParseRotation(text); err == nil {
			t.Errorf("%q: %s", text, r)
		}
	}
	if got := short(0); got != "0s" {
		t.Errorf("no time is %q", got)
	}
	if got := short(10 * time.Second); got != "10s" {
		t.Errorf("ten seconds are %q", got)
	}
}
