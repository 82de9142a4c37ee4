package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cleanroom/sandbox/initproto"

	"golang.org/x/sys/unix"
)

// errFolder is a folder of files that is not the one which the room was made
// with, so that what is put there could stay, on a disk or for others.
var errFolder = errors.New("is not the tmpfs that this room was made with: do not unmount, move or replace it")

// folder is where a stage's files are: a tmpfs of the container's own, which
// only our user may enter. It is held open, so that what became of its path
// meanwhile changes nothing.
type folder struct {
	path string
	dir  *os.File
	held []*os.File // the files that were put there
}

// identity tells one file system's folder from another.
type identity struct{ dev, ino uint64 }

// openFolder finds the folder, makes sure that it is what it should be, and
// empties it. A job may not unmount it, but as root it may rename what is
// above it and put something of its own in that place.
func (h *host) openFolder(path string) (*folder, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("folder of files %s: %w", path, err)
	}
	handle := os.NewFile(uintptr(fd), path)
	defer handle.Close()
	id, err := tmpfsRoot(fd, path)
	if err != nil {
		return nil, fmt.Errorf("folder of files %s: %w", path, err)
	}
	if h.files == nil {
		h.files = &id
	} else if *h.files != id {
		return nil, fmt.Errorf("folder of files %s: %w", path, errFolder)
	}
	if err := takeOver(fd); err != nil {
		return nil, fmt.Errorf("folder of files %s: %w", path, err)
	}
	dir, err := openDir(fd, ".")
	if err != nil {
		return nil, fmt.Errorf("folder of files %s: %w", path, err)
	}
	f := &folder{path: path, dir: dir}
	if err := f.empty(); err != nil {
		dir.Close()
		return nil, err
	}
	return f, nil
}

// tmpfsRoot identifies a folder that is the root of a mounted tmpfs. The
// /proc/self/mountinfo of some runtimes knows less than these calls.
func tmpfsRoot(fd int, path string) (identity, error) {
	var at, above unix.Stat_t
	var fs unix.Statfs_t
	if err := errors.Join(unix.Fstat(fd, &at), unix.Fstatfs(fd, &fs), unix.Stat(filepath.Dir(path), &above)); err != nil {
		return identity{}, err
	}
	if fs.Type != unix.TMPFS_MAGIC || at.Dev == above.Dev {
		return identity{}, errFolder
	}
	return identity{at.Dev, at.Ino}, nil
}

// takeOver makes the folder ours alone again, whatever a stage did to it. The
// descriptor is O_PATH, as a mode may forbid any other; hence the path.
func takeOver(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	itself := fmt.Sprintf("/proc/self/fd/%d", fd)
	if uid := os.Geteuid(); int(st.Uid) != uid {
		if err := unix.Chown(itself, uid, -1); err != nil {
			return fmt.Errorf("it belongs to user %d, and the stage runs as user %d: %w", st.Uid, uid, err)
		}
	}
	if st.Mode&0o7777 == 0o700 {
		return nil
	}
	return unix.Chmod(itself, 0o700)
}

// put writes files, each owned by us, and clears the content it was given.
func (f *folder) put(files []initproto.File) error {
	total := 0
	for i := range files {
		total += len(files[i].Data)
	}
	for i := range files {
		err := f.write(files[i])
		clear(files[i].Data)
		files[i].Data = nil
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w: all files are %d bytes, more than the folder %s can take", err, total, f.path)
		}
		if err != nil {
			return fmt.Errorf("file %q: %w", files[i].Name, err)
		}
	}
	return nil
}

func (f *folder) write(file initproto.File) error {
	fd, err := unix.Openat(int(f.dir.Fd()), file.Name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o200)
	if err != nil {
		return err
	}
	made := os.NewFile(uintptr(fd), file.Name)
	f.held = append(f.held, made)
	if _, err := made.Write(file.Data); err != nil {
		return unwrapped(err)
	}
	// By the call, which the umask does not touch.
	return unwrapped(made.Chmod(file.Mode))
}

// unwrapped is what the kernel said.
func unwrapped(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// end takes everything away. It comes when no process of the stage is left;
// one that ENTRYPOINT started may have opened a file or linked to it, so the
// files are made empty as well.
func (f *folder) end() error {
	var first error
	for _, file := range f.held {
		first = cmp.Or(first, file.Truncate(0), file.Close())
	}
	return cmp.Or(first, f.empty(), f.dir.Close())
}

// emptyTries is how often a folder is emptied that somebody fills again: only
// what an ENTRYPOINT left running could.
const emptyTries = 10

func (f *folder) empty() error {
	if err := takeOver(int(f.dir.Fd())); err != nil {
		return fmt.Errorf("folder of files %s: %w", f.path, err)
	}
	for range emptyTries {
		left, err := clean(f.dir, 0)
		if err != nil {
			return fmt.Errorf("empty the folder of files %s: %w: remove the container", f.path, err)
		}
		if left == 0 {
			return nil
		}
	}
	return fmt.Errorf("the folder of files %s is filled as it is emptied: have ENTRYPOINT leave it alone", f.path)
}

// maxDepth is beyond what the tmpfs has inodes for.
const maxDepth = 300

// clean removes everything in dir, and tells how much there was.
func clean(dir *os.File, depth int) (found int, err error) {
	if depth > maxDepth {
		return 0, errors.New("folders too deep to be removed")
	}
	if _, err := dir.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, unwrapped(err)
	}
	at := int(dir.Fd())
	for _, name := range names {
		err := unix.Unlinkat(at, name, 0)
		if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EPERM) { // POSIX calls it EPERM, Linux EISDIR
			err = cleanDir(at, name, depth)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return 0, err
		}
	}
	return len(names), nil
}

func cleanDir(at int, name string, depth int) error {
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = takeOver(fd)
	if err == nil {
		var dir *os.File
		if dir, err = openDir(fd, "."); err == nil {
			_, err = clean(dir, depth+1)
			dir.Close()
		}
	}
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
}

func openDir(at int, name string) (*os.File, error) {
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
