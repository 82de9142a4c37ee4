// Package journal is the file that makes an append to the audit log durable
// with one wait for the disk.
//
// What it promises: a frame is whole or is none; after Write it is there
// whatever happens to the machine; it takes no space that was not taken when
// the file was made, so that a full disk cannot stop it; the newest frame is
// found without reading those before it.
package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cleanroom/executor/secret/hostkey/durable"
)

const (
	// Capacity is the file's size, in bytes. It is fixed: to write over blocks
	// that are there needs no space, and no wait for the file system's own
	// journal.
	Capacity = 4 << 20
	// Block is what frames begin at multiples of, in bytes: a disk that fails
	// within a block must not take a frame before it along.
	Block = 4096

	frameMagic  = "CRJ1"
	headerMagic = "CRJH"
	fixed       = len(frameMagic) + 4*4 + 2*8
)

// Journal is the file. It has a header, and frames from the second block on,
// each with the records of one append. Frames that follow one another have
// indexes that do, and one from before the journal began anew has a lower
// index than is due at its place, so that it is never taken for one.
type Journal struct {
	f *os.File
	Header
}

// Header says where the frames are, so that nobody need look for them. It is
// only a hint: it is written with each frame, but may be older or torn after a
// crash of the machine, which Boot tells.
type Header struct {
	Boot string // of the kernel; empty: the files must be made again from the frames
	Base int64  // all below this index is durable outside the journal
	Pos  int64  // of the newest frame; 0: there is none
	End  int64  // where the next frame goes
}

// Frame is one append.
type Frame struct {
	First   int64  // index of its first record
	Bundle  int64  // length of the log's last bundle after it, in bytes; 0 if that is full
	Count   int    // of records
	Records []byte // as in a bundle
	Note    []byte // the checkpoint after it
	Change  []byte // the statement of a change of the key, or nothing
}

// Size is how many records the log has after it.
func (f *Frame) Size() int64 { return f.First + int64(f.Count) }

// Length is that of the frame in the journal, up to the next block.
func (f *Frame) Length() int64 {
	n := int64(fixed + len(f.Note) + len(f.Change) + len(f.Records) + sha256.Size)
	return (n + Block - 1) / Block * Block
}

// Encode writes a frame, filled up to the next block.
func (f *Frame) Encode() []byte {
	b := make([]byte, 0, f.Length())
	b = append(b, frameMagic...)
	for _, n := range []int{f.Count, len(f.Note), len(f.Change), len(f.Records)} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(f.First))
	b = binary.BigEndian.AppendUint64(b, uint64(f.Bundle))
	b = append(append(append(b, f.Note...), f.Change...), f.Records...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)[:f.Length()]
}

// At reads the frame at pos; nil: there is no whole one.
func (j *Journal) At(pos int64) (*Frame, error) {
	head := make([]byte, fixed)
	if pos < Block || pos%Block != 0 || pos+Block > Capacity {
		return nil, nil
	}
	if n, err := j.f.ReadAt(head, pos); n < fixed {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, err
	}
	f, length := decodeHead(head)
	if f == nil || pos+int64(length) > Capacity {
		return nil, nil
	}
	data := make([]byte, length)
	if n, err := j.f.ReadAt(data, pos); n < length {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, err
	}
	return decodeFrame(data), nil
}

// decodeHead reads how long a frame's parts are, and the whole.
func decodeHead(b []byte) (f *Frame, length int) {
	if len(b) < fixed || string(b[:4]) != frameMagic {
		return nil, 0
	}
	var n [4]int
	for i := range n {
		n[i] = int(binary.BigEndian.Uint32(b[4+4*i:]))
		if n[i] > Capacity {
			return nil, 0
		}
	}
	f = &Frame{First: int64(binary.BigEndian.Uint64(b[20:])), Bundle: int64(binary.BigEndian.Uint64(b[28:])), Count: n[0]}
	return f, fixed + n[1] + n[2] + n[3] + sha256.Size
}

// decodeFrame reads a frame; nil: it is not whole.
func decodeFrame(b []byte) *Frame {
	f, length := decodeHead(b)
	if f == nil || len(b) < length || f.First < 0 || f.Bundle < 0 || f.Count < 1 {
		return nil
	}
	body, sum := b[:length-sha256.Size], b[length-sha256.Size:length]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil
	}
	n, c := int(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:]))
	f.Note, f.Change, f.Records = body[fixed:fixed+n], body[fixed+n:fixed+n+c], body[fixed+n+c:]
	return f
}

// Frames reads all that follow one another from the beginning.
func (j *Journal) Frames() (list []*Frame, err error) {
	for pos := int64(Block); ; {
		f, err := j.At(pos)
		if err != nil {
			return nil, err
		}
		if f == nil || len(list) > 0 && f.First != list[len(list)-1].Size() {
			return list, nil
		}
		list, pos = append(list, f), pos+f.Length()
	}
}

// Open opens the journal in dir and makes it if it is missing.
func Open(dir string) (*Journal, error) {
	path := Path(dir)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.Write(path, make([]byte, Capacity)); err != nil {
			return nil, err
		}
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, err
	}
	h, err := readHeader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &Journal{f, h}, nil
}

// Path is where the journal of a folder stands.
func Path(dir string) string { return filepath.Join(dir, "journal") }

func readHeader(f *os.File) (Header, error) {
	b := make([]byte, Block)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return Header{}, err
	}
	return decodeHeader(b), nil
}

func (h Header) Encode() []byte {
	b := append([]byte(nil), headerMagic...)
	for _, n := range []int64{h.Base, h.Pos, h.End} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(append(b, byte(len(h.Boot))), h.Boot...)
	sum := sha256.Sum256(b)
	return append(append(b, sum[:]...), make([]byte, Block-len(b)-len(sum))...)
}

// decodeHeader gives what a header says; one that is torn says nothing, and so
// makes all be made again.
func decodeHeader(b []byte) (h Header) {
	const numbers = len(headerMagic)
	if len(b) < Block || string(b[:numbers]) != headerMagic {
		return Header{}
	}
	length := numbers + 3*8 + 1 + int(b[numbers+3*8])
	if sum := sha256.Sum256(b[:length]); !bytes.Equal(sum[:], b[length:length+len(sum)]) {
		return Header{}
	}
	for i, n := range []*int64{&h.Base, &h.Pos, &h.End} {
		*n = int64(binary.BigEndian.Uint64(b[numbers+8*i:]))
	}
	h.Boot = string(b[numbers+3*8+1 : length])
	return h
}

// Write writes a frame, encoded, if there is one, and the header, and waits
// until both are durable.
func (j *Journal) Write(data []byte, at int64, h Header) error {
	if len(data) > 0 {
		if _, err := j.f.WriteAt(data, at); err != nil {
			return err
		}
	}
	if _, err := j.f.WriteAt(h.Encode(), 0); err != nil {
		return err
	}
	return unix.Fdatasync(int(j.f.Fd()))
}

// Close closes the file.
func (j *Journal) Close() error { return j.f.Close() }

// Boot is that of the header of the journal in dir, which is not made.
func Boot(dir string) (string, error) {
	f, err := os.Open(Path(dir))
	if err != nil {
		return "", err
	}
	defer f.Close()
	h, err := readHeader(f)
	return h.Boot, err
}
