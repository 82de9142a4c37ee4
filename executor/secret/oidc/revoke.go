package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"cleanroom/executor/https"
	"cleanroom/executor/secret"
)

// clockSkew is how long after its expiry a token is certainly over.
const clockSkew = time.Minute

// Revoke takes the refresh token back and then the access token (RFC 7009),
// and asks the provider whether they are gone, where it answers that (RFC
// 7662). ErrNotRevocable: the provider takes back no access tokens, and this
// one is still good.
func (p *Provider) Revoke(ctx context.Context, l secret.Lease) error {
	var k kept
	if err := json.Unmarshal(l.Credential, &k); err != nil || k.AccessToken == "" || https.CheckURL(k.Revoke) != nil {
		return fmt.Errorf("the lease %s does not hold what revoking needs: revoke it at the provider", l.ID)
	}
	as, err := p.client(k.Post)
	if err != nil {
		return err
	}
	err = p.revoke(ctx, as, k)
	// Clocks are wrong at times, so the provider is asked even for a token that
	// should be over; but for that one its silence is no reason to ask for ever.
	if err != nil && !l.Expires.IsZero() && p.now().After(l.Expires.Add(clockSkew)) {
		return fmt.Errorf("%w, and should have expired at %s: %v", secret.ErrNotRevocable, l.Expires.UTC().Format(time.RFC3339), err)
	}
	return err
}

// revoke does both tokens, whatever becomes of the first.
func (p *Provider) revoke(ctx context.Context, as client, k kept) error {
	var refresh error
	if k.RefreshToken != "" {
		refresh = p.revokeOne(ctx, as, k, k.RefreshToken, "refresh_token")
	}
	access := p.revokeOne(ctx, as, k, k.AccessToken, "access_token")
	switch {
	case refresh == nil:
		return access
	case access == nil:
		return refresh
	case errors.Is(refresh, secret.ErrNotRevocable):
		// A failure may end well at another try; who reads ErrNotRevocable
		// would not try again.
		return fmt.Errorf("%w (and: %v)", access, refresh)
	}
	return fmt.Errorf("%w (and: %v)", refresh, access)
}

func (p *Provider) revokeOne(ctx context.Context, as client, k kept, token, kind string) error {
	form := url.Values{"token": {token}, "token_type_hint": {kind}}
	_, err := p.post(ctx, k.Revoke, form, as)
	var f *fault
	unsupported := errors.As(err, &f) && f.code == "unsupported_token_type"
	if err != nil && !unsupported {
		return fmt.Errorf("revocation endpoint, %s: %w", kind, err)
	}
	active, known, err := p.introspect(ctx, as, k.Introspect, form)
	switch {
	case err != nil:
		return fmt.Errorf("introspection endpoint, %s: %w", kind, err)
	case known && !active:
		return nil // an access token goes with its refresh token at many providers
	case unsupported:
		return fmt.Errorf("%w: the provider takes back no %s", secret.ErrNotRevocable, kind)
	case active:
		return fmt.Errorf("the provider says that the %s is good after its revocation: revoke it there", kind)
	}
	return nil
}

// introspect asks whether a token is good; not known: the provider does not
// tell, or does not tell us.
func (p *Provider) introspect(ctx context.Context, as client, at string, form url.Values) (active, known bool, err error) {
	if at == "" {
		return false, false, nil
	}
	body, err := p.post(ctx, at, form, as)
	var f *fault
	if errors.As(err, &f) && (f.status == http.StatusUnauthorized || f.status == http.StatusForbidden) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	active, err = parseIntrospection(body)
	return active, err == nil, err
}

// parseIntrospection reads RFC 7662, 2.2, whose only required member is
// active.
func parseIntrospection(body []byte) (active bool, err error) {
	var text struct {
		Active *bool `json:"active"`
	}
	if json.Unmarshal(body, &text) != nil || text.Active == nil {
		return false, errors.New("its answer is not the JSON of an introspection response")
	}
	return *text.Active, nil
}
