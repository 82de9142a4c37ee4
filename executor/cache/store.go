package cache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of this package.
var (
	// ErrBroken is an entry that is not what was kept, and was dropped.
	ErrBroken = errors.New("the kept cache is broken and was removed")
	// ErrTooLarge is one that the limits have no room for.
	ErrTooLarge = errors.New("the cache is larger than this runner keeps")
)

// Limits of a store; all must be above zero.
type Limits struct {
	Age            time.Duration // from when an entry was kept
	Total, Project int64         // bytes
}

// Store is a folder of entries. It is made when something is first kept.
type Store struct {
	dir    string
	limits Limits
}

// Open gives the store of a data folder.
func Open(dataDir string, l Limits) *Store { return &Store{filepath.Join(dataDir, "cache"), l} }

var (
	instanceRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]{1,64}$`) })
	projectRE  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9]{1,64}-p[1-9][0-9]{0,18}$`) })
	fileRE     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{64}$`) })
)

const (
	drafts   = "drafts"
	lockName = "lock"
	// lockTime is how long a process waits for another's turn, which takes
	// milliseconds.
	lockTime = 10 * time.Second
)

// lock has one process at a time change what there is. It is not held while
// content is read or written.
func (s *Store) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockTime); ; time.Sleep(5 * time.Millisecond) {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { f.Close() }, nil
		case err != unix.EINTR && err != unix.EWOULDBLOCK, time.Now().After(deadline):
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", s.dir, err)
		}
	}
}

// Entry is one that is read. Reading gives the content, and io.EOF only if it
// is what was kept; else the error is ErrBroken and the entry is gone.
type Entry struct {
	Header
	s    *Store
	f    *os.File
	name string
	*digester
}

// Get opens what is kept at a place, and notes that it was used.
// Errors: fs.ErrNotExist, ErrBroken, and the disk's.
func (s *Store) Get(p Place) (*Entry, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	e, err := s.open(p.file())
	if err != nil {
		return nil, err
	}
	if time.Since(e.Created) > s.limits.Age {
		s.drop(e.f, e.name)
		e.Close()
		return nil, fs.ErrNotExist
	}
	now := unix.NsecToTimeval(time.Now().UnixNano())
	unix.Futimes(int(e.f.Fd()), []unix.Timeval{now, now}) // by the descriptor: its name may be another's by now
	return e, nil
}

// open opens a file, and drops it unless it is the entry that belongs there.
func (s *Store) open(name string) (*Entry, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, name), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a link, a socket
		err = os.Remove(filepath.Join(s.dir, name))
		return nil, errors.Join(fmt.Errorf("%w: it is no file", ErrBroken), err)
	}
	if err != nil {
		return nil, err
	}
	h, err := header(f, name)
	if err == nil {
		return &Entry{h, s, f, name, newDigester(io.NewSectionReader(f, headerSize, h.Size), h)}, nil
	}
	if errors.Is(err, ErrBroken) {
		err = errors.Join(err, s.drop(f, name))
	}
	f.Close()
	return nil, err
}

// header reads and checks one; ErrBroken when it is at fault, and not the disk.
func header(f *os.File, name string) (Header, error) {
	info, err := f.Stat()
	if err != nil {
		return Header{}, err
	}
	if !info.Mode().IsRegular() {
		return Header{}, fmt.Errorf("%w: it is no file", ErrBroken)
	}
	b := make([]byte, headerSize)
	if n, err := f.ReadAt(b, 0); err != nil && err != io.EOF {
		return Header{}, err
	} else if n < len(b) {
		return Header{}, fmt.Errorf("%w: it was cut short", ErrBroken)
	}
	h, err := decode(b)
	switch {
	case err != nil:
		return h, fmt.Errorf("%w: %w", ErrBroken, err)
	case h.file() != name:
		return h, fmt.Errorf("%w: it lies in the place of another", ErrBroken)
	case info.Size() != headerSize+h.Size:
		return h, fmt.Errorf("%w: it has %d bytes and should have %d", ErrBroken, info.Size()-headerSize, h.Size)
	}
	return h, nil
}

// drop removes a file, unless another has taken its place.
func (s *Store) drop(f *os.File, name string) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	path := filepath.Join(s.dir, name)
	ours, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Lstat(path); err != nil || !os.SameFile(ours, now) {
		return nil
	}
	return os.RemoveAll(path)
}

// Read reads the content.
func (e *Entry) Read(p []byte) (int, error) {
	n, err := e.digester.Read(p)
	if errors.Is(err, ErrBroken) {
		err = errors.Join(err, e.s.drop(e.f, e.name))
	}
	return n, err
}

// Close ends the reading.
func (e *Entry) Close() error { return e.f.Close() }

// Info is an entry in a list.
type Info struct {
	Header
	Used time.Time // last
}

// List lists all entries, by project, key and protection. Its error names
// those that are broken, which it has dropped; the list is good without them.
func (s *Store) List() (all []Info, err error) {
	files, err := s.files()
	failed := []error{err}
	for _, one := range files {
		e, err := s.open(one.name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			failed = append(failed, fmt.Errorf("%s: %w", one.name, err))
		default:
			e.Close()
			all = append(all, Info{e.Header, one.used})
		}
	}
	slices.SortFunc(all, byProject)
	return all, errors.Join(failed...)
}

// file is one as its place and the disk tell it.
type file struct {
	name, dir string
	protected bool
	size      int64 // with its header
	used      time.Time
}

// files are all that lie where entries do.
func (s *Store) files() (all []file, err error) {
	projects, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, project := range projects {
		if !projectRE().MatchString(project.Name()) {
			continue
		}
		for _, protected := range []bool{false, true} {
			dir := filepath.Join(project.Name(), Place{Protected: protected}.Protection())
			entries, err := os.ReadDir(filepath.Join(s.dir, dir))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			for _, entry := range entries {
				info, err := entry.Info()
				if err != nil || !fileRE().MatchString(entry.Name()) {
					continue // gone meanwhile, or nothing of ours
				}
				all = append(all, file{filepath.Join(dir, entry.Name()), project.Name(), protected, info.Size(), info.ModTime()})
			}
		}
	}
	return all, nil
}
