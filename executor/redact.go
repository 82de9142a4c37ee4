package executor

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"cleanroom/config"
	"cleanroom/executor/metrics"
	"cleanroom/executor/redact"
	"cleanroom/executor/secret"
)

// plainFields are those of providers' answers that are no secret: hiding them
// would make nonsense of a log.
var plainFields = []string{"username", "public_key", "certificate", "issuing_ca", "ca_chain", "serial_number", "expiration", "region",
	"access_key_id", "token_type", "scope", "expires_in", "ttl", "last_vault_rotation", "key_type", "ip", "rotation_period",
	"host", "hostname", "port", "database", "dbname", "schema", "engine", "endpoint"}

// leastHidden is the shortest value (bytes that count) that is hidden in a log: one so
// short was let in by its admin, with allow_short, or is a masked variable.
const leastHidden = 4

// maskName is shown where a value was that cleanroom-mask added.
const maskName = "cleanroom-mask"

// maxMasks is how many values a job may add, and maxMasked their bytes
// together: each makes every later stage look for more, in our memory.
const (
	maxMasks  = 1000
	maxMasked = 256 << 10
)

// errMask is a value that the job may not add.
var errMask = errors.New("not masked")

// hidden are the fields that what a job gets of a secret was made of, and that
// no log may show: a job may take a password out of the URL that it was given.
// One too short to be hidden refuses the secret.
func hidden(s config.Secret, given secret.Issued) (all []secret.Hidden, err error) {
	for _, field := range slices.Sorted(maps.Keys(given.Fields)) {
		if slices.Contains(plainFields, field) || slices.Contains(s.Public, field) || !secret.Used(s, field, given) {
			continue
		}
		if err := long(s, "the field "+field, given.Fields[field]); err != nil {
			return nil, fmt.Errorf("%w; or name it in `public`, if it is no secret", err)
		}
		all = append(all, secret.Hidden{Name: s.Name, Value: given.Fields[field]})
	}
	return all, nil
}

// long refuses a value of which too little counts to be hidden in a log.
func long(s config.Secret, what, value string) error {
	if size := redact.Size(value); size < secret.MinValue && !s.AllowShort {
		return fmt.Errorf("%w: %s has %d bytes that are no white space and no control characters, fewer than %d, too few to be hidden in a log: make it longer, or set allow_short",
			secret.ErrRefused, what, size, secret.MinValue)
	}
	return nil
}

// toHide are all values that the job has and nobody else may see: what it was
// given, what it added, its masked variables and its tokens.
func (x *Executor) toHide(sealed *secret.Sealed) (all []redact.Secret) {
	hide := func(name, value string) {
		if redact.Size(value) >= leastHidden {
			all = append(all, redact.Secret{Name: name, Value: value, AllowShort: true})
		}
	}
	for _, d := range sealed.Deliveries {
		hide(d.Secret, d.Value)
	}
	for _, h := range sealed.Hidden {
		hide(h.Name, h.Value)
	}
	for _, v := range x.Call.Masked() {
		hide(v.Name, v.Value)
	}
	return all
}

// hiding stands before the job's log while the room can print.
type hiding struct {
	x     *Executor
	plain io.Writer
	log   *redact.Redactor

	mu     sync.Mutex
	values []redact.Secret
	added  int // values that the job added, and their bytes
	bytes  int
	lost   int // values that could not be kept for the later stages
	keep   func(secret.Hidden) error
}

// redacted puts a redactor before the log, until done. The author's own steps
// may add values: keep then has each, for the stages that come.
func (x *Executor) redacted(sealed *secret.Sealed, keep func(secret.Hidden) error) (*hiding, error) {
	h := &hiding{x: x, plain: x.Out, values: x.toHide(sealed), keep: keep}
	for _, one := range sealed.Hidden {
		if one.Added {
			h.added++
			h.bytes += len(one.Value)
		}
	}
	o := redact.Options{AddMask: keep != nil, Masked: h.line}
	log, err := redact.New(x.Out, h.values, o)
	if err != nil {
		return nil, err
	}
	h.log, x.Out = log, log
	return h, nil
}

// mask hides one more value, from here on and in the job's later stages.
func (h *hiding) mask(value string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.keep == nil:
		return fmt.Errorf("%w: only the job's own steps can mask values", errMask)
	case h.known(value):
		return nil
	case h.full(value):
		return fmt.Errorf("%w: a job can mask %d values of %d KiB together at most", errMask, maxMasks, maxMasked>>10)
	}
	one := redact.Secret{Name: maskName, Value: value}
	if err := h.log.Add([]redact.Secret{one}); err != nil {
		return fmt.Errorf("%w: a value needs %d bytes that are no white space: a shorter one is part of too many words", errMask, redact.DefaultMinLength)
	}
	return h.note(one)
}

// line is told of each value that a line of the log added; the redactor has
// it already, for this stage.
func (h *hiding) line(one redact.Secret) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.known(one.Value):
	case h.full(one.Value) || h.note(one) != nil:
		h.lost++
	}
}

func (h *hiding) known(value string) bool {
	return slices.ContainsFunc(h.values, func(s redact.Secret) bool { return s.Value == value })
}

func (h *hiding) full(value string) bool {
	return h.added >= maxMasks || h.bytes+len(value) > maxMasked
}

// note keeps a value that was added.
func (h *hiding) note(one redact.Secret) error {
	h.added++
	h.bytes += len(one.Value)
	h.values = append(h.values, one)
	if err := h.keep(secret.Hidden{Name: one.Name, Value: one.Value, Added: true}); err != nil {
		h.x.Log.WithError(err).Error("a value that the job masked is not kept for its later stages")
		return fmt.Errorf("%w in the job's later stages: it could not be kept for them", errMask)
	}
	return nil
}

// done ends the redactor, and takes the values out of the stage's error, too:
// that may quote what a container printed last.
func (h *hiding) done(err error) error {
	h.x.Out = h.plain
	if counts := h.log.Counts(); len(counts) > 0 {
		h.x.gather.stage.Redacted = recordCounts(counts)
		for _, n := range counts {
			h.x.count(metrics.Redactions.Add("", n))
		}
		h.x.Log.WithField("redacted", counts).Info("secrets were hidden in the job's log")
	}
	if wrong := h.log.Close(); wrong != nil {
		err = errors.Join(err, wrong)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost > 0 {
		h.x.sayf("Warning: %d values of add-mask lines were hidden in this stage only, not in the job's later ones and in its files: a job can mask %d values of %d KiB together",
			h.lost, maxMasks, maxMasked>>10)
		h.x.Log.WithField("values", h.lost).Error("values that the job masked are not kept for its later stages")
	}
	return clean(err, h.values)
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
