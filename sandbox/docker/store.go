package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// look lists what a stage stores and has it checked. after looks again, when
// the stage has stored it, and is told what was brought meanwhile.
func look(ctx context.Context, c *initproto.Client, s *sandbox.Store) (after func(ctx context.Context, brought []sandbox.Entry) error, err error) {
	env, err := envOf(ctx, c, s.EnvFile)
	if err != nil {
		return nil, err
	}
	chosen, writes := s.Choose(env)
	sets := setsOf(chosen)
	f := &files{c: c, last: -1}
	f.note, err = c.List(ctx, s.Dir, sets, func(e initproto.Entry) error {
		f.list = append(f.list, sandbox.Entry(e))
		return nil
	})
	if err != nil {
		return nil, listError{err}
	}
	if err := s.Check(ctx, f); err != nil {
		return nil, err
	}
	return func(ctx context.Context, brought []sandbox.Entry) error {
		still := &comparer{writes: writes, brought: brought}
		for _, e := range f.list {
			if stored(e) {
				still.before = append(still.before, e)
			}
		}
		var seen error
		_, err := c.List(ctx, s.Dir, sets, func(e initproto.Entry) error {
			seen = still.see(sandbox.Entry(e))
			return seen
		})
		switch {
		case seen != nil:
			return seen
		case err != nil:
			return listError{err}
		}
		return still.end()
	}, nil
}

// maxEnv bounds an EnvFile, in bytes: far more than an environment can hold.
const maxEnv = 4 << 20

// envOf reads an EnvFile; nil where there is none.
func envOf(ctx context.Context, c *initproto.Client, file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	dir, name := path.Split(file)
	var found []initproto.Entry
	if _, err := c.List(ctx, path.Clean(dir), []initproto.FileSet{{Paths: []string{name}}}, func(e initproto.Entry) error {
		if e.Path == name {
			found = append(found, e)
		}
		return nil
	}); err != nil {
		return nil, listError{err}
	}
	switch {
	case len(found) == 0:
		return nil, nil
	case !found[0].Mode.IsRegular() || found[0].Size > maxEnv: // a shell would read through a link
		return nil, userErrorf("%s is no file of at most %d MiB, as the runner makes it: only append to it", file, maxEnv>>20)
	}
	got, err := c.ReadFiles(ctx, found)
	if err == nil {
		err = got[0].Err
	}
	if err != nil {
		return nil, listError{err}
	}
	return got[0].Data, nil
}

// listError is one of init's, to be explained as those of a stage.
type listError struct{ error }

func (e listError) Unwrap() error { return e.error }

func setsOf(sets []sandbox.FileSet) []initproto.FileSet {
	list := make([]initproto.FileSet, len(sets))
	for i, s := range sets {
		list[i] = initproto.FileSet(s)
	}
	return list
}

// stored tells what an uploader takes the content of.
func stored(e sandbox.Entry) bool { return e.Mode.IsRegular() || e.Mode.Type() == fs.ModeSymlink }

// comparer meets a second list, entry by entry. Folders do not count: their
// times and sizes tell of what is beside the files, too.
type comparer struct {
	before  []sandbox.Entry
	writes  []string
	brought []sandbox.Entry
}

func (c *comparer) see(e sandbox.Entry) error {
	if !stored(e) {
		return nil
	}
	for len(c.before) > 0 && c.before[0].Path < e.Path {
		if err := c.differs(c.before[0].Path, "is gone"); err != nil {
			return err
		}
		c.before = c.before[1:]
	}
	if len(c.before) == 0 || c.before[0].Path != e.Path {
		if _, ok := c.linked(e); ok { // what we brought, once more
			return nil
		}
		return c.differs(e.Path, "appeared")
	}
	was := c.before[0]
	c.before = c.before[1:]
	if was == e {
		return nil
	}
	if b, ok := c.linked(e); ok {
		return c.differs(e.Path, fmt.Sprintf("was replaced by %q, since a link leads there: store it by one of both paths only; it changed", b.Path))
	}
	return c.differs(e.Path, "changed")
}

// linked finds the file that was brought which a link has at another path as
// well.
func (c *comparer) linked(e sandbox.Entry) (sandbox.Entry, bool) {
	for _, b := range c.brought {
		if there := b; there.Dev == e.Dev && there.Ino == e.Ino {
			there.Path = e.Path
			return b, there == e
		}
	}
	return sandbox.Entry{}, false
}

func (c *comparer) end() error {
	for _, e := range c.before {
		if err := c.differs(e.Path, "is gone"); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparer) differs(path, how string) error {
	if slices.Contains(c.writes, path) {
		return nil
	}
	return fmt.Errorf("%q %s while it was stored: %w", path, how, sandbox.ErrChanged)
}

// A file up to smallFile is read whole, together with those that follow it in
// the list, up to aheadSize: for small files the question costs more than the
// answer, and much more where the engine is far away.
const (
	smallFile = 64 << 10
	aheadSize = 1 << 20
)

// files implements sandbox.Files over the stage's connection.
type files struct {
	c    *initproto.Client
	list []sandbox.Entry
	note string

	mu    sync.Mutex
	last  int                       // highest in list that was opened
	ahead map[int]initproto.Content // read, not opened yet
}

func (f *files) Entries() []sandbox.Entry { return f.list }

func (f *files) Note() string { return f.note }

func (f *files) Open(ctx context.Context, e sandbox.Entry) (sandbox.OpenFile, error) {
	i, found := slices.BinarySearchFunc(f.list, e.Path, func(e sandbox.Entry, path string) int { return strings.Compare(e.Path, path) })
	if !found || f.list[i] != e || !e.Mode.IsRegular() {
		return nil, fmt.Errorf("%q is no regular file of this list", e.Path)
	}
	if e.Size > smallFile {
		return view{f.c.File(ctx, initproto.Entry(e))}, nil
	}
	content, err := f.small(ctx, i)
	if err == nil {
		err = content.Err
	}
	if err != nil {
		return nil, changed(err)
	}
	return view{bytes.NewReader(content.Data)}, nil
}

// small gives the content of one, and reads on when they are opened in order.
func (f *files) small(ctx context.Context, i int) (initproto.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	inOrder := i > f.last
	f.last = max(f.last, i)
	if content, ok := f.ahead[i]; ok {
		delete(f.ahead, i)
		return content, nil
	}
	var at []int
	var part []initproto.Entry
	for k, size := i, int64(0); k < len(f.list) && len(part) < initproto.MaxReads && (inOrder || k == i); k++ {
		e := f.list[k]
		if !e.Mode.IsRegular() || e.Size > smallFile {
			continue
		}
		if size += e.Size; size > aheadSize {
			break
		}
		at, part = append(at, k), append(part, initproto.Entry(e))
	}
	got, err := f.c.ReadFiles(ctx, part)
	if err != nil {
		return initproto.Content{}, err
	}
	if inOrder {
		f.ahead = make(map[int]initproto.Content, len(at))
		for k := 1; k < len(at); k++ {
			f.ahead[at[k]] = got[k]
		}
	}
	return got[0], nil
}

// changed has an error of init's say what one of a room does.
func changed(err error) error {
	if errors.Is(err, initproto.ErrChanged) {
		return fmt.Errorf("%w: %w", sandbox.ErrChanged, err)
	}
	return err
}

// view is an open file.
type view struct {
	sized interface {
		io.ReaderAt
		Size() int64
	}
}

func (v view) Size() int64 { return v.sized.Size() }

func (v view) Close() error { return nil }

func (v view) ReadAt(p []byte, off int64) (int, error) {
	n, err := v.sized.ReadAt(p, off)
	return n, changed(err)
}
