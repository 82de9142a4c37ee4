// Package oidc gets access tokens from an identity provider: in exchange for
// the job's ID token (RFC 8693), or with a client's own credentials (RFC 6749,
// 4.4). Where the provider can take them back (RFC 7009) it does so when the
// job ends, and looks that they are gone where it can tell (RFC 7662).
//
// What it promises: credentials go over HTTPS to the endpoints that the
// configuration or the issuer's discovery document names and to nobody they
// redirect to; an answer is bounded in time (the provider's timeout) and
// bytes; an error shows the provider's error code and description and nothing
// that was a credential of either side.
//
// A secret's path, unless it is the secret's own name, is the audience asked
// for. Its parameters are audience, resource, scope (each may be given several
// times), requested_token_type, subject_token_type (jwt, the default, or
// id_token, or a whole urn) and auth (basic or post: how the client
// authenticates, where discovery does not say). Fields: access_token, and
// id_token, token_type, scope and expires_in (seconds) where the provider
// gives them. A refresh token is never given to a job, only revoked.
package oidc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"cleanroom/config"
	"cleanroom/executor/https"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/file"
)

// defaultTimeout bounds a request where the configuration does not.
const defaultTimeout = 10 * time.Second

// revokeGrace is how long a token that cannot be kept may take to be revoked,
// when the context of its job is over.
const revokeGrace = 10 * time.Second

// Provider is one identity provider, and we as one client of it.
type Provider struct {
	name    string
	timeout time.Duration
	oidc    config.OIDC
	http    *http.Client
	now     func() time.Time

	found *endpoints // once discovered
}

// New makes the provider of a configuration's table. It reads the CA file and
// asks nobody.
func New(p config.Provider) (*Provider, error) {
	fail := func(key, what string) (*Provider, error) {
		return nil, fmt.Errorf("%w: oidc.%s: %s", config.ErrConfig, key, what)
	}
	o := p.OIDC
	for key, value := range map[string]string{"issuer": o.Issuer, "token_url": o.TokenURL, "revoke_url": o.RevokeURL} {
		if err := https.CheckURL(value); value != "" && err != nil {
			return fail(key, err.Error())
		}
	}
	switch {
	case o.Issuer == "" && o.TokenURL == "":
		return fail("issuer", "set the identity provider's URL here, or token_url")
	case o.Grant == "client_credentials" && (o.ClientID == "" || o.ClientSecretFile == ""):
		return fail("client_id", "client_credentials need client_id and client_secret_file")
	case o.ClientSecretFile != "" && o.ClientID == "":
		return fail("client_id", "set whose secret client_secret_file holds")
	case o.Grant == "token_exchange" && o.Token == "":
		return fail("token", "set the name of the variable that holds the job's ID token")
	case o.Grant != "token_exchange" && o.Grant != "client_credentials":
		return fail("grant", "must be token_exchange or client_credentials")
	}
	transport, err := https.Transport(o.CAFile)
	if err != nil {
		return fail("ca_file", err.Error())
	}
	if p.Timeout <= 0 {
		p.Timeout = defaultTimeout
	}
	return &Provider{name: p.Name, timeout: p.Timeout, oidc: o, http: https.Client(transport), now: time.Now}, nil
}

// kept is the credential of a lease: what revoking needs.
type kept struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token,omitempty"`
	// Where and how, as it was found out then: cleaning up must not depend
	// on discovery.
	Revoke     string `json:"revoke"`
	Introspect string `json:"introspect,omitempty"`
	Post       bool   `json:"post,omitempty"`
}

// Fetch gets a token. The lease, if there is one, is journalled when the
// token has come and before it is given to anybody: before that no name of it
// is known, and a token that died with us on its way serves nobody until it
// expires.
func (p *Provider) Fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	issued, err := p.fetch(ctx, r)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("provider %s: %w", p.name, err)
	}
	return issued, nil
}

func (p *Provider) fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	w, err := parse(p.oidc.Grant, r.Secret)
	if err != nil {
		return secret.Issued{}, err
	}
	at, err := p.endpoints(ctx)
	if err != nil {
		return secret.Issued{}, err
	}
	as, err := p.client(w.auth == "post" || w.auth == "" && at.postOnly())
	if err != nil {
		return secret.Issued{}, err
	}
	if p.oidc.Grant == "token_exchange" {
		token, err := r.Token(ctx, p.oidc.Token)
		if err != nil {
			return secret.Issued{}, err
		}
		w.form.Set("subject_token", token)
	}
	asked := p.now() // expires_in counts from later: what we believe ends first
	body, err := p.post(ctx, at.Token, w.form, as)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("token endpoint: %w", err)
	}
	a, err := parseAnswer(body)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("token endpoint: %w", err)
	}
	issued := secret.Issued{Fields: a.fields(), Rotated: asked, Expires: a.expires(asked)}
	if at.Revoke == "" {
		return issued, nil
	}
	k := kept{a.AccessToken, a.RefreshToken, at.Revoke, at.Introspect, as.post}
	if err := p.journal(ctx, r, as, k, issued.Expires); err != nil {
		return secret.Issued{}, err
	}
	issued.Revocable = true
	return issued, nil
}

// journal writes the token down, or gives it back at once.
func (p *Provider) journal(ctx context.Context, r secret.Request, as client, k kept, expires time.Time) error {
	credential, err := json.Marshal(k)
	if err != nil {
		return err
	}
	// A label of our own: a provider's jti may be the very token (an opaque
	// token of Cloud Foundry's UAA is), and a hash of it could be tried.
	l := secret.Lease{ID: rand.Text(), Credential: credential, Expires: expires}
	if k.RefreshToken != "" {
		l.Expires = time.Time{} // which lives longer, and does not say how long
	}
	if err := r.Journal(l); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeGrace)
		defer cancel()
		if failed := p.revoke(ctx, as, k); failed != nil {
			return fmt.Errorf("%w, and the token could not be revoked: %w", err, failed)
		}
		return err
	}
	return nil
}

// client reads the secret each time: a rotated one serves from the next
// request on.
func (p *Provider) client(post bool) (client, error) {
	c := client{id: p.oidc.ClientID, post: post}
	if p.oidc.ClientSecretFile == "" {
		return c, nil
	}
	var err error
	if c.secret, err = file.ReadPrivate(p.oidc.ClientSecretFile); err != nil {
		return client{}, fmt.Errorf("oidc.client_secret_file: %w", err)
	}
	return c, nil
}

// Renew refuses: a new token would not be the one that the job has.
func (p *Provider) Renew(context.Context, secret.Lease, time.Time) (time.Time, error) {
	return time.Time{}, fmt.Errorf("%w: an access token cannot be renewed: let the provider give it a lifetime as long as the job's timeout", secret.ErrRefused)
}
