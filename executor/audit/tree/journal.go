package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/sys/unix"

	"cleanroom/executor/secret/hostkey/durable"
)

const (
	// journalSize is fixed, in bytes: to write over blocks that are there needs
	// no space and no wait for the file system's own journal.
	journalSize = 4 << 20
	// block is what frames begin at multiples of, in bytes: a disk that fails
	// within a block must not take a frame before it along.
	block = 4096
	// MaxBatch bounds how many records are appended at once, so that what an
	// append that was cut short leaves behind is found.
	MaxBatch = 4096

	frameMagic  = "CRJ1"
	headerMagic = "CRJH"
	fixed       = len(frameMagic) + 4*4 + 2*8
)

// journal is the file that makes an append durable.
//
// It has a header, and frames from the second block on, each with the records
// of one append. Frames that follow one another have indexes that do, and one
// from before the journal began anew has a lower index than is due at its
// place, so that it is never taken for one.
type journal struct {
	f *os.File
	header
}

// header says where the frames are, so that nobody need look for them. It is
// only a hint: it is written with each frame, but may be older or torn after a
// crash of the machine, which boot tells.
type header struct {
	boot string // of the kernel; empty: the files must be made again from the frames
	base int64  // all below this index is durable outside the journal
	pos  int64  // of the newest frame; 0: there is none
	end  int64  // where the next frame goes
}

// frame is one append.
type frame struct {
	first   int64  // index of its first record
	bundle  int64  // length of the last bundle after it, in bytes; 0 if that is full
	count   int    // of records
	records []byte // as in a bundle
	note    []byte // the checkpoint after it
	change  []byte // the statement of a change of the key, or nothing
}

func (f *frame) size() int64 { return f.first + int64(f.count) }

// length is that of the frame in the journal, up to the next block.
func (f *frame) length() int64 {
	n := int64(fixed + len(f.note) + len(f.change) + len(f.records) + sha256.Size)
	return (n + block - 1) / block * block
}

func (f *frame) encode() []byte {
	b := make([]byte, 0, f.length())
	b = append(b, frameMagic...)
	for _, n := range []int{f.count, len(f.note), len(f.change), len(f.records)} {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(f.first))
	b = binary.BigEndian.AppendUint64(b, uint64(f.bundle))
	b = append(append(append(b, f.note...), f.change...), f.records...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)[:f.length()]
}

