package guard

import (
	"bytes"
	"strconv"
	"strings"
)

const block = 512

// attributes are what a tar says of its next member in a member of its own.
type attributes struct {
	name string
	size int64 // or -1
}

// header reads the header of a tar's member, if there is one at the place of
// the sweep. Behind blocks of zeros, which end a tar, another may follow.
func (c *content) header() {
	c.tar = -1
	h := c.peek(block)
	if len(h) < block {
		return
	}
	if zeros(h) {
		if c.pos > c.origin() {
			c.tar = c.pos + block
		}
		return
	}
	size, ok := tarNumber(h[124:136])
	if !ok || !tarSum(h) || !c.s.member() {
		return
	}
	f := frame{name: c.tarName(h), from: c.pos + block}
	attr := c.pax
	c.pax = attributes{size: -1}
	stored := false
	switch h[156] {
	case 'x', 'L':
		c.pax = attr // both may be given
		c.attribute(h[156], size)
	case 'K', 'g':
		c.pax = attr
	case '1', '2', '3', '4', '5', '6': // links, devices, folders
		size = 0
	default:
		stored = true
		if attr.name != "" {
			f.name = attr.name
		}
		if attr.size >= 0 {
			size = attr.size
		}
		if h[156] == 'S' && h[482] != 0 { // the map of a sparse file goes on
			all := c.peek(look)
			for more := true; more && len(all) >= int(f.from-c.pos)+block; f.from += block {
				more = all[f.from-c.pos+504] != 0
			}
		}
	}
	if size > unknown-f.from-block {
		return
	}
	f.to = f.from + size
	f.tar = f.from + (size+block-1)/block*block
	c.pos, c.tar = f.from, f.tar
	if stored && size > 0 {
		c.enter(f)
	}
}

func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// tarName is a member's name as its header has it. A long one is in two parts,
// which the scan sees, but not together.
func (c *content) tarName(h []byte) string {
	name := upToNUL(h[:100])
	if string(h[257:263]) != "ustar\x00" || h[345] == 0 {
		return name
	}
	name = upToNUL(h[345:500]) + "/" + name
	if len(c.pending) == 0 { // otherwise one is known to be near
		if start, _, secret, ok := c.s.g.m.Find([]byte(name), 0); ok {
			c.s.secret(c.members(), c.pos+int64(start), secret)
		}
	}
	return name
}

// upToNUL is what stands before a NUL.
func upToNUL(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// attribute reads a member that is about the next one: its name or, of pax,
// lines of which each begins with its length.
func (c *content) attribute(kind byte, size int64) {
	b := c.peek(look)[block:]
	if size > int64(len(b)) {
		return
	}
	b = b[:size]
	if kind == 'L' {
		c.pax.name = upToNUL(b)
		return
	}
	for len(b) > 0 {
		length, _, _ := bytes.Cut(b, []byte{' '})
		n, err := strconv.Atoi(string(length))
		if err != nil || n <= len(length)+1 || n > len(b) {
			return
		}
		key, value, _ := strings.Cut(strings.TrimSuffix(string(b[len(length)+1:n]), "\n"), "=")
		switch key {
		case "path", "GNU.sparse.name":
			c.pax.name = value
		case "size":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				c.pax.size = n
			}
		}
		b = b[n:]
	}
}

// tarNumber is octal, or binary if its first bit is set.
func tarNumber(b []byte) (n int64, ok bool) {
	if b[0]&0x80 != 0 {
		for i, c := range b {
			if i == 0 {
				c &= 0x7f
			}
			if n >= 1<<54 {
				return 0, false
			}
			n = n<<8 | int64(c)
		}
		return n, true
	}
	s := strings.Trim(string(b), " \x00")
	if s == "" {
		return 0, true
	}
	n, err := strconv.ParseInt(s, 8, 64)
	return n, err == nil && n >= 0
}

// tarSum is whether a header has the right checksum: its own field counts as
// blanks, and some tars add signed bytes.
func tarSum(h []byte) bool {
	want, ok := tarNumber(h[148:156])
	var sum, signed int64
	for i, c := range h {
		if i >= 148 && i < 156 {
			c = ' '
		}
		sum += int64(c)
		signed += int64(int8(c))
	}
	return ok && (want == sum || want == signed)
}
