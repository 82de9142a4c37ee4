package hunt

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// unpacked is how many bytes one packed file may become.
const unpacked = 1 << 30

// lseek(2): the next byte that is data, the next that is a hole.
const (
	seekData = 3
	seekHole = 4
)

// inodes are files that were searched, by device and number. Numbers are used
// again, so what is kept here must not outlive one walk.
type inodes map[[2]uint64]bool

// first says whether a file comes up for the first time.
func (s inodes) first(st *syscall.Stat_t) bool {
	id := [2]uint64{uint64(st.Dev), st.Ino}
	known := s[id]
	s[id] = true
	return !known
}

// opened searches a regular file or a block device, and calls it where. The
// path may be another thing by now: flags say not to follow a link, and a
// FIFO's other end is not waited for.
func (h *Hunt) opened(ctx context.Context, path, where string, flags int) error {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|flags, 0)
	if vanished(err) || errors.Is(err, syscall.ELOOP) {
		h.skip(where, "gone before it could be opened")
		return nil
	}
	if err != nil {
		return h.unreadable(where, err)
	}
	defer f.Close()
	size, err := extent(f)
	if errors.Is(err, ErrScope) {
		h.skip(where, "not a file any more")
		return nil
	}
	if err != nil {
		return h.unreadable(where, err)
	}
	h.count(func(r *Report) { r.Files++ })
	read, err := h.data(ctx, where, f, size)
	if err == nil && read < size {
		h.skip(where, "holes of a sparse file, which read as zeros")
	}
	if err == nil {
		err = h.packed(ctx, where, f, size)
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case vanished(err):
		h.skip(where, "gone while it was read")
		return nil
	}
	return h.unreadable(where, err)
}

// extent is where a file ends now: one that grows while it is read is
// searched up to there.
func extent(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch {
	case info.Mode().IsRegular():
		return info.Size(), nil
	case info.Mode()&os.ModeDevice != 0 && info.Mode()&os.ModeCharDevice == 0:
		return f.Seek(0, io.SeekEnd)
	}
	return 0, ErrScope
}

// data searches a file without its holes. No value has a NUL, so none begins
// or ends in a hole.
func (h *Hunt) data(ctx context.Context, where string, f *os.File, size int64) (read int64, err error) {
	for at := int64(0); at < size; {
		from, to := at, size
		if size > 1<<20 { // below, asking costs more than reading
			if from, err = f.Seek(at, seekData); errors.Is(err, syscall.ENXIO) {
				return read, nil // a hole up to the end
			} else if err != nil {
				from = at // a file system without holes
			} else if to, err = f.Seek(from, seekHole); err != nil {
				to = size
			}
			to = min(to, size)
		}
		n, err := h.stream(ctx, where, io.NewSectionReader(f, from, to-from), from)
		read += n
		if err != nil {
			return read, err
		}
		at = max(to, at+1)
	}
	return read, nil
}

// opaque are formats that the standard library does not unpack.
var opaque = []struct{ magic, name string }{
	{"\x28\xb5\x2f\xfd", "zstd"}, {"\xfd7zXZ\x00", "xz"}, {"\x04\x22\x4d\x18", "lz4"}, {"BZh9", "bzip2"},
}

// packed searches what is inside of a gzip or zip file.
func (h *Hunt) packed(ctx context.Context, where string, f *os.File, size int64) error {
	magic := make([]byte, 6)
	n, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	magic = magic[:n]
	for _, o := range opaque {
		if bytes.HasPrefix(magic, []byte(o.magic)) {
			h.skip(where, "packed with "+o.name+", searched as it lies")
			return nil
		}
	}
	left := int64(unpacked)
	switch {
	case bytes.HasPrefix(magic, []byte("\x1f\x8b\x08")):
		z, err := gzip.NewReader(io.NewSectionReader(f, 0, size))
		if err != nil {
			h.skip(where, "looks packed and does not unpack, searched as it lies")
			return nil
		}
		return h.inside(ctx, where, where+" (unpacked)", z, &left)
	case bytes.HasPrefix(magic, []byte("PK\x03\x04")):
		z, err := zip.NewReader(f, size)
		if err != nil {
			h.skip(where, "looks packed and does not unpack, searched as it lies")
			return nil
		}
		for _, entry := range z.File {
			name := fmt.Sprintf("%s (unpacked: %s)", where, entry.Name)
			h.name(name, entry.Name)
			r, err := entry.Open()
			if err != nil {
				h.skip(where, "looks packed and does not unpack, searched as it lies")
				continue
			}
			err = h.inside(ctx, where, name, r, &left)
			r.Close()
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *Hunt) inside(ctx context.Context, where, name string, r io.Reader, left *int64) error {
	n, err := h.stream(ctx, name, io.LimitReader(r, *left), 0)
	if *left -= n; *left <= 0 {
		h.skip(where, "unpacks to more than 1 GiB, searched up to there")
		*left = 0
	} else if err != nil && ctx.Err() == nil {
		h.skip(where, "looks packed and does not unpack whole")
	}
	return ctx.Err()
}

// vanished says whether an error means that the thing is no more.
func vanished(err error) bool {
	for _, gone := range []error{os.ErrNotExist, syscall.ESRCH, syscall.ESTALE, syscall.ENODEV, syscall.ENXIO, syscall.ENOTDIR, syscall.ENOTCONN} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}
