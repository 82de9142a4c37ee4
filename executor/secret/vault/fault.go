package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"cleanroom/executor/secret"
	"cleanroom/executor/secret/quote"
)

// maxShown bounds what an error quotes, in bytes.
const maxShown = 300

// fault is an error that Vault answered, in its own words, as one line
// without credentials.
type fault struct {
	status int // of HTTP
	words  string
}

func (f *fault) Error() string {
	if f.words == "" {
		return fmt.Sprintf("Vault answered %d %s", f.status, http.StatusText(f.status))
	}
	return fmt.Sprintf("%s (%d)", f.words, f.status)
}

// final says that another try is of no use.
func (f *fault) final() bool {
	// A login that fails because GitLab does not give its keys to Vault has
	// the status of a wrong token.
	if strings.Contains(f.words, "fetching keys") {
		return false
	}
	switch f.status {
	case http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed:
		return true
	}
	return false
}

// status is that of a fault; 0: the error is none.
func status(err error) int {
	if f := new(fault); errors.As(err, &f) {
		return f.status
	}
	return 0
}

// refused adds what to do to a final fault, and leaves any other error.
func refused(err error, advice string) error {
	if f := new(fault); errors.As(err, &f) && f.final() {
		return fmt.Errorf("%w: %w: %s", secret.ErrRefused, err, advice)
	}
	return err
}

// answered says whether an error of the client is an HTTP answer.
func answered(err error) bool {
	r := new(api.ResponseError)
	return errors.As(err, &r)
}

// asFault reads Vault's words out of the client's error. A body that is not
// Vault's JSON is somebody else's (a proxy's), and not quoted.
func asFault(err error, hide []string) error {
	r := new(api.ResponseError)
	errors.As(err, &r)
	if r.RawError {
		return fmt.Errorf("HTTP status %d without Vault's JSON: see whether the address is a Vault's", r.StatusCode)
	}
	words := quote.Text(strings.Join(r.Errors, "; "), maxShown, hide...)
	words = strings.TrimPrefix(words, "1 error occurred: * ")
	if r.StatusCode == http.StatusServiceUnavailable && strings.Contains(strings.ToLower(words), "sealed") {
		words = "Vault is sealed: unseal it, then retry the job"
	}
	return &fault{r.StatusCode, words}
}

// unanswered is the error of a request that got no answer.
func unanswered(ctx context.Context, address string, err error, hide []string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if tooLong := new(http.MaxBytesError); errors.As(err, &tooLong) {
		return fmt.Errorf("an answer of more than %d bytes: see whether the address is a Vault's", maxBody)
	}
	// It begins with method and URL, which say nothing that the address does not.
	if u := new(url.Error); errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%s does not answer: %s", address, quote.Text(err.Error(), maxShown, hide...))
}
