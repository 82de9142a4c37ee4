package redact

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// form is one way to write one value, dense.
type form struct {
	text string
	name string
}

// automaton is what a set of forms is compiled to. It never changes, but for
// the tree of all nodes, which is made when it is first needed: every stage of
// a job is a process of its own, and in most of them no form ever begins.
type automaton struct {
	forms  []form // sorted, no text twice
	window int    // bytes by which the filter finds a form, the first of it
	deep   int32  // nodes from this one on are at least a window deep
	filter filter
	top    *tree // as deep as the window: its numbers are those of the whole
	whole  func() *tree
}

// tree is Aho and Corasick's ("Efficient string matching", CACM 18, 1975), and
// the truth about the forms. A node is a beginning of a form; after each byte
// we are at the longest one with which what was read ends. What must be held
// back is just that: the node's depth in dense bytes.
//
// Nodes are numbered level by level, in the order of the sorted forms: the
// children of a node have numbers in a row, and deeper nodes higher ones.
type tree struct {
	forms []form

	root  [256]int32 // the root's child for a byte, or 0
	label []byte     // of the edge to the node
	child []int32    // the first child; the next node's first child is the end
	fail  []int32    // the longest other node with which this one ends
	depth []uint16   // bytes
	out   []int32    // the longest form with which the node ends, or -1
	some  []int32    // a form that begins with the node
}

// maxForm is the longest form, in dense bytes. Longer ones are cut into pieces
// that stand for themselves (see pieces): it bounds what is held back.
const maxForm = 1023

// newAutomaton compiles forms. Of two with the same text the first one counts.
func newAutomaton(forms []form) *automaton {
	forms = sorted(forms)
	a := &automaton{forms: forms}
	span := measure(forms)
	a.window = min(span, maxWindow)
	a.top = newTree(forms, a.window)
	a.whole = sync.OnceValue(func() *tree { return newTree(forms, maxForm) })
	a.deep = int32(len(a.top.label))
	for a.deep > 1 && int(a.top.depth[a.deep-1]) == a.window {
		a.deep--
	}
	a.filter.build(a, span)
	return a
}

// sorted are the forms by text, each once. It sorts numbers: a stable sort of
// the forms takes twice as long.
func sorted(forms []form) (all []form) {
	order := make([]int32, len(forms))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(x, y int32) int {
		return cmp.Or(strings.Compare(forms[x].text, forms[y].text), int(x-y))
	})
	all = make([]form, 0, len(forms))
	for _, i := range order {
		if f := forms[i]; len(all) == 0 || all[len(all)-1].text != f.text {
			all = append(all, f)
		}
	}
	return all
}

// newTree makes the nodes down to a depth.
func newTree(forms []form, deepest int) *tree {
	t := &tree{forms: forms}
	t.grow(deepest)
	t.link()
	return t
}

// size is how many nodes there are down to a depth: each form adds what it
// does not share with the one before.
func size(forms []form, deepest int) int {
	n, before := 1, ""
	for _, f := range forms {
		text, shared := f.text[:min(len(f.text), deepest)], 0
		for shared < min(len(text), len(before)) && text[shared] == before[shared] {
			shared++
		}
		n += len(text) - shared
		before = text
	}
	return n
}

// grow makes the nodes. Each is a range of the sorted forms: those that begin
// with it.
func (t *tree) grow(deepest int) {
	type span struct{ from, to int32 }
	n := size(t.forms, deepest)
	t.label, t.depth, t.some, t.out = make([]byte, 1, n), make([]uint16, 1, n), make([]int32, 1, n), make([]int32, 1, n)
	t.child = make([]int32, 0, n+1)
	t.out[0] = -1
	level, next := []span{{0, int32(len(t.forms))}}, []span(nil)
	for depth := 0; len(level) > 0; depth++ {
		node := int32(len(t.label) - len(level)) // the first one of this level
		next = next[:0]
		for _, s := range level {
			t.child = append(t.child, int32(len(t.label)))
			i := s.from
			if i < s.to && len(t.forms[i].text) == depth { // the shortest comes first
				t.out[node] = i
				i++
			}
			node++
			for i < s.to && depth < deepest {
				c, from := t.forms[i].text[depth], i
				for i < s.to && t.forms[i].text[depth] == c {
					i++
				}
				next = append(next, span{from, i})
				t.label = append(t.label, c)
				t.depth = append(t.depth, uint16(depth+1))
				t.some = append(t.some, from)
				t.out = append(t.out, -1)
			}
		}
		level, next = next, level
	}
	t.child = append(t.child, int32(len(t.label)))
	for n := t.child[0]; n < t.child[1]; n++ {
		t.root[t.label[n]] = n
	}
}

// link finds for each node where to go on when none of its children fits.
func (t *tree) link() {
	t.fail = make([]int32, len(t.label))
	for n := range int32(len(t.label)) {
		for child := t.child[n]; child < t.child[n+1]; child++ {
			if n > 0 {
				c, f := t.label[child], t.fail[n]
				to := t.step(f, c)
				for to < 0 && f > 0 {
					f = t.fail[f]
					to = t.step(f, c)
				}
				t.fail[child] = max(to, 0)
			}
			if t.out[child] < 0 {
				t.out[child] = t.out[t.fail[child]]
			}
		}
	}
}

// step gives the child of a node for a byte, or -1.
func (t *tree) step(n int32, c byte) int32 {
	if n == 0 {
		if child := t.root[c]; child > 0 {
			return child
		}
		return -1
	}
	from, to := t.child[n], t.child[n+1]
	for ; from < to; from++ {
		if l := t.label[from]; l >= c {
			if l == c {
				return from
			}
			break
		}
	}
	return -1
}

// begins says whether the node is less than a whole form.
func (t *tree) begins(n int32) bool { return t.child[n] < t.child[n+1] }

// text is what leads to a node.
func (t *tree) text(n int32) string {
	if n == 0 {
		return ""
	}
	return t.forms[t.some[n]].text[:t.depth[n]]
}

// shortest is the length of the shortest form that begins with a node.
func (t *tree) shortest(n int32) int {
	text, least := t.text(n), maxForm
	for _, f := range t.forms[t.some[n]:] {
		if !strings.HasPrefix(f.text, text) {
			break
		}
		least = min(least, len(f.text))
	}
	return least
}
