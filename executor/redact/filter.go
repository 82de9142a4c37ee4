package redact

import (
	"encoding/binary"
	"math/bits"
)

// filter finds where a form may begin, and looks at few bytes for it.
//
// Every form begins with a span of as many bytes as the shortest form has. If
// we look at every (span-gram+1)th place of a text, then wherever a form
// begins, one of the places that we look at is in its span with gram bytes
// more. A bitmap says whether these bytes are in the span of any form. Most
// are not, and the loads do not wait for one another, as those of a shift
// table (Wu and Manber) would. Where they are, and at the end of a text, a
// second bitmap says whether a form begins with the bytes at a place; and a
// hash table with the first bytes (the window) of all forms tells exactly, and
// the node to go on from.
type filter struct {
	stride int
	gram   int
	mask   uint32 // of a gram's bytes
	spans  bitmap // grams in the spans
	heads  heads  // beginnings of forms, of one byte up to a gram

	nodes [maxWindow + 1]table // by depth: a window deep, and what is less

	masks []uint32 // of what is left at the last places of a text, of a gram at most
}

// bitmap is a set of numbers, and of some others that hash as they do.
type bitmap struct {
	bits  []uint64
	shift uint
}

func newBitmap(entries int) bitmap {
	size := min(max(bits.Len(uint(entries))+6, 12), 24)
	return bitmap{make([]uint64, 1<<size/64), uint(32 - size)}
}

// has is 1 if the number may be in the set, and 0 if not.
func (m *bitmap) has(n uint32) uint64 {
	h := n * golden >> (m.shift & 31)
	return m.bits[h>>6] >> (h & 63) & 1
}

func (m *bitmap) add(n uint32) {
	h := n * golden >> (m.shift & 31)
	m.bits[h>>6] |= 1 << (h & 63)
}

// heads is a bitmap with a byte for each bit.
type heads struct {
	bytes []uint8
	shift uint
}

func newHeads(entries int) heads {
	size := min(max(bits.Len(uint(entries))+5, 12), 17)
	return heads{make([]uint8, 1<<size), uint(32 - size)}
}

func (h *heads) add(n uint32) { h.bytes[n*golden>>(h.shift&31)] = 1 }

// has is 1 if the number may be in the set, and 0 if not.
func (h *heads) has(n uint32) uint32 { return uint32(h.bytes[n*golden>>(h.shift&31)]) }

const (
	maxWindow = 8
	maxGram   = 4
	maxSpan   = 16 // a longer one saves little and makes the end of a write dear

	golden = 0x9e3779b1 // of multiplicative hashing
)

// measure says how long the span is.
func measure(forms []form) int {
	if len(forms) == 0 {
		return 0
	}
	span := maxSpan
	for _, w := range forms {
		span = min(span, len(w.text))
	}
	return span
}

func (f *filter) build(a *automaton, span int) {
	if span == 0 {
		return
	}
	f.gram = min(span, maxGram)
	f.stride = span - f.gram + 1
	f.mask = ^uint32(0) >> (32 - 8*f.gram)
	for left := span - 1; left > 0; left-- {
		f.masks = append(f.masks, ^uint32(0)>>(32-8*min(left, f.gram)))
	}
	f.spans, f.heads = newBitmap(len(a.forms)*f.stride), newHeads(len(a.forms))
	last := ""
	for _, w := range a.forms {
		if w.text[:span] == last {
			continue
		}
		last = w.text[:span]
		for at := range f.stride {
			f.spans.add(word(last[at:]) & f.mask)
		}
		for n := range f.gram {
			f.heads.add(word(last[:n+1]))
		}
	}
	counts := [maxWindow + 1]int{}
	for _, d := range a.top.depth {
		counts[d]++
	}
	for d := 1; d <= a.window; d++ {
		f.nodes[d].make(counts[d])
	}
	for n := int32(1); n < int32(len(a.top.label)); n++ {
		f.nodes[a.top.depth[n]].put(key(a.top.text(n)), n)
	}
}

// word is the first four bytes, fewer if there are fewer.
func word(s string) uint32 {
	var b [4]byte
	copy(b[:], s)
	return binary.LittleEndian.Uint32(b[:])
}

// key is a text of at most eight bytes as a number.
func key(s string) uint64 {
	var b [8]byte
	copy(b[:], s)
	return binary.LittleEndian.Uint64(b[:])
}

