package guard

import (
	"bytes"
	"fmt"
	"math"

	"cleanroom/executor/redact"
)

// content is what can be read front to back: the file, or what something that
// is packed in it holds.
type content struct {
	source
	names  []string // the members that it is in
	depth  int
	frames []frame // what is stored in it, as it is, around the place of the sweep
	tar    int64   // where the header of a tar's next member should be, or -1
	pax    attributes
	looks  [kinds]lookout

	pending []redact.Finding // what was found, mostly ahead of the sweep
	done    map[entry]struct{}
}

// frame is a member that is stored as it is: it is scanned with what it is
// stored in, so that here is only how it is called.
type frame struct {
	name     string
	from, to int64
	tar      int64 // where the next header is, in a tar
	open     bool  // its end is known when it comes
}

const unknown = math.MaxInt64

// sweep goes through the content, and into what is packed in it.
func (c *content) sweep() {
	defer func() { c.s.held += c.grown }()
	for first := true; ; first = false {
		for len(c.ahead()) <= look && c.more() {
		}
		if first {
			c.begin()
		}
		limit := c.end()
		if !c.last {
			limit -= look
		}
		at, what := c.next(limit)
		c.settle(at)
		c.pos = at
		switch {
		case what == atEnd:
			c.leave()
		case what == atHeader:
			c.header()
		case what >= 0:
			if !c.s.full {
				signatures[what].open(c)
			}
			if c.pos == at {
				c.seek(at + 1)
			}
		case c.last:
			c.scan.End(c.note)
			c.settle(unknown)
			return
		}
	}
}

// What the sweep stops at, but for signatures: their numbers.
const (
	atEnd     = -1 - iota // of a frame
	atHeader              // of a tar
	atNothing             // there is no more to see
)

// next is the next place to stop at.
func (c *content) next(limit int64) (at int64, what int) {
	at, what = limit, atNothing
	for i := range c.looks {
		if to, ok := c.looks[i].next(&signatures[i], &c.source, at); ok {
			at, what = to, i
		}
	}
	if c.tar >= c.pos && c.tar <= at {
		at, what = c.tar, atHeader
	}
	if n := len(c.frames); n > 0 && c.frames[n-1].to <= at {
		at, what = max(c.pos, c.frames[n-1].to), atEnd
	}
	return at, what
}

// enter is called at the place where a stored member begins.
func (c *content) enter(f frame) {
	if c.s.full || len(c.frames) == maxFrames {
		return
	}
	if n := len(c.frames); n > 0 {
		f.to = min(f.to, c.frames[n-1].to)
	}
	if len(f.name) > maxName {
		f.name = f.name[:maxName]
	}
	c.frames = append(c.frames, f)
	c.begin()
}

func (c *content) leave() {
	n := len(c.frames) - 1
	c.tar = c.frames[n].tar
	c.frames = c.frames[:n]
}

// begin looks at what stands at the beginning of a content or of a frame: a
// tar, or what cannot be looked into.
func (c *content) begin() {
	c.tar = c.pos
	start := c.peek(16)
	for _, f := range foreign {
		if bytes.HasPrefix(start, []byte(f.magic)) {
			c.s.unsearched(c.members(), fmt.Sprintf(otherArchive, f.name))
		}
	}
}

// origin is where the innermost frame begins, or the content.
func (c *content) origin() int64 {
	if n := len(c.frames); n > 0 {
		return c.frames[n-1].from
	}
	return 0
}

func (c *content) members(more ...string) []string { return c.within(len(c.frames), more...) }

// within names a place in the first n frames.
func (c *content) within(n int, more ...string) []string {
	names := append([]string(nil), c.names...)
	for _, f := range c.frames[:n] {
		names = append(names, f.name)
	}
	return append(names, more...)
}

// settle says of what was found before a place where it was found.
func (c *content) settle(before int64) {
	n := 0
	for ; n < len(c.pending) && c.pending[n].Start < before; n++ {
		f := c.pending[n]
		in := len(c.frames)
		for in > 0 && c.frames[in-1].from > f.Start {
			in--
		}
		at := f.Start
		if in > 0 {
			at -= c.frames[in-1].from
		}
		c.s.secret(c.within(in), at, f.Name)
	}
	c.pending = append(c.pending[:0], c.pending[n:]...)
}
