package executor

import (
	"errors"
	"slices"

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
// done. A job without secrets has its log as it is.
func (x *Executor) redacted(sealed *secret.Sealed) (done func() error, err error) {
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
		return func() error { return nil }, nil
	}
	r, err := redact.New(x.Out, values, redact.Options{})
	if err != nil {
		return nil, err
	}
	plain := x.Out
	x.Out = r
	return func() error {
		x.Out = plain
		counts := r.Counts()
		if len(counts) > 0 {
			x.Log.WithField("redacted", counts).Info("secrets were hidden in the job's log")
		}
		return r.Close()
	}, nil
}

// ending runs done when a stage ends, and keeps its error.
func ending(done func() error, err *error) {
	if wrong := done(); wrong != nil {
		*err = errors.Join(*err, wrong)
	}
}
