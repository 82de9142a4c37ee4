package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

const (
	localSize = 30 // of the fixed part of a local header
	entrySize = 46 // and of an entry of the directory
	endSize   = 22 // and of what ends that
	end64Size = 56
	locator   = 20 // which stands between the two ends of a large zip

	deflated      = 8
	flagEncrypted = 1
	flagLater     = 8 // the sizes stand behind the data
	aes           = 99
)

// entry is what was looked at. Of the same data a local header may say
// something else than the directory does.
type entry struct {
	at        int64 // of the local header
	method    uint16
	encrypted bool
}

// isZip is for the parts of a zip that the sweep stops at: a local header, the
// end of a directory, what stands behind the data of a member.
func isZip(b []byte) bool {
	return len(b) >= 16 && b[0] == 'P' && (b[2] == 3 && b[3] == 4 || b[2] == 5 && b[3] == 6 || b[2] == 7 && b[3] == 8)
}

// zip looks at the part of a zip that lies at the place of the sweep.
func (c *content) zip() {
	switch at := c.pos; c.peek(3)[2] {
	case 3:
		c.keep = true
		c.local()
	case 5:
		c.directory()
		c.seek(at + 4)
	case 7:
		c.behind()
	}
}

// asIs is whether a member lies in a zip as it is: not packed, or as a stream
// that is known by its own signature.
func asIs(method uint16) bool {
	return method == 0 || method == 12 || method == 93 || method == 95
}

// local looks at a member as its local header describes it.
func (c *content) local() {
	h := c.peek(look)
	if len(h) < localSize {
		return
	}
	m := member{at: c.pos, flags: u16(h[6:]), method: u16(h[8:]), size: uint64(u32(h[18:]))}
	name, extra := int(u16(h[26:])), int(u16(h[28:]))
	data := localSize + name + extra
	if h[4] > 63 || m.method > aes || m.flags&0xd000 != 0 || len(h) < data {
		return // by chance
	}
	m.name = string(h[localSize:][:min(name, maxName)])
	m.data = c.pos + int64(data)
	large(h[data-extra:data], u32(h[22:]) == 1<<32-1, &m.size)
	if !c.s.member() {
		return
	}
	c.first(m)
	c.pos = m.data
	if !asIs(m.method) || m.encrypted() {
		c.packed(m)
		return
	}
	f := frame{name: m.name, from: m.data, to: unknown, open: m.flags&flagLater != 0 && m.size == 0}
	if !f.open && m.size < unknown-uint64(m.data) {
		f.to = m.data + int64(m.size)
	}
	f.tar = -1
	if f.to > f.from {
		c.enter(f)
	}
}

// member is what a zip says of one.
type member struct {
	at, data      int64
	name          string
	flags, method uint16
	size          uint64 // as it is packed
}

func (m member) encrypted() bool { return m.flags&flagEncrypted != 0 || m.method == aes }

// packed looks into a member that lies at the place of the sweep and is packed
// in a way that only the zip tells.
func (c *content) packed(m member) {
	names := c.members(m.name)
	switch {
	case m.encrypted():
		c.s.unsearched(names, encrypted)
	case m.method == deflated:
		c.unpack(inflate, true, m.name)
	default:
		c.s.unsearched(names, fmt.Sprintf(otherMethod, m.method))
	}
}

// behind ends the frame of a member of which only what stands behind it says
// how long it is.
func (c *content) behind() {
	b := c.peek(16)
	for i := len(c.frames) - 1; i >= 0; i-- {
		size := uint64(c.pos - c.frames[i].from)
		if c.frames[i].open && (uint64(u32(b[8:])) == size || u64(b[8:]) == size) {
			c.tar = -1
			c.frames = c.frames[:i]
			return
		}
	}
}

