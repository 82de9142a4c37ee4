package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"cleanroom/config"
)

// maxBody bounds an answer, in bytes. A KV secret has at most 1 MiB
// (https://developer.hashicorp.com/vault/docs/internals/limits).
const maxBody = 2 << 20

// checkAddress takes https, and http where nobody but this machine listens.
func checkAddress(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.RawQuery != "" {
		return errors.New("must be a URL, like https://vault.example.com:8200")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s must be an https URL: tokens would go over the network in the clear", u.Redacted())
}

// newTransport trusts the authorities of the CA file alone; without one, the
// system's.
func newTransport(caFile string) (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.DisableKeepAlives = true // a few requests in a job's life
	transport.MaxResponseHeaderBytes = 64 << 10
	if caFile == "" {
		return transport, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", caFile)
	}
	transport.TLSClientConfig.RootCAs = pool
	return transport, nil
}

// newClient makes a client that knows what the configuration says and nothing
// else.
func newClient(c config.Vault, transport http.RoundTripper) (*api.Client, error) {
	restore := hideEnvironment()
	defer restore()
	client, err := api.NewClient(&api.Config{
		Address: strings.TrimSuffix(c.Address, "/"),
		HttpClient: &http.Client{
			Transport:     bounded{transport},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		DisableRedirects: true,
		// A login that is sent twice is two tokens, one of which nobody knows.
		MaxRetries: 0,
	})
	if err != nil {
		return nil, err
	}
	client.SetWrappingLookupFunc(func(string, string) string { return "" }) // the default reads VAULT_WRAP_TTL
	if c.Namespace != "" {
		client.SetNamespace(c.Namespace)
	}
	return client, nil
}

var environment sync.Mutex

// hideEnvironment takes VAULT_* away until restore is called: api.NewClient
// reads them whatever it is given, and fails when one of them is wrong.
func hideEnvironment() (restore func()) {
	environment.Lock()
	hidden := map[string]string{}
	for _, line := range os.Environ() {
		if key, value, _ := strings.Cut(line, "="); strings.HasPrefix(key, "VAULT_") {
			hidden[key] = value
			os.Unsetenv(key)
		}
	}
	return func() {
		for key, value := range hidden {
			os.Setenv(key, value)
		}
		environment.Unlock()
	}
}

// bounded cuts answers off at maxBody.
type bounded struct{ next http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.next.RoundTrip(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxBody)
	}
	return resp, err
}

// call makes one request: a write (PUT) when there is data, else a read. An
// error that Vault itself answered is a *fault. hide are credentials in data.
func (v *Vault) call(ctx context.Context, token, path string, data map[string]any, hide ...string) (*api.Secret, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, v.timeout,
		fmt.Errorf("no answer from Vault within %s: see whether it is up, or raise the provider's timeout", v.timeout))
	defer cancel()
	hide = append(hide, token)
	v.api.SetToken(token)
	var resp *api.Response
	var err error
	if data == nil {
		resp, err = v.api.Logical().ReadRawWithDataWithContext(ctx, path, nil)
	} else {
		body, encoding := json.Marshal(data)
		if encoding != nil {
			return nil, errors.New("the request cannot be written as JSON")
		}
		resp, err = v.api.Logical().WriteRawWithContext(ctx, path, body)
	}
	v.api.ClearToken()
	if resp != nil {
		defer resp.Body.Close()
	}
	if err != nil && !answered(err) {
		return nil, unanswered(ctx, v.config.Address, err, hide)
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, errors.New("Vault redirects to another server, which is not followed: set the address of the active one, or allow request forwarding")
	}
	if resp.StatusCode == http.StatusNotFound {
		// A deleted version of KV still says so, under this status.
		if s, parseErr := api.ParseSecret(resp.Body); parseErr == nil && s != nil && len(s.Data) > 0 {
			return s, nil
		}
	}
	if err != nil {
		return nil, asFault(err, hide)
	}
	s, err := api.ParseSecret(resp.Body)
	if err != nil {
		// The parser's words may quote the answer.
		if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
			return nil, fmt.Errorf("an answer of more than %d bytes: see whether the address is a Vault's", maxBody)
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, errors.New("the answer is not Vault's JSON: see whether the address is a Vault's")
	}
	if s == nil {
		s = &api.Secret{}
	}
	return s, nil
}
