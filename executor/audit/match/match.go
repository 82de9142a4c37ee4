// Package match finds what a job's stages printed, of which the record has
// the hashes, in a job's log as GitLab serves it.
//
// What it promises: that a log holds exactly an output is said only after
// its SHA-256 was seen in it. How the log is taken apart, and where outputs are
// looked for, is the runner's way to write logs; a mistake there makes a log
// that is good look changed, and never the other way. Between outputs the runner
// writes lines of its own. Where lines have headers (FF_TIMESTAMPS, the
// default), nothing else may stand there; where they have none nobody can tell.
//
// One thing makes a good log look changed: the runner cuts characters in two,
// and loses them, where a job prints tens of thousands of bytes at once without
// a line end.
package match

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"

	"cleanroom/executor/audit/record"
)

// MaxLog bounds a log, in bytes.
const MaxLog = 512 << 20

// ErrLarge is a log beyond that.
var ErrLarge = errors.New("the log is too large")

// State is what became of a stage's output.
type State string

// States.
const (
	Same    State = "same"
	Changed State = "changed"
	Missing State = "missing" // nothing of it is there
	Cut     State = "cut"     // the log ends before it does: at the runner's limit, or as the job was canceled
	Unknown State = "unknown" // the record has no hash
)

// Found is one stage's output in the log.
type Found struct {
	Stage string `json:"stage"`
	State State  `json:"state"`
	Bytes int64  `json:"bytes"` // by the record
	// Good bytes of a changed output are as they were; the first that is not
	// is before Until. Of one that is Cut so many are there for certain.
	Good  int64 `json:"good"`
	Until int64 `json:"until,omitempty"`
	// At is where it begins in the log, a byte; of a missing one where it
	// should.
	At int64 `json:"at"`
}

// Added is something between outputs that no stage printed.
type Added struct {
	Before string `json:"before,omitempty"` // the stage; empty: the log's end
	Bytes  int64  `json:"bytes"`
	At     int64  `json:"at"`
}

// Report is the answer.
type Report struct {
	Stages  []Found `json:"stages"`
	Added   []Added `json:"added,omitempty"`
	Headers bool    `json:"headers"`         // the log's lines have them
	Limit   int64   `json:"limit,omitempty"` // of the log, in bytes, if it was reached
}

// Holds says that the log has all outputs of the record, as they were.
func (r Report) Holds() bool {
	for _, s := range r.Stages {
		if s.State != Same {
			return false
		}
	}
	return len(r.Added) == 0
}

// Match looks for the outputs of a job's stages in its log. A job that was
// prepared several times has a record for each, and one log.
func Match(log []byte, stages []record.Stage) (Report, error) {
	if len(log) > MaxLog {
		return Report{}, fmt.Errorf("%w: more than %d MiB", ErrLarge, MaxLog>>20)
	}
	t := parse(log, false)
	r := Report{Limit: t.limit, Headers: t.streams[""] == nil}
	own := finder{text: t.of(""), limit: t.limit}
	work := &own
	if r.Headers {
		own.text = t.of(ownStream)
		work = &finder{text: t.of(workStream), strict: true, limit: t.limit}
	}
	for _, s := range stages {
		f := work
		if s.Container == "" {
			f = &own
		}
		found, added := f.stage(s)
		if f != work && s.Output != nil && found.State != Same { // the stream's other reading
			again := parse(log, true)
			other := finder{text: again.of(ownStream), limit: t.limit}
			if second, _ := other.stage(s); second.State == Same {
				found, own = second, other
			}
		}
		r.Stages = append(r.Stages, found)
		if added.Bytes > 0 {
			r.Added = append(r.Added, added)
		}
	}
	if n := work.rest(); n.Bytes > 0 {
		r.Added = append(r.Added, n)
	}
	within := false // what stands before something that is there was not cut
	for i := range slices.Backward(r.Stages) {
		switch s := &r.Stages[i]; {
		case s.State == Cut && within:
			s.State, s.Until = Changed, s.Bytes
		case s.Good > 0 && stages[i].Container != "":
			within = true
		}
	}
	return r, nil
}

