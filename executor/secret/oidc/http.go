package oidc

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"cleanroom/executor/secret/quote"
)

const (
	// maxBody bounds an answer, in bytes.
	maxBody = 1 << 20
	// maxShown bounds what an error quotes, in bytes.
	maxShown = 300
)

func bounded(text string) string { return quote.Text(text, maxShown) }

// client is who we are at the provider; all empty: nobody.
type client struct {
	id, secret string
	post       bool // client_secret_post, else client_secret_basic
}

// basic is the header's value: both parts are form-encoded first (RFC 6749,
// 2.3.1), which plain SetBasicAuth would not do.
func (c client) basic() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(c.id)+":"+url.QueryEscape(c.secret)))
}

// post sends a form as this client; the error holds nothing of what was sent.
func (p *Provider) post(ctx context.Context, to string, form url.Values, as client) ([]byte, error) {
	sent := url.Values{}
	for key, values := range form {
		sent[key] = values
	}
	// A client without a secret, and one that may not use the header.
	if as.id != "" && (as.secret == "" || as.post) {
		sent.Set("client_id", as.id)
	}
	if as.secret != "" && as.post {
		sent.Set("client_secret", as.secret)
	}
	return p.do(ctx, http.MethodPost, to, sent, as)
}

// do makes one request and gives the body of a good answer.
func (p *Provider) do(ctx context.Context, method, to string, form url.Values, as client) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, fmt.Errorf("no answer within %s: see whether the identity provider is up, or raise the provider's timeout", p.timeout))
	defer cancel()
	body, status, err := p.roundTrip(ctx, method, to, form, as)
	if err == nil && status >= 200 && status < 300 {
		return body, nil
	}
	hide := []string{as.secret}
	if as.secret != "" {
		hide = append(hide, as.basic())
	}
	for _, key := range []string{"subject_token", "token"} {
		hide = append(hide, form.Get(key))
	}
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		// net/http quotes what is no HTTP.
		return nil, errors.New(quote.Text(err.Error(), maxShown, hide...))
	}
	return nil, parseFault(status, body, hide)
}

func (p *Provider) roundTrip(ctx context.Context, method, to string, form url.Values, as client) ([]byte, int, error) {
	var content io.Reader
	if form != nil {
		content = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, to, content)
	if err != nil {
		return nil, 0, fmt.Errorf("%q is no URL", bounded(to))
	}
	r.Header.Set("Accept", "application/json")
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if as.secret != "" && !as.post {
		r.Header.Set("Authorization", as.basic())
	}
	resp, err := p.http.Do(r)
	if err != nil {
		// url.Error begins with method and URL; whoever wraps names the endpoint.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return nil, 0, fmt.Errorf("%s does not answer: %w", r.URL.Host, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%s ended its answer in the middle: %w", r.URL.Host, err)
	}
	if len(body) > maxBody {
		return nil, 0, fmt.Errorf("%s answered with more than %d bytes: see whether it is an identity provider", r.URL.Host, maxBody)
	}
	return body, resp.StatusCode, nil
}
