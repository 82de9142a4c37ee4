package idptest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// key is what signs at one time: one key for each algorithm.
type key struct {
	name string // the kids are rsa-NAME and ec-NAME
	rsa  *rsa.PrivateKey
	ec   *ecdsa.PrivateKey
}

func newKey(name string) key {
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err) // no entropy: nothing can be tested
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key{name, r, e}
}

// RotateKeys signs with new keys (kid rsa-2 and ec-2 after rsa-1 and ec-1).
// The old ones stay in the key set, as they do at GitLab, until
// WithdrawOldKeys.
func (p *Provider) RotateKeys() {
	p.mu.Lock()
	p.rotations++
	name := strconv.Itoa(p.rotations)
	p.mu.Unlock()
	k := newKey(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keys = append(p.keys, k)
	p.published++
}

// WithdrawOldKeys takes all but the newest keys out of the key set.
func (p *Provider) WithdrawOldKeys() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published = 1
}

// KeySet is the key set (RFC 7517) as JSON.
func (p *Provider) KeySet() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var set jose.JSONWebKeySet
	for _, k := range p.keys[len(p.keys)-p.published:] {
		set.Keys = append(set.Keys,
			jose.JSONWebKey{Key: k.rsa.Public(), KeyID: "rsa-" + k.name, Use: "sig", Algorithm: "RS256"},
			jose.JSONWebKey{Key: k.ec.Public(), KeyID: "ec-" + k.name, Use: "sig", Algorithm: "ES256"})
	}
	data, err := json.Marshal(set)
	if err != nil {
		panic(err)
	}
	return data
}

// JobClaims are the claims of an ID token as GitLab writes them for a job of
// garden/shed on the protected branch main, without an environment.
func JobClaims(jobID, projectID int64, audience string) map[string]any {
	return map[string]any{
		"aud": audience, "sub": "project_path:garden/shed:ref_type:branch:ref:main",
		"project_id": strconv.FormatInt(projectID, 10), "project_path": "garden/shed",
		"namespace_id": "3", "namespace_path": "garden",
		"job_project_id": strconv.FormatInt(projectID, 10), "job_project_path": "garden/shed",
		"job_namespace_id": "3", "job_namespace_path": "garden",
		"user_id": "9", "user_login": "rose", "user_email": "rose@garden.test", "user_access_level": "maintainer",
		"pipeline_id": "88", "pipeline_source": "push", "job_id": strconv.FormatInt(jobID, 10),
		"ref": "main", "ref_type": "branch", "ref_path": "refs/heads/main", "ref_protected": "true",
		"runner_id": 5, "runner_environment": "self-hosted", "project_visibility": "private",
		"sha": strings.Repeat("a", 40),
	}
}

// An Option makes a token of another kind than Sign makes by itself.
type Option func(*signing)

type signing struct {
	algorithm string
	header    map[string]any
	key       *key
	payload   func(map[string]any) // after the signature was made
	old       bool
}

// ES256 signs with the elliptic curve key.
func ES256() Option { return func(s *signing) { s.algorithm = "ES256" } }

// None makes an unsigned token (alg none).
func None() Option { return func(s *signing) { s.algorithm = "none" } }

// HS256WithPublicKey uses the public key's PEM as a shared secret: what a
// verifier falls for that lets the token choose the algorithm.
func HS256WithPublicKey() Option { return func(s *signing) { s.algorithm = "HS256" } }

// Header sets a field of the token's header, whatever really signs; nil
// removes it. Header("kid", nil) names no key.
func Header(name string, value any) Option { return func(s *signing) { s.header[name] = value } }

// WrongKey signs with a key of nobody's, under the kid of the right one.
func WrongKey() Option { return func(s *signing) { k := newKey("wrong"); s.key = &k } }

// OldKey signs with the keys before the last rotation.
func OldKey() Option { return func(s *signing) { s.old = true } }

// Tampered changes claims after the signature was made.
func Tampered(change func(claims map[string]any)) Option {
	return func(s *signing) { s.payload = change }
}

// Sign makes a token (RFC 7519), signed with RS256 and the newest key. The
// claims iss, iat, nbf, exp (in an hour) and jti are filled in; a nil value
// leaves one out. A time is written as seconds.
func (p *Provider) Sign(claims map[string]any, options ...Option) string {
	p.mu.Lock()
	s := signing{algorithm: "RS256", header: map[string]any{"typ": "JWT"}}
	current := p.keys[len(p.keys)-1]
	for _, o := range options {
		o(&s)
	}
	if s.old {
		current = p.keys[len(p.keys)-2]
	}
	p.mu.Unlock()

	now := time.Now()
	all := map[string]any{
		"iss": p.URL, "iat": now.Unix(), "nbf": now.Add(-5 * time.Second).Unix(), "exp": now.Add(time.Hour).Unix(), "jti": random(),
	}
	maps.Copy(all, claims)
	clean(all)
	header := map[string]any{"alg": s.algorithm, "kid": "rsa-" + current.name}
	if s.algorithm == "ES256" {
		header["kid"] = "ec-" + current.name
	}
	maps.Copy(header, s.header)
	clean(header)
	signer := current
	if s.key != nil {
		signer = *s.key
	}
	input := part(header) + "." + part(all)
	signature := sign(s.algorithm, signer, current, []byte(input))
	if s.payload != nil {
		s.payload(all)
		clean(all)
		input = part(header) + "." + part(all)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func clean(m map[string]any) {
	for name, value := range m {
		if value == nil {
			delete(m, name)
		} else if t, ok := value.(time.Time); ok {
			m[name] = t.Unix()
		}
	}
}

func part(m map[string]any) string {
	data, err := json.Marshal(m)
	if err != nil {
		panic(err) // a test gave a claim that has no JSON
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func sign(algorithm string, k, public key, input []byte) []byte {
	sum := sha256.Sum256(input)
	switch algorithm {
	case "none":
		return nil
	case "HS256":
		der, err := x509.MarshalPKIXPublicKey(public.rsa.Public())
		if err != nil {
			panic(err)
		}
		mac := hmac.New(sha256.New, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
		mac.Write(input)
		return mac.Sum(nil)
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, k.ec, sum[:])
		if err != nil {
			panic(err)
		}
		out := make([]byte, 64) // RFC 7518, section 3.4
		r.FillBytes(out[:32])
		s.FillBytes(out[32:])
		return out
	case "RS256":
		out, err := rsa.SignPKCS1v15(rand.Reader, k.rsa, crypto.SHA256, sum[:])
		if err != nil {
			panic(err)
		}
		return out
	}
	panic(fmt.Sprintf("idptest does not sign with %q", algorithm))
}

func random() string { return rand.Text() }
