package guard

import (
	"io"

	"cleanroom/executor/redact"
)

const (
	step = 1 << 20 // what is read in one go
	// look is how much the sweep sees of what is before it: a zip's local header
	// with the longest name and extra field fits. It is also by how much the scan
	// is ahead, so that a secret is known when the sweep passes it.
	look = 160 << 10
	// back is how much of what was passed is held at least, to go back to if
	// something was not what it looked like.
	back   = 128 << 10
	window = back + look + step
	// buffered is how much an unpacker may have read of its input but not used.
	// It counts as work: a zip of many small members must not look like a bomb.
	buffered = 4 << 10
)

// source is what a content is read from. It holds a window of it; what comes
// in is scanned once.
type source struct {
	s    *search
	top  bool        // it is the file itself
	file io.ReaderAt // has all of it, size bytes; or
	size int64
	r    io.Reader // an unpacker gives it

	buf   []byte
	base  int64 // where buf begins
	pos   int64
	last  bool  // nothing comes behind buf
	err   error // why that is so, if it is not the end
	keep  bool  // all of it, if there is memory: it has a zip
	grown int   // how much more than a window that takes

	scan *redact.Scan
	seen int64 // how much was scanned
	note func(redact.Finding)
}

func (c *source) end() int64    { return c.base + int64(len(c.buf)) }
func (c *source) ahead() []byte { return c.buf[c.pos-c.base:] }

// more reads on. False: there is no more.
func (c *source) more() bool {
	if c.last {
		return false
	}
	if err := c.s.ctx.Err(); err != nil {
		c.s.fail(err)
	}
	if c.s.stopped || c.s.full && !c.top {
		c.last, c.err = true, errFull
		return false
	}
	c.room()
	from := c.end()
	n, err := c.read(c.buf[len(c.buf):cap(c.buf)])
	c.buf = c.buf[:len(c.buf)+n]
	if err != nil {
		c.last = true
		if err != io.EOF {
			c.err = err
		}
	}
	if !c.top || from < c.seen {
		c.s.spend(int64(n))
	}
	if from <= c.seen && c.end() > c.seen {
		fresh := c.buf[c.seen-c.base:]
		wait := c.summed(fresh)
		c.scan.Feed(fresh, c.note)
		wait()
		c.seen = c.end()
	}
	return n > 0
}

// besides is from how many bytes on a goroutine costs less than it saves.
const besides = 32 << 10

// summed hashes what is being scanned. The scan and the hash take about as
// long as each other, and neither writes to it: they go on side by side.
func (c *source) summed(p []byte) (wait func()) {
	switch {
	case !c.top || c.s.sum == nil:
		return func() {}
	case len(p) < besides:
		c.s.sum.Write(p)
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.s.sum.Write(p)
	}()
	return func() { <-done }
}

// room makes some in buf: it forgets what was passed, or gets a larger one.
func (c *source) room() {
	if cap(c.buf)-len(c.buf) >= step/2 {
		return
	}
	if c.keep = c.keep && c.base == 0 && c.file == nil && c.s.held >= step; c.keep {
		more := min(cap(c.buf), c.s.held)
		c.buf = append(make([]byte, 0, cap(c.buf)+more), c.buf...)
		c.grown += more
		c.s.held -= more
		return
	}
	drop := int(c.pos-c.base) - back
	if drop <= 0 {
		return // what is ahead is less than look: there is room
	}
	c.buf = c.buf[:copy(c.buf, c.buf[drop:])]
	c.base += int64(drop)
}

// read fills p, as far as there is something.
func (c *source) read(p []byte) (n int, err error) {
	p = p[:min(len(p), step)]
	if c.r != nil {
		for idle := 0; n < len(p) && err == nil; idle++ {
			var k int
			if k, err = c.r.Read(p[n:]); k > 0 {
				idle = 0
			} else if idle > 100 && err == nil {
				err = io.ErrNoProgress
			}
			n += k
		}
		return n, err
	}
	left := c.size - c.end()
	if left <= 0 {
		return 0, io.EOF
	}
	n, err = c.file.ReadAt(p[:min(int64(len(p)), left)], c.end())
	switch {
	case int64(n) == left:
		err = io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF // it is shorter than it was said to be
	}
	return n, err
}

// Read is for the unpacker of something that lies at pos.
func (c *source) Read(p []byte) (int, error) {
	if c.s.stopped || c.s.full {
		return 0, errFull
	}
	if c.pos == c.end() && !c.more() {
		if c.err != nil {
			return 0, c.err
		}
		return 0, io.EOF
	}
	n := copy(p, c.ahead())
	c.pos += int64(n)
	c.s.spend(int64(n))
	return n, nil
}

// ReadAt reads what is held, or can be had again.
func (c *source) ReadAt(p []byte, at int64) (n int, err error) {
	held := at >= c.base && at <= c.end()
	if held {
		n = copy(p, c.buf[at-c.base:])
	}
	switch {
	case n == len(p):
		return n, nil
	case c.file != nil:
		if !c.s.spend(int64(len(p))) {
			return 0, errFull
		}
		return io.NewSectionReader(c.file, 0, c.size).ReadAt(p, at)
	case held && c.last:
		return n, io.EOF
	}
	return n, errGone
}

// seek goes to a place, if that is held or can be had again; otherwise as
// near as it can.
func (c *source) seek(to int64) bool {
	switch {
	case to >= c.base && to <= c.end():
		c.pos = to
	case c.file != nil && to >= 0 && to <= c.size:
		c.buf, c.base, c.pos, c.last = c.buf[:0], to, to, false
	default:
		c.pos = max(c.base, min(to, c.end()))
		return false
	}
	return true
}

// peek is at most n of the bytes at pos.
func (c *source) peek(n int) []byte {
	b := c.ahead()
	return b[:min(n, len(b))]
}
