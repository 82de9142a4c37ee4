package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// create makes and locks the file. Between the two a reaper may find it
// empty, and remove it.
func create(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		if err = lock(f, unix.LOCK_EX); err == nil && same(f, path) {
			return f, nil
		}
		f.Close()
		if err != nil {
			return nil, err
		}
	}
}

// open opens a journal that is there. A pipe in its place would keep us waiting.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err == nil {
		var info os.FileInfo
		if info, err = f.Stat(); err == nil && info.Mode().IsRegular() {
			return f, nil
		}
		f.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err == nil, errors.Is(err, unix.EISDIR), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%s is no plain file, and none of ours: look at it, then remove it: %w", path, ErrMute)
	}
	return nil, fmt.Errorf("%w: %w", err, ErrMute)
}

func lock(f *os.File, how int) error {
	for {
		switch err := unix.Flock(int(f.Fd()), how); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return ErrLocked
		default:
			return err
		}
	}
}

// lockUntil tries until the deadline, and once at least.
func lockUntil(f *os.File, deadline time.Time) error {
	for {
		err := lock(f, unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, ErrLocked) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// same says that the file which was opened is still the one at path.
func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
