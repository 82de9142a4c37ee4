package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/hashicorp/vault/api"

	"cleanroom/config"
	"cleanroom/executor/https"
)

// maxBody bounds an answer, in bytes. A KV secret has at most 1 MiB
// (https://developer.hashicorp.com/vault/docs/internals/limits).
const maxBody = 2 << 20

// newClient makes a client that knows what the configuration says and nothing
// else.
func newClient(c config.Vault, transport http.RoundTripper) (*api.Client, error) {
	restore := hideEnvironment()
	defer restore()
	client, err := api.NewClient(&api.Config{
		Address:          strings.TrimSuffix(c.Address, "/"),
		HttpClient:       https.Client(bounded{transport}),
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
