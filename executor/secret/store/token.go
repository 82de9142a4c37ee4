package store

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// minHMAC is the least length of an HS256 key, in bytes (RFC 7518, section
// 3.2).
const minHMAC = 32

// ours are the claims that the store sets itself (RFC 7519, section 4.1).
var ours = []string{"exp", "iat", "jti"}

// tokenData is what templates in claims see: {{.Name}} is the secret's.
type tokenData struct{ Name string }

// jobTokenData is what they see when each job has its own token.
type jobTokenData struct {
	Name    string
	Job     string // the job's number
	Project string // its path
	Room    string
}

func (g *Generator) checkToken() error {
	if !nameRE().MatchString(g.Key) {
		return fmt.Errorf("%w: a token needs the name of the secret whose key signs it", ErrInput)
	}
	if g.Lifetime < 0 || g.Lifetime > maxGrace {
		return fmt.Errorf("%w: lifetime %s must be from 0 to ten years", ErrInput, g.Lifetime)
	}
	claims, err := g.claims()
	if err != nil {
		return err
	}
	for _, name := range ours {
		if _, ok := claims[name]; ok {
			return fmt.Errorf("%w: the claim %s is set by the store: leave it out", ErrInput, name)
		}
	}
	_, err = expand(map[string]any(claims), nil)
	return err
}

func (g *Generator) claims() (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(g.Claims))
	d.UseNumber()
	var claims map[string]any
	if err := d.Decode(&claims); err != nil || claims == nil || d.More() {
		return nil, fmt.Errorf(`%w: claims must be one JSON object, like {"sub": "{{.Project}}"}`, ErrInput)
	}
	return claims, nil
}

// expand runs every string of a claim as a template. They are run one by one,
// after the JSON was read, so that nothing in a project's path can become
// another claim. Without data the templates are only parsed.
func expand(v any, data any) (any, error) {
	switch v := v.(type) {
	case string:
		t, err := template.New("claim").Option("missingkey=error").Parse(v)
		if err != nil {
			return nil, fmt.Errorf("%w: claim %q is no template: %w", ErrInput, v, err)
		}
		if data == nil {
			return nil, nil
		}
		var out strings.Builder
		if err := t.Execute(&out, data); err != nil {
			return nil, fmt.Errorf("%w: claim %q: it can use .Name, and .Job .Project .Room where each job has its own token", ErrInput, v)
		}
		return out.String(), nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = expand(v[i], data); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			var err error
			if out[name], err = expand(v[name], data); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	return v, nil
}

// token signs the claims with the fields of a stored key. The token is good
// until the lifetime is over, or until, whichever comes first.
func (g *Generator) token(name string, key map[string]string, h holder, until, now time.Time) (value, error) {
	claims, err := g.claims()
	if err != nil {
		return value{}, err
	}
	var data any = tokenData{name}
	if h.own {
		data = jobTokenData{name, strconv.FormatInt(h.ID, 10), h.Project, h.Room}
	}
	expanded, err := expand(map[string]any(claims), data)
	if err != nil {
		return value{}, err
	}
	end := until
	if limit := now.Add(g.Lifetime); g.Lifetime > 0 && (end.IsZero() || limit.Before(end)) {
		end = limit
	}
	end = end.UTC().Truncate(time.Second) // as exp has it
	all := expanded.(map[string]any)
	all["iat"], all["exp"], all["jti"] = now.Unix(), end.Unix(), rand.Text()
	payload, err := json.Marshal(all)
	if err != nil {
		return value{}, err
	}
	signer, err := signer(key)
	if err != nil {
		return value{}, fmt.Errorf("key %s: %w", g.Key, err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return value{}, fmt.Errorf("key %s cannot sign", g.Key)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return value{}, err
	}
	return value{fields: map[string]string{"token": text}, goodUntil: end}, nil
}

// signer chooses the algorithm by the key, so that no two can be confused.
func signer(fields map[string]string) (jose.Signer, error) {
	var key any
	var algorithm jose.SignatureAlgorithm
	opts := (&jose.SignerOptions{}).WithType("JWT")
	text, isPair := fields["private_key"]
	if !isPair {
		value := fields["value"]
		if len(fields) != 1 || len(value) < minHMAC {
			return nil, fmt.Errorf("%w: it is neither a key pair nor a single value of at least %d bytes", ErrInput, minHMAC)
		}
		key, algorithm = []byte(value), jose.HS256
	} else {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("%w: its private_key is no PEM", ErrInput)
		}
		var err error
		if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			return nil, fmt.Errorf("%w: its private_key is no PKCS #8 key", ErrInput)
		}
		switch k := key.(type) {
		case ed25519.PrivateKey:
			algorithm = jose.EdDSA
		case *rsa.PrivateKey:
			algorithm = jose.RS256
		case *ecdsa.PrivateKey:
			if k.Curve != elliptic.P256() {
				return nil, fmt.Errorf("%w: its private_key must be on the curve P-256", ErrInput)
			}
			algorithm = jose.ES256
		default:
			return nil, fmt.Errorf("%w: its private_key must be Ed25519, RSA or P-256", ErrInput)
		}
		// The thumbprint of RFC 7638 lets who verifies choose among old and
		// new keys.
		public := jose.JSONWebKey{Key: key.(crypto.Signer).Public()}
		print, err := public.Thumbprint(crypto.SHA256)
		if err != nil {
			return nil, fmt.Errorf("%w: its private_key has no thumbprint", ErrInput)
		}
		opts = opts.WithHeader("kid", base64.RawURLEncoding.EncodeToString(print))
	}
	return jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, opts)
}
