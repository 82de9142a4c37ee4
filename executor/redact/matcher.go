package redact

import (
	"cmp"
	"errors"
	"fmt"
)

// DefaultMinLength is the shortest value, in bytes that are no white space and
// no control characters: a shorter one is part of too many words.
const DefaultMinLength = 8

// ErrShort is a value too short to be hidden.
var ErrShort = errors.New("value too short to be hidden")

// Secret is a value to hide. Its Name is shown where the value was.
type Secret struct {
	Name       string
	Value      string `json:"-"`
	AllowShort bool   // hide it even if it is short: the log may become hard to read
}

// Format prints the name, whatever is asked for.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "secret %s", s.Name) }

// Options are what can be chosen. The zero value is good.
type Options struct {
	MinLength int // of a value, see DefaultMinLength; 0: that
	// AddMask heeds lines "::add-mask::VALUE" in a log: VALUE is hidden in what
	// follows, and in that line.
	AddMask bool
	// Masked is told of each value that such a line added, once, before
	// anything of what follows the line is looked at: a caller may want to hide
	// it in other logs, too. It may call Add and Counts, but not write or close.
	Masked func(Secret)
}

// Matcher finds a set of secrets in texts, in all the forms that the package
// comment lists. Any number of goroutines may use it.
type Matcher struct{ a *automaton }

// Format prints nothing of the secrets.
func (Matcher) Format(f fmt.State, _ rune) { fmt.Fprint(f, "matcher") }

// NewMatcher compiles secrets. Its error is ErrShort, with the names. What is
// dear is done when a text first has the first letters of a form.
func NewMatcher(secrets []Secret, o Options) (*Matcher, error) {
	forms, err := allForms(secrets, o)
	if err != nil {
		return nil, err
	}
	return &Matcher{newAutomaton(forms)}, nil
}

func allForms(secrets []Secret, o Options) (all []form, err error) {
	least := cmp.Or(o.MinLength, DefaultMinLength)
	var short []error
	for _, s := range secrets {
		size := Size(s.Value)
		if size == 0 || size < least && !s.AllowShort {
			short = append(short, fmt.Errorf("%s: %w: it has %d bytes that count, %d are needed", s.Name, ErrShort, size, least))
			continue
		}
		for _, text := range formsOf(s.Value, min(size, least)) {
			all = append(all, form{text, s.Name})
		}
	}
	return all, errors.Join(short...)
}

// Forms is how many distinct texts are looked for.
func (m *Matcher) Forms() int { return len(m.a.forms) }

// Finding is where a secret is in a text; secrets that overlap are one, which
// has the name of the first.
type Finding struct {
	Start, End int64
	Name       string
}

// Find is the first finding in b that does not begin before from. What stands
// before from is not looked at.
func (m *Matcher) Find(b []byte, from int) (start, end int, name string, ok bool) {
	s := m.Scan()
	take := func(f Finding) {
		if !ok {
			start, end, name, ok = from+int(f.Start), from+int(f.End), f.Name, true
		}
	}
	for rest := b[from:]; len(rest) > 0 && !ok; {
		n := min(len(rest), chunk)
		s.Feed(rest[:n], take)
		rest = rest[n:]
	}
	s.End(take)
	return start, end, name, ok
}

// Scan looks through a text that comes in pieces: what is found does not
// depend on how it was cut.
type Scan struct{ s *scan }

// Scan begins a text.
func (m *Matcher) Scan() *Scan { return &Scan{newScan(m.a)} }

// Feed takes the next piece, and calls found for each finding that is
// complete, in order.
func (s *Scan) Feed(p []byte, found func(Finding)) {
	for len(p) > 0 {
		n := min(len(p), chunk)
		s.s.read(p[:n])
		p = p[n:]
		if len(s.s.groups) > 0 {
			_, hold := s.s.held()
			s.report(hold, found)
		}
	}
}

// End ends the text and calls found for what Feed could not yet know to be
// complete. The beginning of a value at the end of a text is no finding.
func (s *Scan) End(found func(Finding)) { s.report(s.s.at, found) }

func (s *Scan) report(limit int64, found func(Finding)) {
	done := 0
	for ; done < len(s.s.groups) && s.s.groups[done].to <= limit; done++ {
		g := s.s.groups[done]
		found(Finding{g.from, g.to, g.lead.name})
	}
	s.s.groups = append(s.s.groups[:0], s.s.groups[done:]...)
}
