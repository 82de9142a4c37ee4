package executor

import (
	"errors"
	"io"
	"slices"
	"strings"

	"cleanroom/executor/redact"
	"cleanroom/executor/secret"
)

// plainFields are those of providers' answers that are no secret: hiding them
// would make nonsense of a log.
var plainFields = []string{"username", "public_key", "certificate", "issuing_ca", "ca_chain", "serial_number", "expiration", "region",
	"access_key_id", "token_type", "scope", "expires_in", "ttl", "last_vault_rotation", "key_type", "port", "ip", "rotation_period"}

// leastHidden is the shortest value (bytes) that is hidden: one so short was
// let in by its admin, with allow_short.
const leastHidden = 4

// hidden are the values of a secret's fields that no log may show: a job may
// take a password out of the URL that it was given.
func hidden(name string, given secret.Issued) []secret.Hidden {
	var all []secret.Hidden
	for field, value := range given.Fields {
		if !slices.Contains(plainFields, field) && len(value) >= secret.MinValue {
			all = append(all, secret.Hidden{Name: name, Value: value})
		}
	}
	return all
}

// redacted puts a redactor of what the job was given before its log, until
// done, which takes the values out of the stage's error, too: that may quote
// what a container printed last. A job without secrets has both as they are.
func (x *Executor) redacted(sealed *secret.Sealed) (done func(error) error, err error) {
	var values []redact.Secret
	hide := func(name, value string) {
		if len(value) >= leastHidden {
			values = append(values, redact.Secret{Name: name, Value: value, AllowShort: true})
		}
	}
	for _, d := range sealed.Deliveries {
		hide(d.Secret, d.Value)
	}
	for _, h := range sealed.Hidden {
		hide(h.Name, h.Value)
	}
	if len(values) == 0 {
		return func(err error) error { return err }, nil
	}
	r, err := redact.New(x.Out, values, redact.Options{})
	if err != nil {
		return nil, err
	}
	plain := x.Out
	x.Out = r
	return func(err error) error {
		x.Out = plain
		counts := r.Counts()
		if len(counts) > 0 {
			x.Log.WithField("redacted", counts).Info("secrets were hidden in the job's log")
		}
		if wrong := r.Close(); wrong != nil {
			err = errors.Join(err, wrong)
		}
		return clean(err, values)
	}, nil
}

// clean hides values in an error's text; what it wraps stays.
func clean(err error, values []redact.Secret) error {
	if err == nil {
		return nil
	}
	var text strings.Builder
	r, wrong := redact.New(&text, values, redact.Options{})
	if wrong == nil {
		_, wrong = io.WriteString(r, err.Error())
		wrong = errors.Join(wrong, r.Close())
	}
	switch {
	case wrong != nil:
		return wrong
	case text.String() == err.Error():
		return err
	}
	return cleanError{err, text.String()}
}

type cleanError struct {
	from error
	text string
}

func (e cleanError) Error() string { return e.text }
func (e cleanError) Unwrap() error { return e.from }
