package initproto

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
)

// Bounds of reading files.
const (
	MaxReads = 1024      // files of one request
	maxData  = 256 << 10 // payload of a data frame: larger than others, for speed
	maxWhy   = 8192      // why a file could not be read
)

// ErrChanged is a file that is no longer what was listed.
var ErrChanged = errors.New("changed after it was looked at")

// span is a part of a file.
type span struct {
	e      Entry
	off, n int64
}

// within cuts a span to the file.
func within(e Entry, off, n int64) (span, error) {
	if err := e.check(); err != nil || !e.Mode.IsRegular() || off < 0 || n < 0 {
		return span{}, fmt.Errorf("%q cannot be read: not a regular file of a list, or not a part of it", clean(e.Path))
	}
	return span{e, off, max(0, min(n, e.Size-off))}, nil
}

func encodeSpans(e *encoder, dir string, spans []span) {
	e.str(dir)
	e.num(int64(len(spans)))
	for _, s := range spans {
		s.e.encode(e)
		e.num(s.off)
		e.num(s.n)
	}
}

func decodeSpans(p []byte) (dir string, spans []span, err error) {
	d := decoder{b: p}
	dir = d.str()
	n := d.length()
	if n > MaxReads {
		d.fail("too many files at once")
	}
	for i := 0; i < n && d.err == nil; i++ {
		e, off, n := d.entry(), d.num(), d.num()
		s, err := within(e, off, n)
		if d.err == nil && (err != nil || s.n != n) {
			d.fail("not a part of a file")
		}
		spans = append(spans, s)
	}
	return dir, spans, d.done()
}

// How a file of a request went.
const (
	readAll = iota
	readChanged
	readFailed
)

// Read writes a part of a file of the last List to w, and less only at the
// file's end. An error that wraps ErrChanged, or says that the file cannot be
// read, leaves the connection as it was; any other is its end.
func (c *Client) Read(ctx context.Context, e Entry, offset, length int64, w io.Writer) error {
	s, err := within(e, offset, length)
	if err != nil || s.n == 0 {
		return err
	}
	var failed error
	err = c.read(ctx, []span{s}, func(_ int, p []byte) error { _, err := w.Write(p); return err }, func(_ int, err error) { failed = err })
	return errors.Join(err, failed)
}

// Content is what one of several files holds, or why that is not known.
type Content struct {
	Data []byte
	Err  error
}

// ReadFiles reads whole files of the last List, at most MaxReads, with one
// request: what costs with small files is asking for them.
func (c *Client) ReadFiles(ctx context.Context, list []Entry) ([]Content, error) {
	if len(list) > MaxReads {
		return nil, fmt.Errorf("%d files at once: at most %d are allowed", len(list), MaxReads)
	}
	got, spans := make([]Content, len(list)), make([]span, len(list))
	for i, e := range list {
		s, err := within(e, 0, e.Size)
		if err != nil {
			return nil, err
		}
		spans[i] = s
	}
	err := c.read(ctx, spans, func(i int, p []byte) error {
		got[i].Data = append(got[i].Data, p...)
		return nil
	}, func(i int, err error) { got[i] = Content{Err: err} })
	return got, err
}

// read asks for spans and passes on what comes, in their order.
func (c *Client) read(ctx context.Context, spans []span, data func(i int, p []byte) error, failed func(i int, err error)) error {
	c.op.Lock()
	defer c.op.Unlock()
	var e encoder
	encodeSpans(&e, c.dir, spans)
	if err := c.control(ctx, frameRead, e); err != nil {
		return c.explain(ctx, "read files", err)
	}
	release := c.cancelWith(ctx, opTime)
	defer release()
	for i, s := range spans {
		why, err := c.readOne(s, func(p []byte) error { return data(i, p) })
		if err != nil {
			c.conn.Close()
			return c.explain(ctx, "read files", err)
		}
		if why != nil {
			failed(i, fmt.Errorf("%q: %w", clean(s.e.Path), why))
		}
	}
	if _, err := c.expect(frameReadEnd); err != nil {
		return c.explain(ctx, "read files", err)
	}
	return ctx.Err()
}