// next finds the first place from a given one on where a form begins, as far
// as can be seen: a window or more of it (the node is deep), or the rest of
// the text is less than a window, and could be the beginning of one. slack
// bytes behind the text must be there to be read. Node 0: there is none.
func (a *automaton) next(d []byte, from, end int) (at int, node int32) {
	f := &a.filter
	look := from + f.stride - 1
	for {
		look = f.look(d, look, end-f.gram)
		if look > end-f.gram {
			return a.ending(d, max(from, look-f.stride+1), end)
		}
		if at, n := a.begin(d, max(from, look-f.stride+1), look+1, end); n > 0 {
			return at, n
		}
		look += f.stride
	}
}

// look is the first place, from a given one on, that is in a span; behind the
// last one if there is none. It is the loop that reads all texts: that at is
// no less than 0 is said for the compiler, which then checks no bounds of d.
func (f *filter) look(d []byte, at, last int) int {
	bits, shift, stride, mask := f.spans.bits, f.spans.shift&31, f.stride, f.mask
	for d = d[:last+4]; at >= 0 && at < len(d)-3; at += stride {
		h := binary.LittleEndian.Uint32(d[at:]) & mask * golden >> (shift & 31)
		if bits[h>>6]>>(h&63)&1 != 0 {
			break
		}
	}
	return at
}

// begin is next for a few places, exactly.
func (a *automaton) begin(d []byte, from, to, end int) (at int, node int32) {
	f := &a.filter
	for at := from; at < to; at++ { // all of which have a gram behind them
		if f.heads.has(binary.LittleEndian.Uint32(d[at:])&f.mask) == 0 {
			continue
		}
		if n := a.find(d, at, end); n > 0 {
			return at, n
		}
	}
	return end, 0
}

// ending is next for the last places, which have less than a span behind them.
// If the last gram is in no span then of those only the ones in it are left.
// Whether something begins there is as good as random, so ending asks for all
// of them before it takes a branch.
func (a *automaton) ending(d []byte, from, end int) (at int, node int32) {
	f := &a.filter
	first := end - f.gram + 1
	if f.spans.has(binary.LittleEndian.Uint32(d[first-1:])&f.mask) == 1 {
		first = end - len(f.masks)
	}
	heads, hits, masks, places := f.heads, uint32(0), f.masks[first-end+len(f.masks):], d[first:end+3]
	for i := 0; i < len(places)-3 && i < len(masks); i++ {
		hits = 2*hits + heads.has(binary.LittleEndian.Uint32(places[i:])&masks[i]) // the last place is the lowest bit
	}
	for hits &= 1<<(end-from) - 1; hits != 0; {
		left := bits.Len32(hits)
		hits &^= 1 << (left - 1)
		at := end - left
		if n := a.find(d, at, end); n > 0 {
			return at, n
		}
	}
	return end, 0
}

// find is the node for a window of the text, or what is left of it.
func (a *automaton) find(d []byte, at, end int) int32 {
	left := min(end-at, a.window)
	return a.filter.nodes[left].get(load(d, at, left))
}

// slack is how much behind its end a text's buffer is read.
const slack = 8

func load(d []byte, at, n int) uint64 {
	return binary.LittleEndian.Uint64(d[at:]) & (^uint64(0) >> (64 - 8*n))
}

// table is a hash table from texts of one length to nodes, with open
// addressing. Dense texts hold no NUL: key 0 is an empty place.
type table struct {
	shift uint
	slots []slot
}

type slot struct {
	key  uint64
	node int32
}

func (t *table) make(entries int) {
	size := bits.Len(uint(entries)) + 1
	t.shift, t.slots = uint(64-size), make([]slot, 1<<size)
}

func (t *table) put(key uint64, n int32) {
	for i := key * 0x9e3779b97f4a7c15 >> t.shift; ; i = (i + 1) & uint64(len(t.slots)-1) {
		if t.slots[i].key == 0 {
			t.slots[i] = slot{key, n}
			return
		}
	}
}

func (t *table) get(key uint64) int32 {
	for i := key * 0x9e3779b97f4a7c15 >> t.shift; ; i = (i + 1) & uint64(len(t.slots)-1) {
		switch t.slots[i].key {
		case key:
			return t.slots[i].node
		case 0:
			return 0
		}
	}
}
