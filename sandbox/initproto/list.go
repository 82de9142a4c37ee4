package initproto

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"
)

// FileSet chooses files below a folder as gitlab-runner's uploader does:
// Paths and Exclude are globs, Untracked adds what git does not track.
type FileSet struct {
	Paths, Exclude []string
	Untracked      bool
}

// Entry is one thing that a FileSet chose. Its path and target are the job's:
// any bytes but zero, to be cleaned before they are shown. All but the path
// and the target is a stamp: as long as it is the same nobody has written to
// the file.
type Entry struct {
	Path   string      // relative to the folder, clean, with slashes; "." is the folder itself
	Mode   fs.FileMode // its type and permissions
	Target string      // of a link
	Size   int64
	Dev    uint64
	Ino    uint64
	Mtime  int64 // nanoseconds
	Ctime  int64
}

// Bounds of a list.
const (
	MaxEntries = 1_000_000
	// MaxNames bounds the paths and targets of a list together, in bytes: who
	// asks keeps them.
	MaxNames = 128 << 20
	MaxPath  = 4095 // PATH_MAX without its zero byte

	maxSets  = 1000
	listSize = 32 << 10 // when a batch of entries is sent
)

// ErrTooMany is a list that would be longer than MaxEntries or MaxNames.
var ErrTooMany = fmt.Errorf("more than %d files, or %d MiB of their paths, are chosen: choose fewer, or put them into an archive first", MaxEntries, MaxNames>>20)

// types are all that a file may be.
var types = map[fs.FileMode]bool{0: true, fs.ModeDir: true, fs.ModeSymlink: true, fs.ModeNamedPipe: true, fs.ModeSocket: true,
	fs.ModeDevice: true, fs.ModeDevice | fs.ModeCharDevice: true, fs.ModeIrregular: true}

const anyMode = fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// check is asked on both sides.
func (e Entry) check() error {
	switch {
	case e.Path == "" || len(e.Path) > MaxPath || strings.IndexByte(e.Path, 0) >= 0:
		return errors.New("a path that no file can have")
	case path.IsAbs(e.Path) || path.Clean(e.Path) != e.Path || e.Path == ".." || strings.HasPrefix(e.Path, "../"):
		return errors.New("a path that is not clean or leads out of the folder")
	case e.Mode&^anyMode != 0 || !types[e.Mode.Type()]:
		return errors.New("a file of no known type")
	case e.Size < 0:
		return errors.New("a negative size")
	case len(e.Target) > MaxPath || strings.IndexByte(e.Target, 0) >= 0 || e.Target != "" && e.Mode.Type() != fs.ModeSymlink:
		return errors.New("an impossible link")
	}
	return nil
}

func (e Entry) encode(to *encoder) {
	to.str(e.Path)
	to.num(int64(e.Mode))
	to.str(e.Target)
	to.num(e.Size)
	to.num(int64(e.Dev))
	to.num(int64(e.Ino))
	to.num(e.Mtime)
	to.num(e.Ctime)
}

func (d *decoder) entry() Entry {
	e := Entry{Path: d.str()}
	mode := d.num()
	if mode < 0 || mode > 1<<32-1 {
		d.fail("file mode out of range")
	}
	e.Mode, e.Target, e.Size = fs.FileMode(mode), d.str(), d.num()
	e.Dev, e.Ino, e.Mtime, e.Ctime = uint64(d.num()), uint64(d.num()), d.num(), d.num()
	if d.err == nil {
		if err := e.check(); err != nil {
			d.fail(err.Error())
		}
	}
	return e
}

// fileLists is what a list is asked for.
type fileLists struct {
	dir  string
	sets []FileSet
}

func (l fileLists) check() error {
	if !path.IsAbs(l.dir) || path.Clean(l.dir) != l.dir || len(l.sets) > maxSets {
		return fmt.Errorf("list of %d sets of files below %q: give a clean absolute path and at most %d sets", len(l.sets), clean(l.dir), maxSets)
	}
	if err := checkStrings("folder", []string{l.dir}); err != nil {
		return err
	}
	for _, s := range l.sets {
		if err := cmp.Or(checkStrings("path", s.Paths), checkStrings("path", s.Exclude)); err != nil {
			return err
		}
	}
	return nil
}

