package forward

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"cleanroom/executor/secret/hostkey/durable"
)

// State is how far a destination is, as a file keeps it.
type State struct {
	Format string `json:"format"`
	Origin string `json:"origin"` // of the log that the rest is about
	// Next is the index of the first record that was not acknowledged.
	Next int64 `json:"next"`
	// Last is the leaf hash of the record before Next, by which a log that
	// was rewritten is noticed.
	Last string `json:"last,omitempty"`

	// FailingSince is when the first of Tries failed in a row; Error is what
	// the last of them ended with.
	FailingSince time.Time `json:"failing_since,omitzero"`
	Tries        int       `json:"tries,omitempty"`
	Error        string    `json:"error,omitempty"`
	// NotBefore is when the next try is due.
	NotBefore time.Time `json:"not_before,omitzero"`

	// Refused is how many records the destination did not take for good;
	// Refusals are the newest of them. The log has them still.
	Refused  int64     `json:"refused,omitempty"`
	Refusals []Refusal `json:"refusals,omitempty"`
}

// Refusal is of Count of the records First to Last.
type Refusal struct {
	Time   time.Time `json:"time"`
	First  int64     `json:"first"`
	Last   int64     `json:"last"`
	Count  int64     `json:"count"`
	Reason string    `json:"reason"`
}

const (
	stateFormat = "cleanroom forward 1"
	maxState    = 1 << 20 // bytes of a file
	maxRefusals = 100     // that a file keeps
	maxReason   = 500     // bytes of what a destination says
)

func (f *Forwarder) path(name string) string { return filepath.Join(f.Dir, name+".json") }

// load reads the state of a destination. One that cannot be read is put
// aside, and everything is sent again: twice is better than never.
func (f *Forwarder) load(name string) (*State, error) {
	text, err := durable.Read(f.path(name), maxState)
	if errors.Is(err, fs.ErrNotExist) {
		return f.fresh(), nil
	}
	if err != nil && !errors.Is(err, durable.ErrTooLarge) {
		return nil, err
	}
	s := &State{}
	if err == nil {
		err = s.parse(text)
	}
	if err == nil {
		return s, nil
	}
	aside := f.path(name) + ".broken"
	f.Report.WithError(err).WithField("destination", name).WithField("aside", aside).
		Error("audit: how far this destination was cannot be read: it is put aside, and every record is sent again")
	if err := os.Rename(f.path(name), aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f.fresh(), nil
}

func (f *Forwarder) fresh() *State { return &State{Format: stateFormat, Origin: f.Origin} }

func (s *State) parse(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return fmt.Errorf("no state of forwarding: %w", err)
	}
	if s.Format != stateFormat || s.Next < 0 || (s.Next > 0) != (s.Last != "") || d.More() {
		return fmt.Errorf("no state of forwarding: its format is %.40q, not %q, or it has no place", s.Format, stateFormat)
	}
	return nil
}

func (f *Forwarder) save(name string, s *State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Write(f.path(name), append(text, '\n'))
}

// refuse writes a refusal down.
func (s *State) refuse(r Refusal) {
	s.Refused += r.Count
	s.Refusals = append(s.Refusals, r)
	s.Refusals = s.Refusals[max(0, len(s.Refusals)-maxRefusals):]
}

// clean makes what a destination says fit for one line of a log.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, " "))
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}