// large gives sizes that had no room in the header, in their order.
func large(extra []byte, skip bool, sizes ...*uint64) {
	for len(extra) >= 4 {
		id, n := u16(extra), int(u16(extra[2:]))
		extra = extra[4:]
		if n > len(extra) {
			return
		}
		if id == 1 {
			field := extra[:n]
			if skip && n >= 8 { // how large it is when unpacked
				field = field[8:]
			}
			for _, s := range sizes {
				if *s == 1<<32-1 && len(field) >= 8 {
					*s, field = u64(field), field[8:]
				}
			}
			return
		}
		extra = extra[n:]
	}
}

// directory visits what only the directory that ends at the place of the sweep
// knows of. Where it begins can be found in two ways, and unpackers differ: it
// is in front of its end, or where that says.
func (c *content) directory() {
	var end [endSize]byte
	if _, err := c.ReadAt(end[:], c.pos); err != nil {
		return
	}
	to, size, offset := c.pos, uint64(u32(end[12:])), uint64(u32(end[16:]))
	var end64 [end64Size + locator]byte
	if _, err := c.ReadAt(end64[:], c.pos-int64(len(end64))); err == nil && string(end64[:4]) == "PK\x06\x06" {
		to -= int64(len(end64))
		size, offset = u64(end64[40:]), u64(end64[48:])
	}
	if size > uint64(to) || offset > uint64(to) {
		return
	}
	start := to - int64(size)
	c.entries(start, start-int64(offset))
	if start != int64(offset) {
		c.entries(int64(offset), 0)
	}
}

// entries visits those of a directory. Places in it count from base: something
// may stand before the zip.
func (c *content) entries(start, base int64) {
	in := bufio.NewReaderSize(io.NewSectionReader(c, start, unknown-start), 4<<10)
	var h [entrySize]byte
	for !c.s.stopped {
		if _, err := io.ReadFull(in, h[:]); err != nil || string(h[:4]) != "PK\x01\x02" {
			return
		}
		text := make([]byte, int(u16(h[28:]))+int(u16(h[30:])))
		if _, err := io.ReadFull(in, text); err != nil || !c.s.spend(memberWork+int64(len(text))) {
			return
		}
		in.Discard(int(u16(h[32:]))) // if that fails, so does the next
		name, extra := text[:u16(h[28:])], text[u16(h[28:]):]
		m := member{flags: u16(h[8:]), method: u16(h[10:]), size: uint64(u32(h[20:]))}
		at := uint64(u32(h[42:]))
		large(extra, u32(h[24:]) == 1<<32-1, &m.size, &at)
		m.name = string(name[:min(len(name), maxName)])
		m.at = base + int64(min(at, unknown/2))
		c.visit(m)
	}
}

// visit looks at a member that a directory has, if the sweep has not.
func (c *content) visit(m member) {
	if !c.first(m) || !c.s.member() {
		return
	}
	var h [localSize]byte
	_, err := c.ReadAt(h[:], m.at)
	m.data = m.at + localSize + int64(u16(h[26:])) + int64(u16(h[28:]))
	if err == nil && string(h[:4]) != "PK\x03\x04" {
		err = io.EOF
	}
	switch {
	case err == nil && asIs(m.method) && !m.encrypted():
		c.stored(m)
	case err == nil && c.seek(m.data):
		c.packed(m)
	case !errors.Is(err, errFull):
		c.s.unsearched(c.members(m.name), unreachable)
	}
}

// first is whether a member was not yet looked at.
func (c *content) first(m member) bool {
	if c.done == nil {
		c.done = map[entry]struct{}{}
	}
	e := entry{m.at, m.method, m.encrypted()}
	_, was := c.done[e]
	c.done[e] = struct{}{}
	return !was
}

// stored looks into a member that lies in the zip as it is, if the sweep had
// no reason to see one there.
func (c *content) stored(m member) {
	if c.depth == maxDepth {
		c.s.unsearched(c.members(m.name), tooDeep)
		return
	}
	inner := c.s.content(c.depth+1, c.members(m.name))
	inner.file, inner.size = io.NewSectionReader(c, m.data, unknown-m.data), int64(min(m.size, unknown/2))
	inner.sweep()
	if errors.Is(inner.err, errGone) {
		c.s.unsearched(inner.names, unreachable)
	}
}
