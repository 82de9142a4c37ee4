package cache

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Draft is an entry that is written. It is nobody's until Keep.
type Draft struct {
	s    *Store
	f    *os.File
	most int64
	size int64
	sum  hash.Hash
}

// Draft begins an entry. One of more bytes than the limits allow is refused
// with ErrTooLarge, here if size says so already, or while it is written.
func (s *Store) Draft(size int64) (*Draft, error) {
	most := min(s.limits.Total, s.limits.Project) - headerSize
	if size > most {
		return nil, ErrTooLarge
	}
	if err := os.MkdirAll(filepath.Join(s.dir, drafts), 0o700); err != nil {
		return nil, err
	}
	unlock, err := s.lock() // who sweeps has it, too: a draft that it sees is locked
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := os.CreateTemp(filepath.Join(s.dir, drafts), "")
	if err != nil {
		return nil, err
	}
	d := &Draft{s: s, f: f, most: most, sum: sha256.New()}
	if err := errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), seek(f)); err != nil {
		return nil, errors.Join(err, d.Drop())
	}
	return d, nil
}

func seek(f *os.File) error {
	_, err := f.Seek(headerSize, io.SeekStart)
	return err
}

// Write adds content.
func (d *Draft) Write(p []byte) (int, error) {
	if d.size+int64(len(p)) > d.most {
		return 0, ErrTooLarge
	}
	n, err := d.f.Write(p)
	d.sum.Write(p[:n])
	d.size += int64(n)
	return n, err
}

// ReadAt reads content that was written.
func (d *Draft) ReadAt(p []byte, off int64) (int, error) {
	return io.NewSectionReader(d.f, headerSize, d.size).ReadAt(p, off)
}

// Size is that of the content so far, in bytes.
func (d *Draft) Size() int64 { return d.size }

// SHA256 is the content's so far, hex.
func (d *Draft) SHA256() string { return hex.EncodeToString(d.sum.Sum(nil)) }

// Drop leaves nothing of the draft.
func (d *Draft) Drop() error { return errors.Join(os.Remove(d.f.Name()), d.f.Close()) }

// Keep makes the draft the entry of its place, and has others go as the limits
// say. Size and digest are filled in. After an error nothing is left of the
// draft, and the place is as it was.
func (d *Draft) Keep(h Header) error {
	if err := d.keep(h); err != nil {
		return errors.Join(err, d.Drop())
	}
	return d.f.Close()
}

func (d *Draft) keep(h Header) error {
	if err := h.check(); err != nil {
		return err
	}
	h.Size, h.SHA256 = d.size, d.SHA256()
	b, err := h.encode()
	if err != nil {
		return err
	}
	// Not synced: what a crash of the machine leaves out is told by the digest,
	// and waiting for the disk would cost each job a second.
	if _, err := d.f.WriteAt(b, 0); err != nil {
		return err
	}
	name := h.file()
	path := filepath.Join(d.s.dir, name)
	unlock, err := d.s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := d.s.makeRoom(file{name: name, dir: h.dir(), protected: h.Protected, size: headerSize + d.size}); err != nil {
		return err
	}
	now := time.Now()
	if err := os.Chtimes(d.f.Name(), now, now); err != nil {
		return err
	}
	if err := os.Rename(d.f.Name(), path); err != nil {
		return fmt.Errorf("keep a cache: %w", err)
	}
	return nil
}