// finder goes through a text from output to output.
type finder struct {
	text   *text
	strict bool // only outputs are in the text
	limit  int64
	at     int
	loose  bool // what follows may be the rest of an output that was not found
	cut    bool // the log has ended
	work   int  // bytes hashed
}

func (f *finder) stage(s record.Stage) (found Found, added Added) {
	found = Found{Stage: s.Stage, State: Unknown, At: f.text.in(f.at)}
	if s.Output == nil {
		f.loose = true
		return found, added
	}
	o := *s.Output
	found.Bytes = o.Bytes
	if o.Bytes == 0 {
		found.State = Same
		return found, added
	}
	best, ok := f.find(o)
	found.At, found.Good = f.text.in(best.at), best.good
	if !ok {
		switch {
		case f.cut || best.end && (f.strict || f.limit > 0 || best.good > 0):
			found.State, f.cut = Cut, true
		case best.good == 0 && (best.end || !f.strict): // else something else is in its place
			found.State = Missing
		default:
			found.State, found.Until = Changed, best.until
		}
		f.loose = true
		return found, added
	}
	found.State = Same
	if f.strict && !f.loose && best.at > f.at {
		added = Added{Before: s.Stage, Bytes: int64(best.at - f.at), At: f.text.in(f.at)}
	}
	f.at, f.loose = best.at+int(o.Bytes), false
	if b := f.text.b; f.strict && b[f.at-1] != '\n' && f.at < len(b) && b[f.at] == '\n' {
		f.at++ // the runner's: an output ends with a line end
	}
	return found, added
}

// rest is what stands after the last output.
func (f *finder) rest() (added Added) {
	if !f.strict || f.loose || f.at >= len(f.text.b) {
		return added
	}
	return Added{Bytes: int64(len(f.text.b) - f.at), At: f.text.in(f.at)}
}

// place is somewhere an output may begin.
type place struct {
	at    int
	good  int64 // bytes from there that are right, by marks
	until int64 // the first that is wrong is before this one
	end   bool  // the text ends before the output does, and so far it is right
}

// maxWork bounds what is hashed for one output, in sizes of the text: a job
// can print lines that look all alike, and then somebody changes the last one.
const maxWork = 64

// find looks for an output from here on: here, then wherever it may begin.
// Without it, best is where it is most likely to have stood.
func (f *finder) find(o record.Output) (best place, ok bool) {
	b := f.text.b
	best.at, best.until = f.at, o.Bytes
	first := true
	f.work = 0
	for at := f.at; at <= len(b); at++ {
		if at != f.at && !f.begins(at) {
			continue
		}
		p := f.try(b[at:], o)
		p.at = at
		if p.good == o.Bytes {
			return p, true
		}
		if first || p.good > best.good || p.good == best.good && p.end && !f.strict {
			best, first = p, false
		}
		if f.work > maxWork*(len(b)+1) {
			break
		}
	}
	return best, false
}

// begins says whether an output may begin here: after a line, or after one of
// the sequences with which the runner's own words end.
func (f *finder) begins(at int) bool {
	switch b := f.text.b; b[at-1] {
	case '\n':
		return true
	case '\r':
		return !f.strict
	case 'K', 'm':
		return !f.strict && bytes.LastIndexByte(b[max(0, at-8):at], 0x1b) >= 0
	}
	return false
}

// try says how much of an output b begins with.
func (f *finder) try(b []byte, o record.Output) (p place) {
	h := sha256.New()
	for i, mark := range o.Marks {
		next := int64(i+1) * o.Every
		if next <= p.good || next > o.Bytes { // no meter makes such marks
			break
		}
		if next > int64(len(b)) {
			p.until, p.end = next, true
			return p
		}
		f.add(h, b[p.good:next])
		if record.Mark(h) != mark {
			p.until = next
			return p
		}
		p.good = next
	}
	p.until = o.Bytes
	if o.Bytes > int64(len(b)) {
		p.end = true
		return p
	}
	f.add(h, b[p.good:o.Bytes])
	if hex.EncodeToString(h.Sum(nil)) == o.SHA256 {
		p.good = o.Bytes
	}
	return p
}

func (f *finder) add(h hash.Hash, b []byte) {
	h.Write(b)
	f.work += len(b)
}
