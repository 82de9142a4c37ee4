// Package match holds a job's log, as GitLab serves it, against the hashes
// that the record has of what the job's stages printed.
//
// What it promises: a log holds exactly the recorded outputs only if the
// SHA-256 of each was seen in it, in their order, and every other line of it is
// one that the runner itself writes: those are known, each as a whole. A line
// without a header among lines that have them, or in a stream to which nobody
// writes, is none of these. What the runner says freely (the text of an error,
// its own name) and how it says that the job went is in the report, as nothing
// proves it; no more do headers prove when a line was written. How the log is
// taken apart is the runner's way to write logs; a mistake there makes a log
// that is good look changed, and never the other way.
//
// One thing makes a good log look changed: the runner cuts characters in two,
// and loses them, where a job prints tens of thousands of bytes at once without
// a line end. In a log without headers (FF_TIMESTAMPS=false) there is another:
// words of the runner in the midst of an output.
package match

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"

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
	Moved   State = "moved"   // it is there as it was, and not in its stage's section
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
	At  int64 `json:"at"`
	end int64 // where its last byte is
}

// Report is the answer.
type Report struct {
	Stages []Found `json:"stages"`
	// Foreign are the first lines that no stage printed and no runner writes,
	// and Strangers how many there are.
	Foreign   []Line `json:"foreign,omitempty"`
	Strangers int64  `json:"strangers,omitempty"`
	// Words are the first of the runner's own lines that tell what nothing
	// proves, and Told how many there are.
	Words   []Line `json:"words,omitempty"`
	Told    int64  `json:"told,omitempty"`
	Headers bool   `json:"headers"`         // the log's lines have them
	Limit   int64  `json:"limit,omitempty"` // of the log, in bytes, if it was reached
}

// Holds says that the log has all outputs of the record, as they were, and
// nothing else but words of the runner.
func (r Report) Holds() bool {
	for _, s := range r.Stages {
		if s.State != Same {
			return false
		}
	}
	return r.Strangers == 0
}

// Match looks for the outputs of a job's stages in its log. A job that was
// prepared several times has a record for each, and one log.
func Match(log []byte, stages []record.Stage) (Report, error) {
	if len(log) > MaxLog {
		return Report{}, fmt.Errorf("%w: more than %d MiB", ErrLarge, MaxLog>>20)
	}
	t := parse(log)
	r := Report{Limit: t.limit, Headers: t.headers}
	own := &finder{text: t.of(noStream), limit: t.limit}
	work := own
	if t.headers {
		own = &finder{text: t.of(ownStream), limit: t.limit, closed: true}
		work = &finder{text: t.of(workStream), limit: t.limit, closed: true, strict: true}
	}
	for _, s := range stages {
		f := work
		if s.Container == "" {
			f = own
		}
		r.Stages = append(r.Stages, f.stage(s))
	}
	var foreign, told lineSet
	strange := func(t *text, from, to int) {
		t.lines(from, to, func(line []byte, at int) { foreign.add(t.in(at), line) })
	}
	reader := newReader(stages)
	for _, g := range own.gaps() {
		own.text.lines(g.from, g.to, func(line []byte, at int) {
			switch ok, tells, from := reader.own(line, own.text.in(at)); {
			case tells:
				told.add(own.text.in(at+from), colourRE.ReplaceAll(line[from:], nil))
			case !ok && g.loose:
				reader.after(line, own.text.in(at))
			case !ok:
				foreign.add(own.text.in(at+from), line[from:])
			}
		})
	}
	if work != own {
		for _, g := range work.gaps() {
			if !g.loose {
				strange(work.text, g.from, g.to)
			}
		}
	}
	for name, one := range t.streams {
		if one != own.text && one != work.text {
			strange(t.streams[name], 0, len(one.b))
		}
	}
	for i := range r.Stages {
		if s := &r.Stages[i]; s.State == Same && s.Bytes > 0 && !reader.within(i, s.At, s.end) {
			s.State = Moved
		}
	}
	r.Foreign, r.Strangers = foreign.numbered(log), foreign.count
	r.Words, r.Told = told.numbered(log), told.count
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

// shown is a line for people: quoted, and cut.
func shown(text []byte) string {
	if len(text) > mostText {
		return strconv.Quote(string(text[:mostText])) + "…"
	}
	return strconv.Quote(string(text))
}

// finder goes through a text from output to output.
type finder struct {
	text   *text
	strict bool // only outputs are in the text
	closed bool // the runner ends an output that has no line end with one
	limit  int64
	at     int
	loose  bool // what follows may be the rest of an output that was not found
	cut    bool // the log has ended
	passed []gap
	work   int // bytes hashed
}

// gap is what stands between two outputs. One that is loose may hold others,
// which were not found.
type gap struct {
	from, to int
	loose    bool
}

// gaps are all there are, those before the first output and after the last
// among them.
func (f *finder) gaps() []gap {
	return append(f.passed, gap{f.at, len(f.text.b), f.loose})
}

func (f *finder) stage(s record.Stage) (found Found) {
	found = Found{Stage: s.Stage, State: Unknown, At: f.text.in(f.at)}
	if s.Output == nil {
		f.loose = true
		return found
	}
	o := *s.Output
	found.Bytes = o.Bytes
	if o.Bytes == 0 {
		found.State = Same
		return found
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
		return found
	}
	found.State, found.end = Same, f.text.in(best.at+int(o.Bytes)-1)
	f.passed = append(f.passed, gap{f.at, best.at, f.loose})
	f.at, f.loose = best.at+int(o.Bytes), false
	if b := f.text.b; f.closed && b[f.at-1] != '\n' && f.at < len(b) && b[f.at] == '\n' {
		f.at++
	}
	return found
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
		if at != f.at && b[at-1] != '\n' { // the runner says a line before it
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
