package initproto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// ErrNotWritten is a file that is not there, and of which nothing is: init
// could not write it, or its content ended with an error.
var ErrNotWritten = errors.New("file not written")

// NewFile is a file that init makes. It appears when it is whole, in the place
// of one that may be there, and belongs to the user that init runs as.
type NewFile struct {
	Dir      string      // clean and absolute, and there already
	Path     string      // below that, clean, with slashes; folders are made
	Mode     fs.FileMode // permission bits only
	Modified int64       // nanoseconds
	Size     int64
}

// check is asked on both sides.
func (f NewFile) check() error {
	switch {
	case !path.IsAbs(f.Dir) || path.Clean(f.Dir) != f.Dir || len(f.Dir) > MaxPath || strings.IndexByte(f.Dir, 0) >= 0:
		return errors.New("its folder is no clean absolute path")
	case f.Path == ".":
		return errors.New("it is a folder")
	case f.Mode&^fs.ModePerm != 0:
		return errors.New("its mode may have permission bits only")
	}
	return Entry{Path: f.Path, Mode: f.Mode, Size: f.Size}.check()
}

func (f NewFile) encode(e *encoder) {
	e.str(f.Dir)
	e.str(f.Path)
	e.num(int64(f.Mode))
	e.num(f.Modified)
	e.num(f.Size)
}

func decodeNewFile(p []byte) (NewFile, error) {
	d := decoder{b: p}
	f := NewFile{Dir: d.str(), Path: d.str()}
	mode := d.num()
	if mode < 0 || mode > int64(fs.ModePerm) {
		d.fail("file mode out of range")
	}
	f.Mode, f.Modified, f.Size = fs.FileMode(mode), d.num(), d.num()
	if d.err == nil {
		if err := f.check(); err != nil {
			d.fail(err.Error())
		}
	}
	return f, d.done()
}

// Write has init make a file of what content holds, which must be as long as f
// says. It is there once content has given io.EOF and init has said so; an
// error that wraps ErrNotWritten (and content's, if it was that) leaves the
// connection as it was, any other is its end.
func (c *Client) Write(ctx context.Context, f NewFile, content io.Reader) (Entry, error) {
	c.op.Lock()
	defer c.op.Unlock()
	what := fmt.Sprintf("write %q", clean(f.Path))
	if err := f.check(); err != nil {
		return Entry{}, fmt.Errorf("%s: %w: %w", what, ErrNotWritten, err)
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() }) // half a file is of no use
	defer stop()
	var e encoder
	f.encode(&e)
	if err := c.control(ctx, frameWrite, e); err != nil {
		return Entry{}, c.explain(ctx, what, err)
	}
	unread, err := c.pour(f.Size, content)
	if err != nil {
		c.conn.Close()
		return Entry{}, c.explain(ctx, what, lost(err))
	}
	end := byte(frameKeep)
	if unread != nil {
		end = frameDrop
	}
	if err := c.write(end, nil); err != nil {
		return Entry{}, c.explain(ctx, what, lost(err))
	}
	made, why, err := c.written(f)
	if err != nil {
		c.conn.Close()
		return Entry{}, c.explain(ctx, what, err)
	}
	switch {
	case unread != nil:
		return Entry{}, fmt.Errorf("%s: %w: %w", what, ErrNotWritten, unread)
	case why != "":
		return Entry{}, fmt.Errorf("%s: %w: %s", what, ErrNotWritten, why)
	}
	return made, nil
}

// pour sends the content. unread is an error of its own; err is the
// connection's.
func (c *Client) pour(size int64, content io.Reader) (unread, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	b := make([]byte, headerLen+min(size+1, maxData)) // one more, to see the end at once
	b[0] = frameBytes
	for left := size; ; {
		n, err := io.ReadFull(content, b[headerLen:])
		if left -= int64(n); left < 0 || left > 0 && (err == io.EOF || err == io.ErrUnexpectedEOF) {
			return errors.New("it is longer or shorter than was said"), nil
		}
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return err, nil
		}
		if n > 0 {
			binary.BigEndian.PutUint32(b[1:], uint32(n))
			if _, err := c.conn.Write(b[:headerLen+n]); err != nil {
				return nil, err
			}
		}
		if err != nil {
			return nil, nil
		}
	}
}

// written takes init's answer. why is not empty when there is no file.
func (c *Client) written(f NewFile) (made Entry, why string, err error) {
	p, err := c.expect(frameWritten)
	if err != nil {
		return Entry{}, "", err
	}
	d := decoder{b: p}
	if d.flag() {
		made = d.entry()
		if d.err == nil && (made.Path != f.Path || made.Size != f.Size || !made.Mode.IsRegular()) {
			d.fail("another file than was sent")
		}
	} else if why = clean(d.str()); why == "" {
		why = "init does not say why"
	}
	return made, why, d.done()
}

// Writing is a file that init makes; nobody sees it before Keep. One of Keep
// and Drop ends it.
type Writing interface {
	io.Writer
	Keep() (Entry, error)
	Drop()
}

// incoming is one on its way. Only the session's loop has to do with it: it is
// there that content is written, so that a driver sends no faster than that.
type incoming struct {
	w    Writing
	left int64
	err  error // the first; what comes afterwards is passed over
}

// create begins a file.
func (c *session) create(p []byte) error {
	f, err := decodeNewFile(p)
	if err != nil {
		return err
	}
	if !c.srv.Handler.Hello().Ready {
		return c.fail(ErrNotReady)
	}
	if _, err := c.begin(nil, nil); err != nil {
		return err
	}
	c.incoming = &incoming{left: f.Size}
	c.incoming.w, c.incoming.err = c.srv.Handler.Create(f)
	return nil
}

// content writes a piece of it.
func (c *session) content(p []byte) error {
	in := c.incoming
	if in == nil || len(p) == 0 || int64(len(p)) > in.left {
		return fmt.Errorf("%w: content of no file, or more than was said", ErrProtocol)
	}
	in.left -= int64(len(p))
	if in.err == nil {
		if _, in.err = in.w.Write(p); in.err != nil {
			in.w.Drop()
		}
	}
	return nil
}

// settle ends a file and answers.
func (c *session) settle(keep bool) error {
	in := c.incoming
	if in == nil || keep && in.left > 0 {
		return fmt.Errorf("%w: the end of no file, or before it", ErrProtocol)
	}
	c.incoming = nil
	var made Entry
	switch {
	case in.err != nil:
	case keep:
		made, in.err = in.w.Keep()
	default:
		in.w.Drop()
		in.err = errors.New("it was not wanted any more")
	}
	var sent error
	c.end(func() {
		var e encoder
		e.flag(in.err == nil)
		if in.err == nil {
			made.encode(&e)
		} else {
			e.str(cut(in.err.Error()))
		}
		sent = c.write(frameWritten, e.b)
	})
	return sent
}

// abandon leaves nothing of a file whose driver is gone.
func (c *session) abandon() {
	if in := c.incoming; in != nil {
		c.incoming = nil
		if in.err == nil {
			in.w.Drop()
		}
		c.end(func() {})
	}
}
