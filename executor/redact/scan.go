package redact

import (
	"bytes"
	"slices"
)

// scan looks at a text in two views at once. In one, an escape sequence is
// text like any other but for its ESC; in the other it is noise. Each sees
// what the other does not: a value that a tool coloured, and a value of which
// a job makes an escape sequence swallow the first letters.
//
// While there is no escape sequence the two are the same, and one lens reads.
type scan struct {
	plain *lens
	faded *lens // without the sequences; not used while two is false
	two   bool
	esc   escapes
	copy  []byte
	add   func(match)

	at     int64   // what was read
	groups []group // found, disjoint, in order
}

// group is a run of matches that overlap. It has the name of the one that
// begins first; of those, of the longest.
type group struct {
	from, to int64
	lead     match
}

func newScan(a *automaton) *scan {
	s := &scan{plain: newLens(a)}
	s.add = s.found
	return s
}

// read takes the next piece, which is at most a chunk.
func (s *scan) read(text []byte) {
	if !s.two && s.esc.state == ground && bytes.IndexByte(text, 0x1b) < 0 {
		s.plain.read(text, s.at, s.add)
		s.at += int64(len(text))
		return
	}
	if s.faded == nil {
		s.faded = newLens(s.plain.a)
	}
	if !s.two {
		s.two = true
		s.faded.become(s.plain)
	}
	s.copy = append(s.copy[:0], text...)
	s.esc.blank(s.copy)
	s.plain.read(text, s.at, s.add)
	s.faded.read(s.copy, s.at, s.add)
	s.two = s.esc.state != ground || !s.plain.agrees(s.faded)
	s.at += int64(len(text))
}

// found adds a match to the groups.
func (s *scan) found(m match) { s.merge(group{m.from, m.to, m}) }

func (s *scan) merge(g group) {
	// Matches come in the order of their ends, nearly: the place is at the end.
	first := len(s.groups)
	for first > 0 && s.groups[first-1].to > g.from {
		first--
	}
	last := first
	for ; last < len(s.groups) && s.groups[last].from < g.to; last++ {
		other := s.groups[last]
		g.from, g.to = min(g.from, other.from), max(g.to, other.to)
		if other.lead.before(g.lead) {
			g.lead = other.lead
		}
	}
	s.groups = slices.Replace(s.groups, first, last, g)
}

// before says which of two matches names both. The last line is for matches
// of both views that differ in nothing but the name: any rule will do.
func (m match) before(other match) bool {
	switch {
	case m.from != other.from:
		return m.from < other.from
	case m.to != other.to:
		return m.to > other.to
	case m.start != other.start:
		return m.start < other.start
	default:
		return m.name < other.name
	}
}

// held says from where on the text can still become a match, and what must be
// hidden from where on if it does (see early).
func (s *scan) held() (from, hold int64) {
	from, hold, ok := s.plain.held()
	if !ok {
		from, hold = s.at, s.at
	}
	if s.two {
		if f, h, ok := s.faded.held(); ok {
			from, hold = min(from, f), min(hold, h)
		}
	}
	return from, hold
}

// finish takes what a match was the long beginning of for a match.
func (s *scan) finish() {
	if m, ok := s.plain.long(); ok {
		s.found(m)
	}
	if s.two {
		if m, ok := s.faded.long(); ok {
			s.found(m)
		}
	}
}
