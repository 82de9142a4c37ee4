// Package https is how we speak to servers that vouch for a job or lend it a
// secret: over TLS, to the authority that the admin named, and nowhere else.
package https

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
)

// CheckURL takes https, and http where nobody but this machine listens. The
// error is fit to follow a key's name.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" {
		return errors.New("must be a URL without a login, like https://server.example.com") // not quoted: it may hold one
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%.300q must be an https URL: tokens would go over the network in the clear", u.String())
}

// Transport trusts the authorities of a PEM file alone; without one, the
// system's. It keeps no connection: a job needs a few requests in its life.
func Transport(caFile string) (*http.Transport, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	t.DisableKeepAlives = true
	t.MaxResponseHeaderBytes = 64 << 10
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", caFile)
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// Client makes requests over a transport and follows no redirect: where a
// token goes, and where a key comes from, is the admin's choice.
func Client(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
