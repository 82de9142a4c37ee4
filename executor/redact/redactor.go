package redact

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// ErrClosed is a write to a redactor that was closed.
var ErrClosed = errors.New("redactor is closed")

// longPrefix is how many dense bytes of a form are hidden at the end of a
// stage although the form is not complete.
const longPrefix = DefaultMinLength

// Redactor is a log's: it writes to one writer what is written to it, without
// the secrets. Any number of goroutines may write: the order in which they
// come is that of the log.
type Redactor struct {
	mu      sync.Mutex
	telling bool      // Options.Masked runs, without mu; whoever writes waits
	told    sync.Cond // it is done
	s       *stream   // a pointer: what it holds is in no %v of a copy
}

// Format prints nothing of the log and of the secrets.
func (r *Redactor) Format(f fmt.State, _ rune) { fmt.Fprint(f, "redactor") }

// stream is what a Redactor guards.
type stream struct {
	w       io.Writer
	options Options
	forms   []form // in the order they came
	scan    *scan
	masks   masks

	buf    []byte // what was read and may still be needed
	at     int64  // of buf's first byte
	shown  int64  // what was let out, or hidden
	hidden int64  // the end of the last replacement
	name   string // in it
	out    []byte
	counts map[string]int
	err    error
}

// New gives a redactor of a log that goes to w. Its error is ErrShort.
func New(w io.Writer, secrets []Secret, o Options) (*Redactor, error) {
	forms, err := allForms(secrets, o)
	if err != nil {
		return nil, err
	}
	r := &Redactor{s: &stream{
		w: w, options: o, forms: forms, scan: newScan(newAutomaton(forms)),
		masks: masks{lineStart: true, known: map[string]bool{}}, hidden: -1, counts: map[string]int{},
	}}
	r.told.L = &r.mu
	return r, nil
}

// Write lets out all that cannot be the beginning of a secret, at once. An
// error of the writer below is returned, by every later call too.
func (r *Redactor) Write(p []byte) (int, error) {
	r.lock()
	defer r.mu.Unlock()
	if r.s.err != nil {
		return 0, r.s.err
	}
	if r.s.options.AddMask {
		for rest := p; len(rest) > 0; {
			rest = r.s.lines(rest)
			r.tell()
		}
	} else {
		r.s.text(p)
	}
	if r.s.flush(); r.s.err != nil {
		return 0, r.s.err
	}
	return len(p), nil
}

// lock waits for whoever writes.
func (r *Redactor) lock() {
	r.mu.Lock()
	for r.telling {
		r.told.Wait()
	}
}

// tell calls Masked for what a line added. Add is free meanwhile: it may be
// Masked that calls it.
func (r *Redactor) tell() {
	fresh := r.s.masks.fresh
	if len(fresh) == 0 {
		return
	}
	r.s.masks.fresh = nil
	if r.s.options.Masked == nil {
		return
	}
	r.telling = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.telling = false
		r.told.Broadcast()
	}()
	for _, s := range fresh {
		r.s.options.Masked(s)
	}
}

// Add hides more secrets in whatever is written from now on, and in all that
// was not yet let out. Its error is ErrShort: then none is added.
func (r *Redactor) Add(secrets []Secret) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.s.learn(secrets)
}

// Close ends a stage's log. What is still held is the beginning of a form. It
// is shown if that is short. It is hidden if it is long: longPrefix bytes (a
// value of that length is worth hiding, and chance does not make as much of
// one), or half of a shorter form (of a password of ten letters five are too
// many to show), but at least four.
func (r *Redactor) Close() error {
	r.lock()
	defer r.mu.Unlock()
	if errors.Is(r.s.err, ErrClosed) {
		return nil
	}
	if r.s.err == nil {
		r.s.lastLine()
		r.tell()
		r.s.scan.finish()
		r.s.release(r.s.scan.at, r.s.scan.at, r.s.scan.at+1)
		r.s.flush()
	}
	err := r.s.err
	r.s.err = ErrClosed
	return err
}

