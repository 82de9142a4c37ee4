package guard

import (
	"bufio"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

var (
	errBroken = errors.New(Broken)
	errOther  = errors.New(otherPacking)
)

// unpacker gives what is packed in in.
type unpacker func(in *bufio.Reader, u *unpacked) (io.Reader, error)

// unpacked is what an unpacker gives, as a content reads it.
type unpacked struct {
	s        *search
	l        *level
	in       *bufio.Reader
	open     unpacker
	r        io.Reader
	reserved int
}

// Read turns a panic into an error: these are other people's unpackers, and
// what they read was made by whoever wants to hide something.
func (u *unpacked) Read(p []byte) (n int, err error) {
	defer func() {
		if recover() != nil {
			n, err = 0, errBroken
		}
	}()
	if u.r == nil {
		if u.r, err = u.open(u.in, u); err != nil {
			return 0, err
		}
	}
	return u.r.Read(p)
}

// reserve asks for memory of which so much will be filled.
func (u *unpacked) reserve(n, filled uint64) error {
	if n > uint64(u.s.dictionary) {
		return errHungry
	}
	if !u.s.spend(int64(filled / dictionaryWork)) {
		return errFull
	}
	u.s.dictionary -= int(n)
	u.reserved += int(n)
	return nil
}

func (u *unpacked) release(n int) {
	u.s.dictionary += n
	u.reserved -= n
}

func (u *unpacked) close() {
	u.release(u.reserved)
	if z, ok := u.r.(zstdReader); ok {
		z.Close()
	}
}

// stream looks into the stream that begins at the place of the sweep.
func (c *content) stream(kind string, open unpacker) {
	if at := c.pos - c.origin(); at > 0 {
		c.unpack(open, false, fmt.Sprintf("%s at byte %d", kind, at))
	} else {
		c.unpack(open, true)
	}
}

// unpack looks into what lies at the place of the sweep, and goes behind it.
// sure: it is no chance that it looks like that, so it is said if it is broken.
// What is only cut off is not: what could be had of it was searched.
func (c *content) unpack(open unpacker, sure bool, name ...string) {
	if !c.s.member() {
		return
	}
	if c.depth == c.s.g.o.depth() {
		c.s.unsearched(c.members(name...), tooDeep)
		return
	}
	start := c.pos
	l := &c.s.levels[c.depth]
	l.in.Reset(&c.source)
	u := &unpacked{s: c.s, l: l, in: l.in, open: open}
	inner := c.s.content(c.depth+1, c.members(name...))
	inner.r = u
	inner.sweep()
	u.close()
	unused := int64(l.in.Buffered())
	l.in.Reset(nil)
	switch err := inner.err; {
	case err == nil:
		// Unpackers that look for another stream behind the end have read some
		// bytes of what is no such stream.
		c.seek(max(start+1, c.pos-unused-8))
		return
	case err == errHungry && (sure || inner.end() > 0):
		c.s.unsearched(inner.names, tooHungry)
	case err == errHungry, err == errFull, err == io.ErrUnexpectedEOF, c.err != nil:
	case sure && errors.Is(err, errOther):
		c.s.unsearched(inner.names, otherPacking)
	case sure:
		c.s.unsearched(inner.names, Broken)
	}
	c.seek(start)
}

// inflate unpacks deflated data, without any header.
func inflate(in *bufio.Reader, u *unpacked) (io.Reader, error) {
	if u.l.inflate == nil {
		u.l.inflate = flate.NewReader(in)
		return u.l.inflate, nil
	}
	return u.l.inflate, u.l.inflate.(flate.Resetter).Reset(in, nil)
}

// gunzipper reads the members of a gzip stream as one text. It is not the
// standard one because that refuses long names and wrong checksums.
type gunzipper struct {
	in *bufio.Reader
	u  *unpacked
	z  io.Reader
}

func gunzip(in *bufio.Reader, u *unpacked) (io.Reader, error) {
	if err := gzipHeader(in); err != nil {
		return nil, err
	}
	z, err := inflate(in, u)
	return &gunzipper{in, u, z}, err
}

func (g *gunzipper) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		if k, _ := g.in.Discard(8); k < 8 { // checksum and size
			return n, io.EOF
		}
		if next, _ := g.in.Peek(18); !signatures[0].is(next) {
			return n, io.EOF
		}
		if !g.u.s.member() {
			return n, errFull
		}
		if err = gzipHeader(g.in); err == nil {
			_, err = inflate(g.in, g.u)
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func gzipHeader(in *bufio.Reader) error {
	var h [10]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		return io.ErrUnexpectedEOF
	}
	flags := h[3]
	skip := 0
	if flags&4 != 0 {
		extra, _ := in.Peek(2)
		if len(extra) < 2 {
			return io.ErrUnexpectedEOF
		}
		skip = 2 + int(u16(extra))
	}
	if _, err := in.Discard(skip); err != nil {
		return io.ErrUnexpectedEOF
	}
	for _, text := range []byte{8, 16} { // a name, a comment
		for flags&text != 0 {
			_, err := in.ReadSlice(0)
			if err == nil {
				break
			}
			if err != bufio.ErrBufferFull {
				return io.ErrUnexpectedEOF
			}
		}
	}
	if flags&2 != 0 {
		if _, err := in.Discard(2); err != nil {
			return io.ErrUnexpectedEOF
		}
	}
	return nil
}

// ending makes an end of the error with which an unpacker meets what is behind
// the last stream.
type ending struct {
	io.Reader
	is error
}

func (e ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if err != nil && err == e.is {
		err = io.EOF
	}
	return n, err
}

func bunzip2(in *bufio.Reader, u *unpacked) (io.Reader, error) {
	const table = 4 << 20
	err := u.reserve(table, table)
	return ending{bzip2.NewReader(in), bzip2.StructuralError("bad magic value in continuation file")}, err
}

func unzstd(in *bufio.Reader, u *unpacked) (io.Reader, error) {
	const usual = 8 << 20 // a later frame may have a larger window than the first
	b, _ := in.Peek(zstd.HeaderMaxSize)
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return nil, err
	}
	size := h.WindowSize
	if h.SingleSegment {
		size = h.FrameContentSize
	}
	if err := u.reserve(max(size, usual), size); err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(max(size, usual)), zstd.IgnoreChecksum(true))
	if err != nil {
		return nil, err
	}
	return zstdReader{z}, nil
}

// zstdReader ends where the last frame does, and says what it has no memory
// for.
type zstdReader struct{ *zstd.Decoder }

func (z zstdReader) Read(p []byte) (int, error) {
	n, err := z.Decoder.Read(p)
	switch {
	case errors.Is(err, zstd.ErrMagicMismatch):
		err = io.EOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		err = errHungry
	case errors.Is(err, zstd.ErrUnknownDictionary):
		err = errOther
	}
	return n, err
}
