package aws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"cleanroom/executor/https"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/quote"
)

const (
	// maxBody bounds an answer, in bytes.
	maxBody = 1 << 20
	// maxShown bounds what an error quotes, in bytes.
	maxShown = 300
)

var errTooMuch = fmt.Errorf("the answer of STS has more than %d bytes: see whether aws.endpoint is an STS", maxBody)

// newClient makes requests of at most timeout, follows no redirects, and
// trusts the authorities of caFile alone; empty means the system's.
func newClient(caFile string, timeout time.Duration) (*http.Client, error) {
	transport, err := https.Transport(caFile)
	if err != nil {
		return nil, err
	}
	transport.Proxy = nil
	client := https.Client(bounded{transport})
	client.Timeout = timeout
	return client, nil
}

// bounded makes the whole exchange before it returns. The SDK would read an
// answer of any size; and it closes the body of its request as soon as the
// answer begins, upon which the transport, when it is not done with it yet,
// drops the connection and the rest of the answer.
type bounded struct{ to http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	var sent []byte
	if r.Body != nil {
		var err error
		sent, err = io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil {
			return nil, err
		}
	}
	own := r.Clone(r.Context())
	own.Body, own.GetBody = io.NopCloser(bytes.NewReader(sent)), nil
	resp, err := b.to.RoundTrip(own)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	var answer io.Reader = bytes.NewReader(got)
	if len(got) > maxBody {
		answer = tooMuch{} // an error of RoundTrip would be tried again
	}
	resp.Body = io.NopCloser(answer)
	return resp, nil
}

type tooMuch struct{}

func (tooMuch) Read([]byte) (int, error) { return 0, errTooMuch }

// explain turns the SDK's error into one line with AWS's own reason, and
// nothing of the token. ErrRefused: what AWS would say again.
func explain(ctx context.Context, err error, token string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var status int
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) {
		status = resp.HTTPStatusCode()
	}
	var api smithy.APIError
	var timeout net.Error
	var failed *url.Error
	switch {
	case errors.Is(err, errTooMuch):
		return errTooMuch
	case errors.As(err, &api) && api.ErrorCode() != "UnknownError":
		said := quote.Text(api.ErrorCode()+": "+api.ErrorMessage(), maxShown, token)
		if final(api.ErrorCode(), status) {
			return fmt.Errorf("%w: STS says %s", secret.ErrRefused, said)
		}
		return fmt.Errorf("STS says %s", said)
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: STS redirects (%d), which is not followed with a token: correct aws.endpoint", secret.ErrRefused, status)
	case status >= 400:
		return fmt.Errorf("STS answers %d %s: try again later, or see whether aws.endpoint is an STS", status, http.StatusText(status))
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("no answer of STS in time: see whether it can be reached, or raise the provider's timeout")
	case errors.As(err, &failed):
		return fmt.Errorf("STS does not answer: %s", quote.Text(failed.Err.Error(), maxShown, token))
	}
	// The SDK's other words may quote the answer, which holds credentials.
	return errors.New("the answer of STS cannot be read: see whether aws.endpoint is an STS")
}

// final says that another try would not help. AWS answers 400 also where it is
// busy, and where it did not reach the issuer of the token.
func final(code string, status int) bool {
	switch code {
	case "IDPCommunicationError", "Throttling", "ThrottlingException", "RequestLimitExceeded", "RequestTimeout", "RequestTimeoutException",
		"ServiceUnavailable", "InternalFailure":
		return false
	}
	return status >= 400 && status < 500 && status != http.StatusTooManyRequests && status != http.StatusRequestTimeout
}
