package identity

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"cleanroom/config"
)

// algorithms that a configuration may name: signatures by a private key. none
// and HS* are not among them and never will be.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Verifier verifies ID tokens of the configured issuers. It may be used by
// several goroutines at once.
type Verifier struct {
	// Timeout bounds one reading of an issuer's keys, discovery included.
	Timeout time.Duration

	issuers  []*issuer
	profiles []config.TokenProfile
	now      func() time.Time
}

// NewVerifier reads no network. cacheDir, which it makes, holds the issuers'
// public keys, for all processes; empty keeps them in memory only. Errors say
// what is wrong with the configuration or the folder.
func NewVerifier(cfg config.Identity, cacheDir string) (*Verifier, error) {
	v := &Verifier{Timeout: 5 * time.Second, profiles: cfg.Profiles, now: time.Now}
	for _, c := range cfg.Issuers {
		u, err := url.Parse(c.URL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
			return nil, fmt.Errorf("identity.issuer: url %s must be one like https://gitlab.example.com", shown(c.URL))
		}
		if v.issuer(c.URL) != nil {
			return nil, fmt.Errorf("identity.issuer: url %s is there twice", shown(c.URL))
		}
		i, err := newIssuer(c, cacheDir)
		if err != nil {
			return nil, fmt.Errorf("identity.issuer %s: %w", c.URL, err)
		}
		v.issuers = append(v.issuers, i)
	}
	return v, nil
}

// closed is the list of algorithms that an issuer may sign with.
func closed(names []string) ([]jose.SignatureAlgorithm, error) {
	if len(names) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}, nil
	}
	var list []jose.SignatureAlgorithm
	for _, name := range names {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(name)) {
			return nil, fmt.Errorf("algorithms: %s cannot be used: choose from %s", shown(name), join(algorithms))
		}
		list = append(list, jose.SignatureAlgorithm(name))
	}
	return list, nil
}

func join(list []jose.SignatureAlgorithm) string {
	var names []string
	for _, a := range list {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// issuer finds one, by its URL to the letter.
func (v *Verifier) issuer(url string) *issuer {
	for _, i := range v.issuers {
		if i.URL == url {
			return i
		}
	}
	return nil
}

// urls of all issuers.
func (v *Verifier) urls() []string {
	var all []string
	for _, i := range v.issuers {
		all = append(all, i.URL)
	}
	return all
}

// Verify verifies a token: its size, that its issuer is a configured one, its
// signature by a key of that issuer, and its times (RFC 7519; exp is
// required). Whose job and whose audience it is, is not asked here. variable
// is only a name for it. Errors wrap ErrToken, or ErrIssuer when nobody can
// tell; none holds any of the token but its claims and header fields.
func (v *Verifier) Verify(ctx context.Context, variable, raw string) (*Token, error) {
	t, err := v.signed(ctx, variable, raw)
	if err != nil {
		return nil, err
	}
	if err := t.timely(v.now(), v.issuer(t.Issuer).Skew); err != nil {
		return nil, err
	}
	return t, nil
}

// signed verifies all but the times, so that a profile can name all that is
// wrong with a token and not just that it has expired.
func (v *Verifier) signed(ctx context.Context, variable, raw string) (*Token, error) {
	if len(raw) > MaxToken {
		return nil, refuse(ErrToken, variable, "has %d bytes, more than the %d that an ID token may have", len(raw), MaxToken)
	}
	u, ok := peek(raw)
	if !ok {
		return nil, refuse(ErrToken, variable, "is no ID token: it is not shaped like a JWT")
	}
	i := v.issuer(u.issuer)
	if i == nil {
		return nil, refuse(ErrToken, variable, "issuer is %s, this runner accepts %s", shown(u.issuer), anyOf(v.urls(), "or"))
	}
	if !slices.Contains(i.algorithms, jose.SignatureAlgorithm(u.algorithm)) {
		return nil, refuse(ErrToken, variable, "is signed with %s, this runner accepts %s", shown(u.algorithm), join(i.algorithms))
	}
	if u.kid == "" {
		return nil, refuse(ErrToken, variable, "does not name the key that signed it (kid)")
	}
	keys := &keySet{v: v, issuer: i, variable: variable}
	id, err := oidc.NewVerifier(i.URL, keys, &oidc.Config{
		SupportedSigningAlgs: strings.Split(join(i.algorithms), ", "),
		SkipClientIDCheck:    true, // whoever calls asks for an audience
		SkipExpiryCheck:      true, // timely: go-oidc's skew is not ours
	}).Verify(ctx, raw)
	if keys.err != nil {
		return nil, keys.err
	}
	if err != nil { // its words may quote the token
		return nil, refuse(ErrToken, variable, "cannot be read: header or claims are malformed")
	}
	t := &Token{Variable: variable, Issuer: id.Issuer, Subject: id.Subject, Audience: id.Audience}
	if !t.decode(keys.payload) {
		return nil, refuse(ErrToken, variable, "cannot be read: claims are malformed")
	}
	if t.Expires.IsZero() {
		return nil, refuse(ErrToken, variable, "has no expiry (exp)")
	}
	return t, nil
}

// keySet verifies one token. go-oidc hands on an error's text only: the
// error itself, and the payload, wait here.
type keySet struct {
	v        *Verifier
	issuer   *issuer
	variable string

	payload []byte
	err     error
}

// VerifySignature is what oidc.KeySet asks for.
func (k *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	k.payload, k.err = k.verify(ctx, raw)
	return k.payload, k.err
}

func (k *keySet) verify(ctx context.Context, raw string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(raw, k.issuer.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, refuse(ErrToken, k.variable, "cannot be read: header is malformed")
	}
	kid := jws.Signatures[0].Protected.KeyID
	found, read, err := k.issuer.keys(ctx, kid, k.v.Timeout, k.v.now)
	if err != nil {
		return nil, &finding{ErrIssuer, fmt.Sprintf("token %s: cannot be verified: %s", label(k.variable), err), err}
	}
	if len(found) == 0 {
		return nil, refuse(ErrToken, k.variable, "is signed by key %s, which is not among those of %s (read %s ago)",
			shown(kid), k.issuer.URL, seconds(k.v.now().Sub(read)))
	}
	for _, key := range found {
		if key.Algorithm != "" && key.Algorithm != jws.Signatures[0].Protected.Algorithm {
			continue // RFC 7517, section 4.4: a key is for its own algorithm
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, refuse(ErrToken, k.variable, "signature is not that of key %s of %s", shown(kid), k.issuer.URL)
}
