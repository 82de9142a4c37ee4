package redact

import "sort"

// lens reads a text that comes in pieces, as one of the views (see scan) has
// it, and finds every form in its dense part. What it keeps between two
// pieces does not depend on where they were cut.
type lens struct {
	a    *automaton
	t    *tree // of it: the top until a form seems to begin
	node int32 // what was read ends with this beginning of a form, and no longer one
	// tail are the places of the last dense bytes, those of the node at least.
	tail  []place
	store []place // what tail is a part of
	gap   int     // noise since the last dense byte
	line  int64   // where a line began in that noise, or -1

	d     []byte // the dense part of the piece, after a margin with what came before
	n     int    // how long it is
	index []int32
	text  []byte // the piece
	at    int64  // its place
}

// place is where a dense byte stands, and where a line began between it and
// the dense byte before (the last such place), or -1.
type place struct{ at, line int64 }

// match is a form in a text.
type match struct {
	from, to int64 // what is to be hidden
	start    int64 // where the form begins: before from, if a line end came early
	name     string
}

// margin is how much of what was read before stands before the dense part: a
// form may have begun there of which less than a window has been seen, and the
// filter's end looks back by a span.
const margin = maxSpan

func newLens(a *automaton) *lens {
	return &lens{
		a: a, t: a.top, line: -1,
		store: make([]place, 0, 64),
		d:     make([]byte, margin+chunk+slack),
		index: make([]int32, chunk/block+1),
	}
}

// become makes it as another lens is.
func (l *lens) become(other *lens) {
	l.t, l.node, l.gap, l.line = other.t, other.node, other.gap, other.line
	l.store = append(l.store[:0], other.tail...)
	l.tail = l.store
	copy(l.d[:margin], other.d)
}

// agrees says that the two find the same in whatever comes.
func (l *lens) agrees(other *lens) bool {
	if l.node != other.node {
		return false
	}
	if l.node == 0 {
		return true
	}
	if l.gap != other.gap || l.line != other.line || len(l.tail) != len(other.tail) {
		return false
	}
	for i, p := range l.tail {
		if p != other.tail[i] {
			return false
		}
	}
	return true
}

// read takes the next piece, which is at most a chunk, and calls found for
// each place where a form ends, with the longest form that ends there: what
// else ends there is part of it.
func (l *lens) read(text []byte, at int64, found func(match)) {
	for len(text) > 0 {
		n := l.bridge(text)
		l.text, l.at = text[:n], at
		l.piece(found)
		if l.gap > maxGap {
			l.node, l.tail = 0, nil
		}
		text, at = text[n:], at+int64(n)
	}
}

// bridge is the end of the first run of noise that no match can cross, or of
// the text.
func (l *lens) bridge(text []byte) int {
	if l.gap+len(text) <= maxGap {
		return len(text)
	}
	lead := 0
	for lead < len(text) && dense[text[lead]] == 0 {
		lead++
	}
	if lead > 0 && l.gap <= maxGap && l.gap+lead > maxGap {
		return lead
	}
	// A run longer than maxGap covers one of the places maxGap apart.
	for t := lead; t < len(text); t += maxGap {
		if dense[text[t]] == 1 {
			continue
		}
		from, to := t, t+1
		for dense[text[from-1]] == 0 { // text[lead] is dense
			from--
		}
		for to < len(text) && dense[text[to]] == 0 {
			to++
		}
		if to-from > maxGap {
			return to
		}
	}
	return len(text)
}

// piece reads the piece.
func (l *lens) piece(found func(match)) {
	l.n = squeeze(l.d[margin:], l.text, l.index)
	if l.n == 0 {
		l.gap += len(l.text)
		if line := lastLine(l.text, len(l.text), l.at); line >= 0 {
			l.line = line
		}
		return
	}
	if len(l.a.forms) > 0 {
		l.node = l.run(found)
	}
	l.remember()
}

// run goes through the dense part and gives the node at its end.
func (l *lens) run(found func(match)) int32 {
	a, t, n, d, end := l.a, l.t, l.node, l.d, margin+l.n
	at := margin
	for {
		// Awake: at a node a window deep or more, byte by byte. A window that was
		// begun before this piece is not yet found by its hash: go back to it.
		for n >= a.deep && at < end {
			next := t.step(n, d[at])
			for next < 0 && n >= a.deep {
				n = t.fail[n]
				if n >= a.deep {
					next = t.step(n, d[at])
				}
			}
			if next < 0 {
				break // less than a window deep, and the byte not yet read
			}
			n = next
			at++
			l.ends(n, at, found)
		}
		if n >= a.deep {
			break
		}
		// Asleep: whatever begins before the place that the filter gives is none.
		from, node := a.next(d, at-int(t.depth[n]), end)
		if node < a.deep {
			n = node
			break
		}
		t = a.whole()
		l.t = t
		n, at = node, from+a.window
		l.ends(n, at, found)
	}
	// A whole form that no longer one begins with is done.
	for n > 0 && !t.begins(n) {
		n = t.fail[n]
	}
	*(*[margin]byte)(d) = [margin]byte(d[l.n:]) // what the next piece comes after
	return n
}

