package identity

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxAnswer bounds what is read of an issuer's answer, in bytes.
const maxAnswer = 1 << 20

// fetch reads the issuer's keys from the network.
func (i *issuer) fetch(ctx context.Context) (json.RawMessage, []jose.JSONWebKey, error) {
	from := i.JWKSURL
	if from == "" {
		var err error
		if from, err = i.discover(ctx); err != nil {
			return nil, nil, err
		}
	}
	data, err := i.get(ctx, from)
	if err != nil {
		return nil, nil, err
	}
	keys, err := parseKeys(data, i.algorithms)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", from, err)
	}
	return data, keys, nil
}

// discover finds the address of the keys (OpenID Connect Discovery 1.0,
// section 4; section 4.3: the document must name the very issuer).
func (i *issuer) discover(ctx context.Context) (string, error) {
	at := strings.TrimSuffix(i.URL, "/") + "/.well-known/openid-configuration"
	data, err := i.get(ctx, at)
	if err != nil {
		return "", err
	}
	var document struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	switch {
	case json.Unmarshal(data, &document) != nil:
		return "", fmt.Errorf("%s holds no JSON of a discovery document", at)
	case document.Issuer != i.URL:
		return "", fmt.Errorf("%s is of issuer %s: correct identity.issuer's url", at, shown(document.Issuer))
	case document.JWKSURI == "":
		return "", fmt.Errorf("%s names no jwks_uri: set identity.issuer's jwks_url", at)
	case strings.HasPrefix(i.URL, "https:") && !strings.HasPrefix(document.JWKSURI, "https:"):
		return "", fmt.Errorf("%s names a jwks_uri that is not https", at)
	}
	return document.JWKSURI, nil
}

func (i *issuer) get(ctx context.Context, from string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, errors.New("its address is no URL")
	}
	r.Header.Set("Accept", "application/json")
	answer, err := i.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers with status %d", from, answer.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", from, err)
	case len(data) > maxAnswer:
		return nil, fmt.Errorf("%s answers with more than %d bytes", from, maxAnswer)
	}
	return data, nil
}

// parseKeys reads a key set (RFC 7517, section 5). A key that is not ours to
// use (another type, for encryption, without a name, too short, private) is
// passed over, as that section says; without any that is ours there is an
// error.
func parseKeys(data []byte, algorithms []jose.SignatureAlgorithm) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(data, &set) != nil {
		return nil, errors.New("it is no JSON of a key set")
	}
	var keys []jose.JSONWebKey
	for _, one := range set.Keys {
		var k jose.JSONWebKey
		if json.Unmarshal(one, &k) != nil || k.KeyID == "" || k.Use != "" && k.Use != "sig" || !k.Valid() || !k.IsPublic() {
			continue
		}
		if k.Algorithm != "" && !slices.Contains(algorithms, jose.SignatureAlgorithm(k.Algorithm)) {
			continue
		}
		if r, ok := k.Key.(*rsa.PublicKey); ok && r.N.BitLen() < 2048 { // RFC 7518, section 3.3
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("it holds no public key for %s", join(algorithms))
	}
	return keys, nil
}
