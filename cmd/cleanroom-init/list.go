package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/bmatcuk/doublestar/v4"
	"golang.org/x/sys/unix"

	"cleanroom/sandbox/initproto"
)

// The driver looks through the very files that gitlab-runner's uploader is
// going to store, so this resolves globs step by step as that one does
// (commands/helpers/file_archiver.go), oddities included: with another reading
// of a pattern a file could be stored that nobody looked through.

// listMemory is what a list may make of init's memory: a million paths.
const listMemory = 512 << 20

// List implements initproto.Handler. The folder becomes our own while it goes
// on: patterns are relative to it, and its name may hold what a pattern would
// take for a sign.
func (h *host) List(ctx context.Context, dir string, sets []initproto.FileSet, each func(initproto.Entry) error) (note string, err error) {
	h.running.Lock() // no stage begins in the wrong folder
	defer h.running.Unlock()
	before := debug.SetMemoryLimit(listMemory)
	defer func() {
		debug.SetMemoryLimit(before)
		debug.FreeOSMemory()
	}()
	own, err := unix.Open(".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("init's working directory: %w", err)
	}
	defer unix.Close(own)
	if err := os.Chdir(dir); errors.Is(err, os.ErrNotExist) {
		return "", nil // the stage cannot enter it either
	} else if err != nil {
		return "", err
	}
	defer unix.Fchdir(own)

	l := &lister{ctx: ctx, dir: dir, limit: 2 * initproto.MaxEntries}
	for _, s := range sets {
		if err := l.choose(s); err != nil {
			return "", err
		}
		if s.Untracked {
			if err := h.untracked(ctx, l.add); err != nil {
				note = fmt.Sprintf("git cannot tell the untracked files (%v): all files but those of .git count as untracked", err)
				l.everything()
			}
			if l.err != nil {
				return "", l.err
			}
		}
	}
	if err := l.unique(); err != nil {
		return "", err
	}
	for _, path := range l.paths {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		e, err := entry(path)
		if err != nil {
			continue // gone: the uploader passes over it, too
		}
		if err := each(e); err != nil {
			return "", err
		}
	}
	return note, nil
}

// lister gathers paths.
type lister struct {
	ctx     context.Context
	dir     string
	exclude []string // of the set in work
	paths   []string
	names   int // bytes of paths
	limit   int
	err     error // the first, which ends it all
}

// choose adds what the paths of a set match and all below that.
func (l *lister) choose(s initproto.FileSet) error {
	l.exclude = nil
	for _, pattern := range s.Exclude {
		rel, err := l.relative(pattern)
		if err != nil {
			break // as the runner does: what comes after it excludes nothing
		}
		l.exclude = append(l.exclude, rel)
	}
	walked := map[string]bool{}
	for _, path := range s.Paths {
		if path == "" {
			continue
		}
		rel, err := l.relative(path)
		if err != nil {
			continue
		}
		matches, err := doublestar.FilepathGlob(rel, doublestar.WithNoFollow())
		if err != nil {
			continue
		}
		for _, match := range matches {
			l.walk(match, walked, nil)
		}
	}
	return l.err
}

// everything is what untracked files may be at most.
func (l *lister) everything() {
	l.walk(".", map[string]bool{}, func(path string) bool { return path == ".git" })
}

// relative is the runner's findRelativePathInProject.
func (l *lister) relative(path string) (string, error) {
	if filepath.Clean(path) == l.dir {
		return ".", nil
	}
	base, pattern := path, ""
	if strings.ContainsAny(path, "*?[{") {
		base, pattern = doublestar.SplitPattern(path)
	}
	rel, ok := l.inside(base)
	if !ok {
		return "", errors.New("not below the folder")
	}
	return filepath.Join(rel, pattern), nil
}

// inside makes a path relative to the folder; false when it lies outside.
func (l *lister) inside(path string) (rel string, ok bool) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(l.dir, path)
	}
	rel, err := filepath.Rel(l.dir, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// walk adds path and what is below it. Folders in walked are known: "**"
// matches each folder and all that is in it.
func (l *lister) walk(path string, walked map[string]bool, skip func(string) bool) {
	if l.err != nil {
		return
	}
	filepath.WalkDir(path, func(path string, d fs.DirEntry, err error) error {
		if l.err == nil {
			l.err = l.ctx.Err()
		}
		if l.err != nil {
			return fs.SkipAll
		}
		if skip != nil && skip(path) {
			return fs.SkipDir
		}
		rel, inside := l.inside(path)
		if err == nil && d.IsDir() {
			// Outside is nothing of ours, except on the way back in.
			if walked[rel] || !inside && !above(rel) {
				return fs.SkipDir
			}
			walked[rel] = true
		}
		if inside {
			l.add(rel)
		}
		return nil
	})
}

// above tells whether a path that leads out of the folder is one of those that
// the folder is in.
func above(rel string) bool { return strings.Trim(rel, "./") == "" }

// add takes a path unless the set excludes it.
func (l *lister) add(path string) error {
	rel, ok := l.inside(path)
	if !ok || l.err != nil {
		return l.err
	}
	for _, pattern := range l.exclude {
		if out, err := doublestar.Match(pattern, rel); err == nil && out {
			return nil
		}
	}
	l.paths = append(l.paths, rel)
	l.names += len(rel)
	if len(l.paths) >= l.limit || l.names > 2*initproto.MaxNames {
		l.err = l.unique()
	}
	return l.err
}

// unique sorts the paths and leaves each once.
func (l *lister) unique() error {
	slices.Sort(l.paths)
	l.paths = slices.Compact(l.paths)
	l.names = 0
	for _, path := range l.paths {
		l.names += len(path)
	}
	if len(l.paths) > initproto.MaxEntries || l.names > initproto.MaxNames {
		return initproto.ErrTooMany
	}
	return nil
}

// entry looks at one path.
func entry(path string) (initproto.Entry, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return initproto.Entry{}, err
	}
	e := entryOf(path, info)
	if e.Mode.Type() == fs.ModeSymlink {
		e.Target, err = os.Readlink(path)
	}
	return e, err
}

func entryOf(path string, info fs.FileInfo) initproto.Entry {
	st := info.Sys().(*syscall.Stat_t)
	return initproto.Entry{Path: path, Mode: info.Mode(), Size: info.Size(), Dev: st.Dev, Ino: st.Ino, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano()}
}

// Open implements initproto.Handler.
func (h *host) Open(dir string, e initproto.Entry) (initproto.OpenFile, error) {
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(at)
	// A fifo in the file's place would have us wait for a writer.
	fd, err := unix.Openat(at, e.Path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR, unix.ELOOP, unix.ENXIO: // not there, or a link, or a socket by now
		return nil, initproto.ErrChanged
	default:
		return nil, err
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil && !same(&st, e) {
		err = initproto.ErrChanged
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return openFile(fd), nil
}

// same tells whether a regular file is the one that was listed.
func same(st *unix.Stat_t, e initproto.Entry) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size == e.Size && st.Dev == e.Dev && st.Ino == e.Ino &&
		st.Mtim.Nano() == e.Mtime && st.Ctim.Nano() == e.Ctime && fs.FileMode(st.Mode).Perm() == e.Mode.Perm()
}

// openFile is a descriptor; an os.File would try to have it polled.
type openFile int

func (f openFile) Close() error { return unix.Close(int(f)) }

func (f openFile) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(int(f), p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case m == 0:
			return n, io.EOF
		}
		n += max(m, 0)
	}
	return n, nil
}