// ends reports the form with which a node ends, if there is one.
func (l *lens) ends(n int32, at int, found func(match)) {
	w := l.t.out[n]
	if w < 0 {
		return
	}
	size := len(l.a.forms[w].text)
	first := at - margin - size
	m := match{start: l.place(first).at, to: l.place(at-margin-1).at + 1, name: l.a.forms[w].name}
	m.from = m.start
	head := min(early, size)
	for i := 1; i < head && first < 0; i++ {
		if p := l.place(first + i); p.line >= 0 {
			m.from = p.line
		}
	}
	if first >= 0 { // all in this piece: walk, a search for each would be slow
		line := int64(-1)
		for at := int(m.start-l.at) + 1; head > 1; at++ {
			switch c := l.text[at]; {
			case dense[c] == 1:
				head--
				m.from = max(m.from, line)
			case lineEnd(c):
				line = l.at + int64(at) + 1
			}
		}
	}
	found(m)
}

// held says where the alive beginning of a form begins, and from where on it
// must be held back; false: there is none.
func (l *lens) held() (from, hold int64, ok bool) {
	depth := int(l.t.depth[l.node])
	if depth == 0 {
		return 0, 0, false
	}
	tail := l.tail[len(l.tail)-depth:]
	return tail[0].at, l.visible(tail), true
}

// visible is from where on an alive beginning, whose places are given, is
// hidden if it becomes a match: behind a line end that came early.
func (l *lens) visible(places []place) int64 {
	hold := places[0].at
	for _, p := range places[1:min(early, len(places))] {
		if p.line >= 0 {
			hold = p.line
		}
	}
	if len(places) < early && l.line >= 0 {
		hold = l.line
	}
	return hold
}

// long finds the longest alive beginning that is long (see Redactor.Close).
func (l *lens) long() (match, bool) {
	for n := l.node; n > 0; n = l.t.fail[n] {
		depth := int(l.t.depth[n])
		if depth < min(longPrefix, max(early, (l.t.shortest(n)+1)/2)) {
			continue
		}
		tail := l.tail[len(l.tail)-depth:]
		return match{from: l.visible(tail), to: tail[depth-1].at + 1, start: tail[0].at, name: l.a.forms[l.t.some[n]].name}, true
	}
	return match{}, false
}

// place finds a dense byte of the piece; a negative one is before the piece.
func (l *lens) place(i int) place {
	if i < 0 {
		return l.tail[len(l.tail)+i]
	}
	blocks := l.index[:(len(l.text)+block-1)/block]
	b := sort.Search(len(blocks), func(b int) bool { return int(blocks[b]) > i }) - 1
	at, left := b*block, i-int(blocks[b])
	for ; ; at++ {
		if dense[l.text[at]] == 1 {
			if left == 0 {
				return l.placeAt(at)
			}
			left--
		}
	}
}

func (l *lens) placeAt(at int) place {
	p := place{at: l.at + int64(at), line: lastLine(l.text, at, l.at)}
	if p.line < 0 && allNoise(l.text[:at]) {
		p.line = l.line
	}
	return p
}

// lastLine is where the last line began in the noise that ends at a place.
func lastLine(text []byte, end int, at int64) int64 {
	for i := end - 1; i >= 0 && dense[text[i]] == 0; i-- {
		if lineEnd(text[i]) {
			return at + int64(i) + 1
		}
	}
	return -1
}

func allNoise(text []byte) bool {
	for i := len(text) - 1; i >= 0; i-- {
		if dense[text[i]] == 1 {
			return false
		}
	}
	return true
}

// remember keeps what the next piece needs of this one.
func (l *lens) remember() {
	need := int(l.t.depth[l.node])
	add := min(need, l.n)
	kept := l.tail[len(l.tail)-(need-add):]
	if add > cap(l.store)-len(l.store) || len(kept) == 0 {
		// Move to the front; to twice the room if that is not enough.
		if 2*need > cap(l.store) {
			l.store = append(make([]place, 0, 4*need), kept...)
		} else {
			l.store = append(l.store[:0], kept...)
		}
		kept = l.store
	}
	start := len(l.store) - len(kept)
	l.store = l.store[:len(l.store)+add]
	l.tail = l.store[start:]
	end := len(l.text)
	for i := len(l.tail) - 1; i >= len(kept); i-- {
		for end--; dense[l.text[end]] == 0; end-- {
		}
		l.tail[i] = l.placeAt(end)
	}
	last := len(l.text) - 1
	l.line = -1
	for ; dense[l.text[last]] == 0; last-- {
		if l.line < 0 && lineEnd(l.text[last]) {
			l.line = l.at + int64(last) + 1
		}
	}
	l.gap = len(l.text) - 1 - last
}
