package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"cleanroom/executor/secret/quote"
)

const (
	// maxBody bounds an answer, in bytes.
	maxBody = 1 << 20
	// maxShown bounds what an error quotes, in bytes.
	maxShown = 300
)

// checkURL takes https, and http where nobody but this machine listens.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%q must be a URL, like https://id.example.com", bounded(text))
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	if u.Scheme == "https" || u.Scheme == "http" && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%q must be an https URL: tokens would go over the network in the clear", bounded(text))
}

func bounded(text string) string { return quote.Text(text, maxShown) }

// newClient trusts the authorities of caFile alone; empty means the system's.
func newClient(caFile string) (*http.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.DisableKeepAlives = true // two or three requests in a job's life
	transport.MaxResponseHeaderBytes = 64 << 10
	if caFile != "" {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no PEM certificate", caFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

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
