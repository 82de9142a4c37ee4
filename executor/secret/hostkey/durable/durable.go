// Package durable reads and writes private files that must survive a crash:
// the host's key, the store, the journal.
//
// What it promises: after Write a file has its old content or its new one,
// whenever the machine stops, and the new one once Write has returned; a file
// that others may read or a folder that others may write is refused, not
// used; of all processes one holds a lock, and a process that dies gives it
// up. What root writes into another user's folder becomes that user's, so
// that `sudo cleanroom` does not lock the runner's user out.
package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Errors.
var (
	// ErrLoose is a file or folder that somebody else may read or change.
	ErrLoose = errors.New("permissions are too loose")
	// ErrTooLarge is a file beyond the reader's limit.
	ErrTooLarge = errors.New("file is too large")
	// ErrHeld is a lock that another process holds.
	ErrHeld = errors.New("another process holds it")
)

// Folder makes dir, with mode 0700, if it is missing. One that is there must
// be ours (or root's) and nobody else's to write: who may rename files in it
// may exchange them.
func Folder(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return checkFolder(dir)
}

func checkFolder(dir string) error {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFDIR {
		return &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	}
	if s.Mode&0o022 != 0 {
		return fmt.Errorf("%w: others may write in %s: chmod 0700 it", ErrLoose, dir)
	}
	if me := os.Geteuid(); me != 0 && int(s.Uid) != me && s.Uid != 0 {
		return fmt.Errorf("%w: %s belongs to user %d: chown it to user %d, or run as its owner", ErrLoose, dir, s.Uid, me)
	}
	return nil
}

// Read returns a private file of at most limit bytes. A missing one is
// fs.ErrNotExist; a link, a pipe or one that others may read is refused.
func Read(path string, limit int64) ([]byte, error) {
	// NONBLOCK: opening a pipe must not wait for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("%w: %s is a link: put the file itself there", ErrLoose, path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := checkFile(f, path); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrTooLarge, path, limit)
	}
	return data, err
}

func checkFile(f *os.File, path string) error {
	if err := checkFolder(filepath.Dir(path)); err != nil {
		return err
	}
	var s, folder unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if err := unix.Stat(filepath.Dir(path), &folder); err != nil {
		return &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if s.Mode&unix.S_IFMT != unix.S_IFREG {
		return fmt.Errorf("%w: %s is no plain file: remove it", ErrLoose, path)
	}
	if s.Mode&0o077 != 0 {
		return fmt.Errorf("%w: others may use %s: chmod 0600 it", ErrLoose, path)
	}
	if s.Uid != 0 && int(s.Uid) != os.Geteuid() && s.Uid != folder.Uid {
		return fmt.Errorf("%w: %s belongs to user %d: chown it to the owner of its folder", ErrLoose, path, s.Uid)
	}
	return nil
}

// Write replaces the file at path, mode 0600, in one step. Two writers at
// once are the caller's to keep apart (Lock): what a crash leaves behind is
// PATH.new, which the next writer takes away.
func Write(path string, data []byte) error { return write(path, data, 0o600, true) }

// Replace is Write with a mode, and does not wait for the disk: after a crash
// of the machine the file may be empty or torn. It is for what is not worth
// that wait.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, false)
}

func write(path string, data []byte, mode fs.FileMode, wait bool) (err error) {
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(temp)
		}
	}()
	if err := Give(f, filepath.Dir(path)); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if wait {
		if err := f.Sync(); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, path); err != nil || !wait {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in dir survive a crash.
func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Give gives what root made in dir to the owner of dir, so that `sudo
// cleanroom` does not lock the runner's user out.
func Give(f *os.File, dir string) error {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return &fs.PathError{Op: "stat", Path: dir, Err: err}
	}
	if os.Geteuid() != 0 || s.Uid == 0 {
		return nil
	}
	return f.Chown(int(s.Uid), int(s.Gid))
}