// frameAt reads the frame at pos; nil: there is no whole one.
func (j *journal) frameAt(pos int64) (*frame, error) {
	head := make([]byte, fixed)
	if pos < block || pos%block != 0 || pos+block > journalSize {
		return nil, nil
	}
	if n, err := j.f.ReadAt(head, pos); n < fixed {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return nil, err
	}
	f, length := decodeHead(head)
	if f == nil || pos+int64(length) > journalSize {
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
func decodeHead(b []byte) (f *frame, length int) {
	if len(b) < fixed || string(b[:4]) != frameMagic {
		return nil, 0
	}
	var n [4]int
	for i := range n {
		n[i] = int(binary.BigEndian.Uint32(b[4+4*i:]))
		if n[i] > journalSize {
			return nil, 0
		}
	}
	f = &frame{first: int64(binary.BigEndian.Uint64(b[20:])), bundle: int64(binary.BigEndian.Uint64(b[28:])), count: n[0]}
	return f, fixed + n[1] + n[2] + n[3] + sha256.Size
}

// decodeFrame reads a frame; nil: it is not whole.
func decodeFrame(b []byte) *frame {
	f, length := decodeHead(b)
	if f == nil || len(b) < length || f.first < 0 || f.bundle < 0 || f.count < 1 {
		return nil
	}
	body, sum := b[:length-sha256.Size], b[length-sha256.Size:length]
	if got := sha256.Sum256(body); !bytes.Equal(got[:], sum) {
		return nil
	}
	n, c := int(binary.BigEndian.Uint32(b[8:])), int(binary.BigEndian.Uint32(b[12:]))
	f.note, f.change, f.records = body[fixed:fixed+n], body[fixed+n:fixed+n+c], body[fixed+n+c:]
	if records, rest := cut(f.records, f.count); len(records) != f.count || len(rest) > 0 {
		return nil
	}
	return f
}

// frames reads all that follow one another from the beginning.
func (j *journal) frames() (list []*frame, err error) {
	for pos := int64(block); ; {
		f, err := j.frameAt(pos)
		if err != nil {
			return nil, err
		}
		if f == nil || len(list) > 0 && f.first != list[len(list)-1].size() {
			return list, nil
		}
		list, pos = append(list, f), pos+f.length()
	}
}

// openJournal opens the journal in dir and makes it if it is missing.
func openJournal(dir string) (*journal, error) {
	path := journalPath(dir)
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.Write(path, make([]byte, journalSize)); err != nil {
			return nil, full(err)
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
	return &journal{f, h}, nil
}

func journalPath(dir string) string { return filepath.Join(dir, "journal") }

func readHeader(f *os.File) (header, error) {
	b := make([]byte, block)
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return header{}, err
	}
	return decodeHeader(b), nil
}

func (h header) encode() []byte {
	b := append([]byte(nil), headerMagic...)
	for _, n := range []int64{h.base, h.pos, h.end} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(append(b, byte(len(h.boot))), h.boot...)
	sum := sha256.Sum256(b)
	return append(append(b, sum[:]...), make([]byte, block-len(b)-len(sum))...)
}

// decodeHeader gives what a header says; one that is torn says nothing, and so
// makes all be made again.
func decodeHeader(b []byte) (h header) {
	const numbers = len(headerMagic)
	if len(b) < block || string(b[:numbers]) != headerMagic {
		return header{}
	}
	length := numbers + 3*8 + 1 + int(b[numbers+3*8])
	if sum := sha256.Sum256(b[:length]); !bytes.Equal(sum[:], b[length:length+len(sum)]) {
		return header{}
	}
	for i, n := range []*int64{&h.base, &h.pos, &h.end} {
		*n = int64(binary.BigEndian.Uint64(b[numbers+8*i:]))
	}
	h.boot = string(b[numbers+3*8+1 : length])
	return h
}

// write writes a frame, if there is one, and the header, and waits until both
// are durable.
func (j *journal) write(data []byte, at int64, h header) error {
	if len(data) > 0 {
		if _, err := j.f.WriteAt(data, at); err != nil {
			return err
		}
	}
	if _, err := j.f.WriteAt(h.encode(), 0); err != nil {
		return err
	}
	return unix.Fdatasync(int(j.f.Fd()))
}

// boot tells one run of the kernel from the next: what it wrote without
// waiting is there as long as it runs. It is a variable for the tests, which
// cannot crash the machine.
var boot = func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // never what a header says: each append looks for what was lost
	}
	return strings.TrimSpace(string(id))
}

// full tells a disk without space from other errors.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: nothing was appended, and nothing is lost: free some: %w", ErrFull, err)
	}
	return err
}

// pack writes records as in a bundle.
func pack(records [][]byte) (data []byte, err error) {
	if len(records) == 0 || len(records) > MaxBatch {
		return nil, fmt.Errorf("%w: %d at once: append 1 to %d", ErrRecord, len(records), MaxBatch)
	}
	for _, r := range records {
		if len(r) == 0 || len(r) > MaxRecord {
			return nil, fmt.Errorf("%w: it has %d bytes: a record has 1 to %d", ErrRecord, len(r), MaxRecord)
		}
		if data, err = torchwood.AppendTileEntry(data, r); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecord, err)
		}
	}
	return data, nil
}

// lock waits for others that append. Each needs a millisecond, or what its
// signing command takes.
func lock(ctx context.Context, dir string) (*durable.Held, error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: make one, or correct the folder", ErrNoLog, dir)
	}
	if err := durable.Folder(dir); err != nil {
		return nil, err
	}
	return durable.Lock(ctx, filepath.Join(dir, "lock"))
}
