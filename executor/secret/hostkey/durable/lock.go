package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Held is a lock that this process holds. The kernel takes it back when the
// process ends, however it ends.
type Held struct {
	f    *os.File
	path string
}

// Lock takes the lock file at path (flock(2)), which it makes, empty, if it
// is missing. It waits for another holder as long as ctx allows.
func Lock(ctx context.Context, path string) (*Held, error) {
	return take(path, func(f *os.File) error { return wait(ctx, f, path) })
}

// Try is a Lock that does not wait: one that somebody holds is ErrHeld.
func Try(path string) (*Held, error) {
	return take(path, func(f *os.File) error {
		err := flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrHeld
		}
		if err != nil {
			f.Close()
			return fmt.Errorf("locking %s: %w", path, err)
		}
		return nil
	})
}

// take opens the file and locks it; lock closes it where it fails.
func take(path string, lock func(*os.File) error) (*Held, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
		if err != nil {
			return nil, err
		}
		if err := Give(f, filepath.Dir(path)); err != nil {
			f.Close()
			return nil, err
		}
		if err := lock(f); err != nil {
			return nil, err
		}
		if same(f, path) {
			return &Held{f, path}, nil
		}
		f.Close() // its holder removed it while we waited
	}
}

// Unlock lets others in.
func (h *Held) Unlock() error { return h.f.Close() }

// Remove unlocks and takes the lock file away. Who waits for it notices.
func (h *Held) Remove() error { return errors.Join(os.Remove(h.path), h.f.Close()) }

// wait blocks in the kernel, where waiting is fair and costs nothing. If ctx
// ends first, the file is closed by whoever is left waiting.
func wait(ctx context.Context, f *os.File, path string) error {
	fd := int(f.Fd())
	err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return nil
	}
	if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
		f.Close()
		return fmt.Errorf("locking %s: %w", path, err)
	}
	start, done := time.Now(), make(chan error, 1)
	go func() { done <- flock(fd, unix.LOCK_EX) }()
	select {
	case err := <-done:
		if err != nil {
			f.Close()
			return fmt.Errorf("locking %s: %w", path, err)
		}
		return nil
	case <-ctx.Done():
		go func() { <-done; f.Close() }()
		return fmt.Errorf("waited %s for another process to give up %s: %w", time.Since(start).Round(time.Millisecond), path, ctx.Err())
	}
}

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func same(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}
