// Package list picks records out of an audit log and prints them, for a
// terminal or for a program.
//
// What it promises: a log of any size goes through it in little memory; what a
// job's author named is text in a terminal, and nothing else; and a record that
// it cannot read is never left out in silence.
package list

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"cleanroom/executor/audit/record"
)

// ErrUnreadable is a record that is none, or of a newer cleanroom.
var ErrUnreadable = errors.New("a record cannot be read")

// Log hands over its records in order, until yield returns an error, which it
// returns. The bytes are yield's until it returns.
type Log func(yield func(index int64, raw []byte) error) error

// Read decodes a record. The schema is not held against it, as record.Decode
// does: that takes milliseconds, a log has millions, and they were held against
// it when they were written, and are when somebody verifies the log. Errors
// wrap ErrUnreadable.
func Read(raw []byte) (*record.Record, error) {
	r := &record.Record{}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	if r.Version > record.Version {
		return nil, fmt.Errorf("%w: it is of version %d: use a newer cleanroom", ErrUnreadable, r.Version)
	}
	if !whole(r) {
		return nil, fmt.Errorf("%w: there is nothing of its kind in it", ErrUnreadable)
	}
	return r, nil
}

// whole says whether what the kind names is there.
func whole(r *record.Record) bool {
	switch r.Kind {
	case record.OfJob:
		return r.Job != nil
	case record.OfReap:
		return r.Reap != nil
	case record.OfConfig:
		return r.Config != nil
	case record.OfPolicy:
		return r.Policy != nil
	case record.OfSecret:
		return r.Secret != nil
	case record.OfCache:
		return r.Cache != nil
	case record.OfKey:
		return r.Key != nil
	case record.OfBegun:
		return r.Begun != nil
	}
	return false
}

// At is when a record was written, without decoding all of it: in canonical
// JSON that comes first. Not ok: it does not begin as a record does.
func At(raw []byte) (at time.Time, ok bool) {
	rest, ok := bytes.CutPrefix(raw, []byte(`{"at":"`))
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 {
		return at, false
	}
	at, err := time.Parse(time.RFC3339, string(rest[:end]))
	return at, err == nil
}

// Printer takes what was found.
type Printer interface {
	Print(index int64, r *record.Record, raw []byte) error
	Flush() error
}

// Print gives a printer what the filter lets through. Records that cannot be
// read are counted; there being any is the error, after all others were
// printed.
func Print(log Log, f *Filter, p Printer) error {
	var unreadable, first int64
	var why error
	err := log(func(index int64, raw []byte) error {
		if f.skips(raw) {
			return nil
		}
		r, err := Read(raw)
		if err != nil {
			if unreadable++; unreadable == 1 {
				first, why = index, err
			}
			return nil
		}
		if !f.Match(r) {
			return nil
		}
		return p.Print(index, r, raw)
	})
	if err := errors.Join(err, p.Flush()); err != nil {
		return err
	}
	if unreadable > 0 {
		return fmt.Errorf("%d records are not shown, the first is %d: %w", unreadable, first, why)
	}
	return nil
}