// Counts is how often each secret was replaced. Secrets that overlap count as
// the first, and what touches its like as one.
func (r *Redactor) Counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.s.counts)
}

// text takes what is to be looked at.
func (s *stream) text(p []byte) {
	for len(p) > 0 {
		n := min(len(p), chunk)
		s.scan.read(p[:n])
		from, hold := s.scan.held()
		if len(s.buf) == 0 && len(s.scan.groups) == 0 && len(s.out) == 0 { // nearly always
			s.write(p[:hold-s.at])
			s.buf = append(s.buf, p[from-s.at:n]...)
			s.at, s.shown = from, hold
		} else {
			s.buf = append(s.buf, p[:n]...)
			s.release(from, hold, hold)
		}
		p = p[n:]
		if len(s.out) >= chunk {
			s.flush()
		}
	}
}

// release lets out what stands before hold, with each group replaced that
// begins before limit: nothing that comes can make it begin earlier. It may
// still become longer: what is added to it is hidden without a second name.
func (s *stream) release(from, hold, limit int64) {
	if len(s.scan.groups) == 0 && len(s.out) == 0 {
		if hold > s.shown {
			s.write(s.buf[s.shown-s.at : hold-s.at])
			s.shown = hold
		}
		s.drop(min(from, s.shown))
		return
	}
	done := 0
	for ; done < len(s.scan.groups) && s.scan.groups[done].from < limit; done++ {
		g := s.scan.groups[done]
		if g.to <= s.shown {
			continue
		}
		s.show(g.from)
		if touches := g.from == s.hidden && g.lead.name == s.name; g.from >= s.hidden && !touches {
			s.replace(g.lead.name)
		}
		s.shown, s.hidden = g.to, g.to
	}
	if done > 0 {
		s.scan.groups = slices.Delete(s.scan.groups, 0, done)
	}
	s.show(hold)
	s.drop(min(from, s.shown))
}

func (s *stream) replace(name string) {
	s.out = append(append(append(s.out, "[cleanroom: "...), name...), ']')
	s.counts[name]++
	s.name = name
}

// show lets out what was not, up to a place.
func (s *stream) show(to int64) {
	if to > s.shown {
		s.out = append(s.out, s.buf[s.shown-s.at:to-s.at]...)
		s.shown = to
	}
}

// drop forgets what stands before a place, when that is most of it: moving
// the rest for each byte would make a long hold slow.
func (s *stream) drop(to int64) {
	n := int(to - s.at)
	if n == len(s.buf) || n > len(s.buf)/2 {
		s.buf = append(s.buf[:0], s.buf[n:]...)
		s.at = to
	}
}

// flush writes what was let out.
func (s *stream) flush() {
	if len(s.out) > 0 {
		s.write(s.out)
		s.out = s.out[:0]
	}
}

func (s *stream) write(p []byte) {
	if s.err != nil || len(p) == 0 {
		return
	}
	n, err := s.w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	s.err = err
}

// learn compiles all forms anew and looks again at what was not yet let out.
func (s *stream) learn(secrets []Secret) error {
	forms, err := allForms(secrets, s.options)
	if err != nil || len(forms) == 0 {
		return err
	}
	old := s.scan
	from, _ := old.held()
	from = min(from, s.shown)
	s.forms = append(s.forms, forms...)
	s.scan = newScan(newAutomaton(s.forms))
	s.scan.at = from
	for rest := s.buf[from-s.at:]; len(rest) > 0; {
		n := min(len(rest), chunk)
		s.scan.read(rest[:n])
		rest = rest[n:]
	}
	// Where the rest begins the view without escape sequences may have been
	// inside of one; from here on it is again what it was.
	s.scan.esc = old.esc
	for _, g := range old.groups {
		s.scan.merge(g)
	}
	return nil
}