func (l fileLists) encode(e *encoder) {
	e.str(l.dir)
	e.num(int64(len(l.sets)))
	for _, s := range l.sets {
		e.strs(s.Paths)
		e.strs(s.Exclude)
		e.flag(s.Untracked)
	}
}

func decodeLists(p []byte) (l fileLists, err error) {
	d := decoder{b: p}
	l.dir = d.str()
	n := d.length()
	for i := 0; i < n && d.err == nil; i++ {
		l.sets = append(l.sets, FileSet{Paths: d.strs(), Exclude: d.strs(), Untracked: d.flag()})
	}
	if d.err == nil {
		if err := l.check(); err != nil {
			d.fail(err.Error())
		}
	}
	return l, d.done()
}

// opTime is how long init may take to end an operation that was canceled.
const opTime = 5 * time.Second

// List calls each for everything below dir that sets choose, sorted by path,
// each path once. note, unless empty, says for the job's author which choice
// could not be made as the runner makes it and was made wider. After an error
// (also one of each) the connection is of no more use.
func (c *Client) List(ctx context.Context, dir string, sets []FileSet, each func(Entry) error) (note string, err error) {
	c.op.Lock()
	defer c.op.Unlock()
	l := fileLists{dir, sets}
	if err := l.check(); err != nil {
		return "", err
	}
	var e encoder
	l.encode(&e)
	if err := c.control(ctx, frameList, e); err != nil {
		return "", c.explain(ctx, "list files", err)
	}
	release := c.cancelWith(ctx, opTime)
	defer release()
	if note, err = c.listed(each); err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.conn.Close()
		return "", c.explain(ctx, "list files", err)
	}
	c.dir = dir
	return note, nil
}

// listed reads the answer.
func (c *Client) listed(each func(Entry) error) (note string, err error) {
	last, count, names := "", int64(0), 0
	for {
		t, p, err := c.next()
		if err != nil {
			return "", err
		}
		d := decoder{b: p}
		switch t {
		case frameEntries:
			for len(d.b) > 0 {
				e := d.entry()
				names += len(e.Path) + len(e.Target)
				if count++; d.err == nil && (e.Path <= last || count > MaxEntries || names > MaxNames) {
					d.fail("a list that is not sorted, or too long")
				}
				if d.err != nil {
					return "", d.err
				}
				last = e.Path
				if err := each(e); err != nil {
					return "", err
				}
			}
			if d.err != nil || len(p) == 0 {
				return "", fmt.Errorf("%w: broken list", ErrProtocol)
			}
		case frameListed:
			n, note := d.num(), clean(d.str())
			if d.err == nil && n != count {
				d.fail("a list of another length than was said")
			}
			return note, d.done()
		case frameAck: // a late one, of the stage before
		default:
			return "", fmt.Errorf("%w: frame %q in a list", ErrProtocol, t)
		}
	}
}

// list is the server's half.
func (c *session) list(p []byte) error {
	l, err := decodeLists(p)
	if err != nil {
		return err
	}
	if !c.srv.Handler.Hello().Ready {
		return c.fail(ErrNotReady)
	}
	ctx, err := c.begin(nil, nil)
	if err != nil {
		return err
	}
	go func() {
		var batch encoder
		count, names := int64(0), 0
		flush := func() error {
			if len(batch.b) == 0 {
				return nil
			}
			err := c.write(frameEntries, batch.b)
			batch.b = batch.b[:0]
			return err
		}
		note, err := c.srv.Handler.List(ctx, l.dir, l.sets, func(e Entry) error {
			names += len(e.Path) + len(e.Target)
			if count++; count > MaxEntries || names > MaxNames {
				return ErrTooMany
			}
			e.encode(&batch)
			if len(batch.b) < listSize {
				return nil
			}
			return flush()
		})
		if err == nil {
			err = flush()
		}
		c.end(func() {
			if err != nil {
				c.fail(err)
				return
			}
			var e encoder
			e.num(count)
			e.str(cut(note))
			c.write(frameListed, e.b)
		})
	}()
	return nil
}
