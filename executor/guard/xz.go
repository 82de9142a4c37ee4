package guard

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

const xzMagic = "\xfd7zXZ\x00"

// xzReader reads the blocks of xz streams. Only LZMA2 itself is left to the
// library: its reader of what is around that takes as much memory as a header
// asks for, and keeps a record of each block.
type xzReader struct {
	in    counted
	u     *unpacked
	check int // size of what stands behind each block
	block io.Reader
	dict  int // what is reserved for the block
}

// counted counts what was read since a place that is aligned.
type counted struct {
	*bufio.Reader
	n int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

func (c *counted) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// take reads n bytes: a header, a checksum.
func (c *counted) take(n int) ([]byte, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, cutOff(err)
	}
	return b, nil
}

// padding is how many bytes are missing to a multiple of four.
func (c *counted) padding() int { return -c.n & 3 }

// cutOff says of an end where there should be none what it is.
func cutOff(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// xzChecks are the sizes that the format has for each kind of checksum.
var xzChecks = [16]int{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

func unxz(in *bufio.Reader, u *unpacked) (io.Reader, error) {
	x := &xzReader{in: counted{Reader: in}, u: u}
	return x, x.start()
}

// start reads a stream's header.
func (x *xzReader) start() error {
	h, err := x.in.take(12)
	if err == nil {
		x.check = xzChecks[h[7]&15]
	}
	return err
}

func (x *xzReader) Read(p []byte) (int, error) {
	for {
		if x.block == nil {
			if err := x.open(); err != nil {
				return 0, err
			}
			continue // it may have been an index
		}
		n, err := x.block.Read(p)
		if err != io.EOF {
			return n, err
		}
		x.block = nil
		x.u.release(x.dict)
		if _, err = x.in.take(x.in.padding() + x.check); n > 0 || err != nil {
			return n, err
		}
	}
}

// open begins the next block, or the next stream if there is an index. io.EOF:
// there is none.
func (x *xzReader) open() error {
	x.in.n = 0
	size, err := x.in.ReadByte()
	if err != nil {
		return cutOff(err)
	}
	if size == 0 {
		return x.index()
	}
	b, err := x.in.take(int(size)*4 + 3)
	if err != nil {
		return err
	}
	h := bytes.NewBuffer(b[1:])
	number := func() uint64 { n, _ := binary.ReadUvarint(h); return n }
	for _, has := range []byte{0x40, 0x80} { // the sizes, which we need not know
		if b[0]&has != 0 {
			number()
		}
	}
	filter, length := number(), number()
	code, err := h.ReadByte()
	if b[0]&3 != 0 || filter != 0x21 || length != 1 || err != nil {
		return errOther // one that unpacks, with other filters, for all we know
	}
	dict, err := lzma.DecodeDictCap(code)
	if err != nil {
		return errBroken
	}
	if err := x.u.reserve(uint64(dict), uint64(dict)); err != nil {
		return err
	}
	x.dict, x.in.n = int(dict), 0
	x.block, err = lzma.Reader2Config{DictCap: int(dict)}.NewReader2(&x.in)
	return err
}

// index goes over it, and into the next stream.
func (x *xzReader) index() error {
	n, err := binary.ReadUvarint(&x.in)
	for left := 2 * n; left > 0 && err == nil; left-- {
		_, err = binary.ReadUvarint(&x.in)
	}
	if err != nil {
		return cutOff(err)
	}
	if _, err := x.in.take(x.in.padding() + 4 + 12); err != nil {
		return err
	}
	for { // padding
		b, _ := x.in.Peek(len(xzMagic))
		switch {
		case string(b) == xzMagic:
			return x.start()
		case len(b) < 4 || u32(b) != 0:
			return io.EOF
		}
		if _, err := x.in.Discard(4); err != nil {
			return err
		}
	}
}
