package forward

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/textproto"
	"os"

	"cleanroom/config"
	"cleanroom/executor/https"
	"cleanroom/executor/secret/hostkey/durable"
)

// maxSecret bounds a file of a key or of headers, in bytes.
const maxSecret = 64 << 10

// transport trusts the destination's authority, and proves us to it.
func transport(c config.Forward) (*http.Transport, error) {
	t, err := https.Transport(c.CAFile)
	if err != nil || c.CertFile == "" {
		return t, err
	}
	cert, err := os.ReadFile(c.CertFile)
	if err != nil {
		return nil, err
	}
	key, err := durable.Read(c.KeyFile, maxSecret)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", c.CertFile, c.KeyFile, err)
	}
	t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	return t, nil
}

// headers reads "Name: value" lines from a private file. No error holds any
// of its text.
func headers(file string) (http.Header, error) {
	if file == "" {
		return http.Header{}, nil
	}
	text, err := durable.Read(file, maxSecret)
	if err != nil {
		return nil, err
	}
	text = append(bytes.TrimSpace(text), "\n\n"...) // the empty line that ends headers
	all := bufio.NewReader(bytes.NewReader(text))
	h, err := textproto.NewReader(all).ReadMIMEHeader()
	if _, more := all.ReadByte(); err != nil || more == nil {
		return nil, fmt.Errorf("%s must hold lines like Authorization: Bearer TOKEN and nothing else", file)
	}
	return http.Header(h), nil
}