// readOne takes the answer to one span. why is init's reason to have sent less.
func (c *Client) readOne(s span, data func([]byte) error) (why, err error) {
	for left := s.n; ; {
		t, p, err := c.next()
		if err != nil {
			return nil, err
		}
		switch t {
		case frameData:
			if left -= int64(len(p)); len(p) == 0 || left < 0 {
				return nil, fmt.Errorf("%w: other data of a file than was asked for", ErrProtocol)
			}
			if err := data(p); err != nil {
				return nil, err
			}
		case frameReadOne:
			d := decoder{b: p}
			kind, text := d.num(), clean(d.str())
			if d.err == nil && (kind < readAll || kind > readFailed || kind == readAll && left != 0) {
				d.fail("a file that is neither read nor failed")
			}
			switch kind {
			case readChanged:
				why = ErrChanged
			case readFailed:
				why = fmt.Errorf("cannot be read: %s", text)
			}
			return why, d.done()
		case frameAck: // a late one, of the stage before
		default:
			return nil, fmt.Errorf("%w: frame %q in a file", ErrProtocol, t)
		}
	}
}

// read is the server's half.
func (c *session) read(p []byte) error {
	dir, spans, err := decodeSpans(p)
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
		b := bursts.Get().(*burst)
		b.c = c
		for _, s := range spans {
			if err = b.file(ctx, dir, s); err != nil {
				break // the driver is gone, or does not want it any more
			}
		}
		c.end(func() {
			b.frames = appendFrame(b.frames, frameReadEnd, nil)
			b.flush()
		})
		b.c = nil
		bursts.Put(b)
	}()
	return nil
}

// burst gathers frames: a system call for each small file would cost more than
// the file.
type burst struct {
	c      *session
	frames []byte
}

var bursts = sync.Pool{New: func() any { return new(burst) }}

// file sends a part of a file and how that went.
func (b *burst) file(ctx context.Context, dir string, s span) error {
	kind, text := int64(readAll), ""
	f, err := b.c.srv.Handler.Open(dir, s.e)
	if err == nil {
		err = b.data(ctx, f, s)
		f.Close()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, ErrLost):
		return err
	case errors.Is(err, ErrChanged):
		kind = readChanged
	case err != nil:
		kind, text = readFailed, err.Error()
	}
	var e encoder
	e.num(kind)
	e.str(cut(text))
	b.frames = appendFrame(b.frames, frameReadOne, e.b)
	return b.flushFull()
}

func (b *burst) data(ctx context.Context, f io.ReaderAt, s span) error {
	for s.n > 0 && ctx.Err() == nil {
		n := int(min(s.n, maxData))
		at := len(b.frames)
		// Read into its place in the frame: a copy less.
		b.frames = slices.Grow(b.frames, headerLen+n)[:at+headerLen+n]
		got, err := f.ReadAt(b.frames[at+headerLen:], s.off)
		if got < n {
			b.frames = b.frames[:at]
			if err == io.EOF {
				err = ErrChanged
			}
			return err
		}
		b.frames[at] = frameData
		binary.BigEndian.PutUint32(b.frames[at+1:], uint32(n))
		s.off, s.n = s.off+int64(n), s.n-int64(n)
		if err := b.flushFull(); err != nil {
			return err
		}
	}
	return nil
}

func (b *burst) flushFull() error {
	if len(b.frames) < maxData {
		return nil
	}
	return b.flush()
}

func (b *burst) flush() error {
	b.c.wmu.Lock()
	defer b.c.wmu.Unlock()
	_, err := b.c.conn.Write(b.frames)
	b.frames = b.frames[:0]
	if err != nil {
		return lost(err)
	}
	return nil
}
