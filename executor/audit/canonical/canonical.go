// Package canonical writes JSON in the one form that RFC 8785 (JCS) gives it,
// and reads what somebody else may have written.
//
// What it promises: what was read says nothing beside what it was read into.
// encoding/json by itself takes the last of two fields of a name, a name in
// another letter case, what it knows no field for in types that decode
// themselves, and bytes that are no text; two readers could see two things in
// the same file.
package canonical

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gowebpki/jcs"
)

// ErrForm is JSON that says more than was read of it, or says it in another
// way than it has to.
var ErrForm = errors.New("not the JSON that is expected")

// Marshal writes a value.
func Marshal(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jcs.Transform(text)
}

// Decode reads a value, however white space, the order of fields and escapes
// are written. Errors wrap ErrForm, or are of a type that decodes itself.
func Decode(text []byte, v any) error {
	again, err := read(text, v)
	if err != nil {
		return err
	}
	given, err := jcs.Transform(text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForm, err)
	}
	if !bytes.Equal(again, given) {
		return fmt.Errorf("%w: a field in it is unknown, in another letter case, or empty where it should be left out", ErrForm)
	}
	return nil
}

// DecodeExact reads what Marshal wrote, to the byte. Errors are as Decode's.
func DecodeExact(text []byte, v any) error {
	again, err := read(text, v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, text) {
		return fmt.Errorf("%w: it is not canonical: it was not written by cleanroom, or was changed since", ErrForm)
	}
	return nil
}

// read reads one value, and writes it again.
func read(text []byte, v any) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows it", ErrForm)
	}
	again, err := Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return again, nil
}
