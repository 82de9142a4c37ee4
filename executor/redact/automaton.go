package redact

import (
	"slices"
	"strings"
)

// form is one way to write one value, dense.
type form struct {
	text string
	name string
}

// automaton is what a set of forms is compiled to, and the truth about them:
// Aho and Corasick's ("Efficient string matching", CACM 18, 1975). A node is a
// beginning of a form; after each byte the automaton is at the longest one
// with which what was read ends. What must be held back is just that: the
// node's depth in dense bytes.
//
// Nodes are numbered level by level, in the order of the sorted forms: the
// children of a node have numbers in a row, and deeper nodes higher ones.
type automaton struct {
	forms []form // sorted, no text twice

	label []byte   // of the edge to the node
	child []int32  // the first child; the next node's first child is the end
	fail  []int32  // the longest other node with which this one ends
	depth []uint16 // bytes
	out   []int32  // the longest form with which the node ends, or -1
	some  []int32  // a form that begins with the node

	window int   // bytes by which the filter finds a form, the first of it
	deep   int32 // nodes from this one on are at least a window deep
	filter filter
}

// maxForm is the longest form, in dense bytes. Longer ones are cut into pieces
// that stand for themselves (see pieces): it bounds what is held back.
const maxForm = 1023

// newAutomaton compiles forms. Of two with the same text the first one counts.
func newAutomaton(forms []form) *automaton {
	forms = slices.Clone(forms)
	slices.SortStableFunc(forms, func(x, y form) int { return strings.Compare(x.text, y.text) })
	forms = slices.CompactFunc(forms, func(x, y form) bool { return x.text == y.text })
	a := &automaton{forms: forms}
	a.grow()
	a.link()
	a.filter.build(a)
	return a
}

// grow makes the nodes. Each is a range of the sorted forms: those that begin
// with it.
func (a *automaton) grow() {
	type span struct{ from, to int32 }
	level, next := []span{{0, int32(len(a.forms))}}, []span(nil)
	a.label, a.depth, a.some, a.out = []byte{0}, []uint16{0}, []int32{0}, []int32{-1}
	for depth := 0; len(level) > 0; depth++ {
		node := int32(len(a.label) - len(level)) // the first one of this level
		next = next[:0]
		for _, s := range level {
			a.child = append(a.child, int32(len(a.label)))
			i := s.from
			if i < s.to && len(a.forms[i].text) == depth { // the shortest comes first
				a.out[node] = i
				i++
			}
			node++
			for i < s.to {
				c, from := a.forms[i].text[depth], i
				for i < s.to && a.forms[i].text[depth] == c {
					i++
				}
				next = append(next, span{from, i})
				a.label = append(a.label, c)
				a.depth = append(a.depth, uint16(depth+1))
				a.some = append(a.some, from)
				a.out = append(a.out, -1)
			}
		}
		level, next = next, level
	}
	a.child = append(a.child, int32(len(a.label)))
	a.out[0] = -1
}

// link finds for each node where to go on when none of its children fits.
func (a *automaton) link() {
	a.fail = make([]int32, len(a.label))
	for n := range int32(len(a.label)) {
		for child := a.child[n]; child < a.child[n+1]; child++ {
			if n > 0 {
				f := a.fail[n]
				to := a.step(f, a.label[child])
				for to < 0 && f > 0 {
					f = a.fail[f]
					to = a.step(f, a.label[child])
				}
				a.fail[child] = max(to, 0)
			}
			if a.out[child] < 0 {
				a.out[child] = a.out[a.fail[child]]
			}
		}
	}
}

// step gives the child of a node for a byte, or -1.
func (a *automaton) step(n int32, c byte) int32 {
	from, to := a.child[n], a.child[n+1]
	for ; from < to; from++ {
		if l := a.label[from]; l >= c {
			if l == c {
				return from
			}
			break
		}
	}
	return -1
}

// begins says whether the node is less than a whole form.
func (a *automaton) begins(n int32) bool { return a.child[n] < a.child[n+1] }

// text is what leads to a node.
func (a *automaton) text(n int32) string {
	if n == 0 {
		return ""
	}
	return a.forms[a.some[n]].text[:a.depth[n]]
}

// shortest is the length of the shortest form that begins with a node.
func (a *automaton) shortest(n int32) int {
	text, least := a.text(n), maxForm
	for _, f := range a.forms[a.some[n]:] {
		if !strings.HasPrefix(f.text, text) {
			break
		}
		least = min(least, len(f.text))
	}
	return least
}
