// Package idptest is a stand-in identity provider for tests: real keys, a real
// HTTPS server, and every fault that a real one has on a bad day. It signs ID
// tokens as a GitLab server does, and gives and takes back access tokens as
// Okta or Keycloak do (RFC 6749, 8693, 7009).
//
// Nothing but a test may import it. A Provider may be used by several
// goroutines at once.
package idptest

import (
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// Paths that the provider serves.
const (
	DiscoveryPath = "/.well-known/openid-configuration"
	JWKSPath      = "/oauth/discovery/keys"
	TokenPath     = "/token"
	RevokePath    = "/revoke"
)

// Provider is one identity provider.
type Provider struct {
	// URL is its issuer, https and without a slash at its end.
	URL string

	server *httptest.Server
	ca     []byte

	mu        sync.Mutex
	keys      []key // the newest last
	published int   // how many of the newest are in the key set
	rotations int
	requests  map[string]int
	faults    faults
	clients   map[string]string
	trusted   []trust
	audiences []string
	lifetime  time.Duration
	refresh   bool
	grants    []*Grant
}

// faults are what goes wrong until it is told to go right again.
type faults struct {
	down      bool
	slow      time.Duration
	jwks      []byte
	discovery map[string]any
	status    map[string]int
}

// New starts a provider on a free port of this machine and ends it with the
// test.
func New(t testing.TB) *Provider {
	t.Helper()
	p, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Listen starts a provider on a host:port; the host is in its certificate, as
// are localhost, 127.0.0.1 and ::1. Close ends it.
func Listen(addr string) (*Provider, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		l.Close()
		return nil, err
	}
	if named, _, err := net.SplitHostPort(addr); err == nil && named != "" {
		host = named
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	config, ca, err := serverTLS(host)
	if err != nil {
		l.Close()
		return nil, err
	}
	p := &Provider{
		URL: "https://" + net.JoinHostPort(host, port), ca: ca,
		requests: map[string]int{}, clients: map[string]string{}, lifetime: time.Hour,
	}
	p.RotateKeys()
	p.server = httptest.NewUnstartedServer(p.handler())
	p.server.Listener.Close()
	p.server.Listener, p.server.TLS = l, config
	p.server.StartTLS()
	return p, nil
}

// Close ends the provider and its connections.
func (p *Provider) Close() {
	p.server.CloseClientConnections() // a slow answer is not waited for
	p.server.Close()
}

// CA is the PEM of the authority that vouches for the server.
func (p *Provider) CA() []byte { return p.ca }

// Client is an HTTP client that trusts the server.
func (p *Provider) Client() *http.Client { return p.server.Client() }

// Down makes every connection end without an answer, or no longer.
func (p *Provider) Down(down bool) { p.set(func(f *faults) { f.down = down }) }

// Slow delays every answer, until it is set to 0.
func (p *Provider) Slow(d time.Duration) { p.set(func(f *faults) { f.slow = d }) }

// Fail answers a path with a status, until it is set to 0.
func (p *Provider) Fail(path string, status int) {
	p.set(func(f *faults) {
		if f.status == nil {
			f.status = map[string]int{}
		}
		f.status[path] = status
	})
}

// SetJWKS serves this in place of the key set; nil serves the key set again.
func (p *Provider) SetJWKS(body []byte) { p.set(func(f *faults) { f.jwks = body }) }

// SetDiscovery writes these over the fields of the discovery document; a nil
// value removes a field. A nil map undoes it.
func (p *Provider) SetDiscovery(fields map[string]any) {
	p.set(func(f *faults) { f.discovery = maps.Clone(fields) })
}

// Requests is how many requests a path has had, those that failed too.
func (p *Provider) Requests(path string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[path]
}

func (p *Provider) set(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
}

func (p *Provider) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+DiscoveryPath, p.discovery)
	mux.HandleFunc("GET "+JWKSPath, p.jwks)
	mux.HandleFunc("POST "+TokenPath, p.token)
	mux.HandleFunc("POST "+RevokePath, p.revoke)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests[r.URL.Path]++
		down, slow, status := p.faults.down, p.faults.slow, p.faults.status[r.URL.Path]
		p.mu.Unlock()
		if slow > 0 {
			select {
			case <-time.After(slow):
			case <-r.Context().Done():
				return
			}
		}
		switch {
		case down:
			panic(http.ErrAbortHandler)
		case status != 0:
			http.Error(w, http.StatusText(status), status)
		default:
			mux.ServeHTTP(w, r)
		}
	})
}

// discovery is OpenID Connect Discovery 1.0, with the fields of RFC 8414.
func (p *Provider) discovery(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer":         p.URL,
		"jwks_uri":       p.URL + JWKSPath,
		"token_endpoint": p.URL + TokenPath, "revocation_endpoint": p.URL + RevokePath,
		"authorization_endpoint":                p.URL + "/authorize",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
		"grant_types_supported":                 []string{clientCredentials, tokenExchange, refreshToken},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
	}
	p.mu.Lock()
	for name, value := range p.faults.discovery {
		if document[name] = value; value == nil {
			delete(document, name)
		}
	}
	p.mu.Unlock()
	answer(w, http.StatusOK, document)
}

func (p *Provider) jwks(w http.ResponseWriter, _ *http.Request) {
	p.mu.Lock()
	body := p.faults.jwks
	p.mu.Unlock()
	if body == nil {
		body = p.KeySet()
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(body)
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}
