package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"cleanroom/executor/https"
	"cleanroom/executor/secret"
)

// endpoints of an identity provider, as its discovery document calls them
// (OpenID Connect Discovery 1.0, section 3, and RFC 8414, section 2). Only
// Token is always there.
type endpoints struct {
	Issuer     string   `json:"issuer"`
	Token      string   `json:"token_endpoint"`
	Revoke     string   `json:"revocation_endpoint"`
	Introspect string   `json:"introspection_endpoint"`
	Methods    []string `json:"token_endpoint_auth_methods_supported"`
}

// postOnly says that the secret has to be in the body. The header is the
// default (RFC 8414, section 2) and the better one: bodies get logged.
func (e *endpoints) postOnly() bool {
	return slices.Contains(e.Methods, "client_secret_post") && !slices.Contains(e.Methods, "client_secret_basic")
}

// endpoints asks the issuer, if there is one, once. What the configuration
// names goes before what the issuer says.
func (p *Provider) endpoints(ctx context.Context) (*endpoints, error) {
	if p.found != nil {
		return p.found, nil
	}
	e := &endpoints{}
	if p.oidc.Issuer != "" {
		var err error
		if e, err = p.discover(ctx); err != nil {
			return nil, fmt.Errorf("discovery at %s: %w", p.oidc.Issuer, err)
		}
	}
	if p.oidc.TokenURL != "" {
		e.Token = p.oidc.TokenURL
	}
	if p.oidc.RevokeURL != "" {
		e.Revoke = p.oidc.RevokeURL
	}
	if e.Token == "" {
		return nil, fmt.Errorf("discovery at %s: %w: it names no token_endpoint: set token_url", p.oidc.Issuer, secret.ErrRefused)
	}
	p.found = e
	return e, nil
}

func (p *Provider) discover(ctx context.Context) (*endpoints, error) {
	body, err := p.do(ctx, http.MethodGet, strings.TrimSuffix(p.oidc.Issuer, "/")+"/.well-known/openid-configuration", nil, client{})
	if err != nil {
		return nil, err
	}
	return parseDiscovery(body, p.oidc.Issuer)
}

// parseDiscovery reads a discovery document. It must be the issuer's own, to
// the letter (OpenID Connect Discovery 1.0, section 4.3), and send nobody to
// an endpoint without TLS.
func parseDiscovery(body []byte, issuer string) (*endpoints, error) {
	e := &endpoints{}
	if err := json.Unmarshal(body, e); err != nil {
		return nil, errors.New("its document is not the JSON of a discovery document: correct oidc.issuer, or leave it out and set token_url")
	}
	if e.Issuer != issuer {
		return nil, fmt.Errorf("%w: its document is of the issuer %q: write oidc.issuer like that if it is the right one", secret.ErrRefused, bounded(e.Issuer))
	}
	for name, url := range map[string]string{"token_endpoint": e.Token, "revocation_endpoint": e.Revoke, "introspection_endpoint": e.Introspect} {
		if url == "" {
			continue
		}
		if err := https.CheckURL(url); err != nil {
			return nil, fmt.Errorf("%w: its document's %s: %w", secret.ErrRefused, name, err)
		}
	}
	return e, nil
}
