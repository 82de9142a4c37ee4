package initproto

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A frame is one type byte, a big-endian uint32 length and that many bytes.
const headerLen = 5

// Frames that the driver sends.
const (
	frameHello     = 'h' // magic, nonce
	frameProof     = 'p' // proof, and the key for a fresh init
	frameBoot      = 'B'
	frameStage     = 'S'
	frameScript    = 's'
	frameScriptEnd = 'e'
	frameCancel    = 'c'
	frameProbe     = 'P'
	frameList      = 'L' // folder, sets of files
	frameRead      = 'r' // folder, parts of files
	frameMasked    = 'm' // number of a mask, why it was refused
	frameWrite     = 'w' // a file that is to be made
	frameBytes     = 'b' // of it
	frameKeep      = 'k' // that was all
	frameDrop      = 'q' // nothing of it is to be
	frameEnd       = 'z' // no stage comes any more
)

// Frames that init sends.
const (
	frameChallenge = 'C' // nonce, fresh, proof
	frameWelcome   = 'W' // Hello, proof
	frameReady     = 'R' // Hello, after Boot in place
	frameExec      = 'x' // execve comes next: the end of the stream is success
	frameOutput    = 'o' // what the stage printed, on stdout or stderr
	frameMask      = 'M' // its number, value to hide
	frameAck       = 'a' // script bytes that the shell has taken
	frameExit      = 'E'
	frameProbed    = 'd'
	frameEntries   = 'n' // a piece of a list
	frameListed    = 'l' // the list's length, note
	frameData      = 'D' // of a file
	frameReadOne   = 'z' // how a file went, why
	frameReadEnd   = 'Z'
	frameWritten   = 'k' // whether it was; the file, or why not
	frameFail      = 'F'
)

const (
	maxStream  = 64 << 10 // payload of output and script frames
	maxAnswer  = 64 << 10 // what init has to say of itself
	maxShake   = 256      // anything before the proof
	maxControl = 16 << 20 // Boot, Stage, Probe, List, Read
	maxRefusal = 4096     // why a mask was not taken
	maxNewFile = 16 << 10 // two paths
)

// limits gives the largest payload of a frame type, negative for a type that
// has no business here.
type limits func(t byte) int

func beforeProof(t byte) int {
	switch t {
	case frameHello, frameProof:
		return maxShake
	}
	return -1
}

func toInit(t byte) int {
	switch t {
	case frameBoot, frameStage, frameProbe, frameList, frameRead:
		return maxControl
	case frameScript:
		return maxStream
	case frameMasked:
		return maxRefusal
	case frameWrite:
		return maxNewFile
	case frameBytes:
		return maxData
	case frameScriptEnd, frameCancel, frameKeep, frameDrop, frameEnd:
		return 0
	}
	return -1
}

func toDriver(t byte) int {
	switch t {
	case frameOutput, frameEntries:
		return maxStream
	case frameData:
		return maxData
	case frameReadOne:
		return maxWhy
	case frameMask:
		return MaxMask + 2*binary.MaxVarintLen64
	case frameChallenge:
		return maxShake
	case frameWelcome, frameReady, frameExit, frameProbed, frameListed, frameWritten, frameFail:
		return maxAnswer
	case frameAck:
		return 32
	case frameExec, frameReadEnd:
		return 0
	}
	return -1
}

// frameReader reads frames into one buffer, which it grows only for bytes
// that have arrived.
type frameReader struct {
	r   io.Reader
	max limits
	hdr [headerLen]byte
	buf []byte
}

// next returns a frame; its payload is good until the next call. The error is
// io.EOF only between frames, and wraps ErrProtocol when the peer is at fault.
func (f *frameReader) next() (t byte, payload []byte, err error) {
	if _, err := io.ReadFull(f.r, f.hdr[:]); err != nil {
		return 0, nil, err
	}
	t = f.hdr[0]
	size, limit := int64(binary.BigEndian.Uint32(f.hdr[1:])), int64(f.max(t))
	if limit < 0 {
		return 0, nil, fmt.Errorf("%w: unexpected frame type %q", ErrProtocol, t)
	}
	if size > limit {
		return 0, nil, fmt.Errorf("%w: frame %q of %d bytes, at most %d are allowed", ErrProtocol, t, size, limit)
	}
	n := int(size)
	if cap(f.buf) > 2*maxStream && n <= maxStream {
		f.buf = nil // a large Boot must not stay in memory for the whole job
	}
	if cap(f.buf) < min(n, maxStream) {
		f.buf = make([]byte, min(n, maxStream))
	}
	for got := 0; got < n; {
		if got == cap(f.buf) { // all of it has arrived: double
			bigger := make([]byte, min(n, 2*got))
			copy(bigger, f.buf[:got])
			clear(f.buf)
			f.buf = bigger
		}
		end := min(n, cap(f.buf))
		m, err := io.ReadFull(f.r, f.buf[got:end])
		got += m
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, nil, err
		}
	}
	return t, f.buf[:n], nil
}

// appendFrame appends a whole frame to b.
func appendFrame(b []byte, t byte, payload []byte) []byte {
	b = append(b, t)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

// encoder writes the fields of a control frame: numbers as varints, strings
// and lists with their length in front. Not JSON, because a variable's value
// may be any bytes and JSON would quietly replace what is not UTF-8.
type encoder struct{ b []byte }

func (e *encoder) num(n int64) { e.b = binary.AppendVarint(e.b, n) }

func (e *encoder) str(s string) {
	e.num(int64(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) strs(list []string) {
	e.num(int64(len(list)))
	for _, s := range list {
		e.str(s)
	}
}

func (e *encoder) flag(v bool) {
	if v {
		e.num(1)
	} else {
		e.num(0)
	}
}

// decoder is the reverse; the first error sticks.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", ErrProtocol, what)
	}
	d.b = nil
}

func (d *decoder) num() int64 {
	n, size := binary.Varint(d.b)
	if size <= 0 {
		d.fail("bad number")
		return 0
	}
	d.b = d.b[size:]
	return n
}

// length reads a count of things that take at least a byte each, so that it
// cannot promise more than the frame holds.
func (d *decoder) length() int {
	n := d.num()
	if n < 0 || n > int64(len(d.b)) {
		d.fail("length beyond the frame")
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.length()
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) str() string { return string(d.bytes()) }

func (d *decoder) strs() []string {
	n := d.length()
	var list []string
	for i := 0; i < n && d.err == nil; i++ {
		list = append(list, d.str())
	}
	return list
}

func (d *decoder) flag() bool {
	switch d.num() {
	case 0:
	case 1:
		return true
	default:
		d.fail("bad flag")
	}
	return false
}

// done is the error of the whole frame: nothing may be left over.
func (d *decoder) done() error {
	if d.err == nil && len(d.b) > 0 {
		d.fail("bytes after the end")
	}
	return d.err
}
