package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

// format of the document; a file of another one is refused, not guessed at.
const format = 1

// Bounds of what is kept. A value is delivered as an environment variable or
// a small file, and the whole store is read for each fetch.
const (
	maxFields   = 64
	maxValue    = 1 << 20  // bytes of all field values of a version
	maxDocument = 32 << 20 // bytes of the document's JSON
	keepRecords = 10       // destroyed versions of a secret that are still listed
)

// State of a version.
type State string

// States: current is what a job gets now; old waits for the end of its grace
// period; of one that is destroyed only the record is left.
const (
	Current   State = "current"
	Old       State = "old"
	Destroyed State = "destroyed"
)

// document is all that the store holds.
type document struct {
	Format  int               `json:"format"`
	Secrets map[string]*entry `json:"secrets"`
}

// entry is one secret.
type entry struct {
	Definition
	Next     int       `json:"next"` // number of the next version; none is used twice
	Versions []version `json:"versions,omitempty"`
}

// version is one value of a secret.
type version struct {
	Number int `json:"number"`
	// Tag makes a lease's ID its own: a number that was given and lost in a
	// crash, or before the secret was removed and made anew, is given again.
	Tag     string    `json:"tag"`
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	// Expires is when the value is destroyed here; zero: not by time.
	Expires time.Time `json:"expires,omitzero"`
	// GoodUntil is when the value stops being good by itself (a token's exp).
	GoodUntil time.Time `json:"good_until,omitzero"`
	// Room is the job that has this version for itself.
	Room   string            `json:"room,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
}

var (
	nameRE  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`) })
	fieldRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`) })
	tagRE   = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{8}$`) })
)

// CheckName says what is wrong with a secret's name.
func CheckName(name string) error {
	if !nameRE().MatchString(name) {
		return fmt.Errorf("%w: name %q must be letters, digits and . _ -, at most 128, beginning with a letter or digit", ErrInput, name)
	}
	return nil
}

// CheckFields says what is wrong with a value. The error never holds it.
func CheckFields(fields map[string]string) error {
	if len(fields) == 0 || len(fields) > maxFields {
		return fmt.Errorf("%w: a value has 1 to %d fields, this one %d", ErrInput, maxFields, len(fields))
	}
	size := 0
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !fieldRE().MatchString(name) {
			// The name may be a value in the wrong place.
			return fmt.Errorf("%w: a field's name must be letters, digits and _, at most 64, not beginning with a digit", ErrInput)
		}
		value := fields[name]
		if value == "" {
			return fmt.Errorf("%w: field %s is empty", ErrInput, name)
		}
		if !utf8.ValidString(value) || bytes.IndexByte([]byte(value), 0) >= 0 {
			return fmt.Errorf("%w: field %s is no text (UTF-8 without NUL): encode it as base64 first", ErrInput, name)
		}
		size += len(value)
	}
	if size > maxValue {
		return fmt.Errorf("%w: a value has at most %d bytes", ErrInput, maxValue)
	}
	return nil
}

func newDocument() *document { return &document{Format: format, Secrets: map[string]*entry{}} }

// parse reads a document whole or not at all. The errors name no value:
// encoding/json's own words may quote the text.
func parse(text []byte) (*document, error) {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("%w: no JSON document", ErrDamaged)
	}
	if head.Format != format {
		return nil, fmt.Errorf("%w: format %d, this cleanroom knows %d: use the cleanroom that wrote it", ErrDamaged, head.Format, format)
	}
	doc := &document{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(doc); err != nil {
		return nil, fmt.Errorf("%w: not as this cleanroom writes it", ErrDamaged)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more than one document", ErrDamaged)
	}
	for name, e := range doc.Secrets {
		if CheckName(name) != nil || e == nil {
			return nil, fmt.Errorf("%w: a secret has a bad name or nothing in it", ErrDamaged)
		}
		if err := e.check(); err != nil {
			return nil, fmt.Errorf("%w: secret %s: %w", ErrDamaged, name, err)
		}
	}
	if doc.Secrets == nil {
		return nil, fmt.Errorf("%w: no secrets in it", ErrDamaged)
	}
	return doc, nil
}

func (e *entry) check() error {
	if err := e.Definition.Check(); err != nil {
		return err
	}
	last, current := 0, 0
	for _, v := range e.Versions {
		if v.Number <= last || v.Number >= e.Next {
			return errors.New("its versions are out of order")
		}
		last = v.Number
		if !tagRE().MatchString(v.Tag) || v.Created.IsZero() {
			return fmt.Errorf("version %d has no tag or time", v.Number)
		}
		switch {
		case v.State == Destroyed && len(v.Fields) == 0:
		case v.State == Current || v.State == Old:
			if err := CheckFields(v.Fields); err != nil {
				return fmt.Errorf("version %d: %w", v.Number, err)
			}
		default:
			return fmt.Errorf("version %d has a state that cannot be", v.Number)
		}
		if v.State == Current && v.Room == "" {
			current++
		}
	}
	if current > 1 || e.Next < 1 {
		return errors.New("which version is current is not clear")
	}
	return nil
}

func (d *document) marshal() ([]byte, error) {
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	if len(text) > maxDocument {
		clear(text)
		return nil, fmt.Errorf("%w: it would have more than %d bytes: remove secrets, or shorten their grace", ErrFull, maxDocument)
	}
	return text, nil
}
