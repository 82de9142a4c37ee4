package initproto

import (
	"context"
	"errors"
	"io"
	"sync"
)

// How much a View reads ahead: the first time, and after a while of reading on
// and on.
const (
	firstAhead = 64 << 10
	mostAhead  = 1 << 20
)

// View is a listed file for readers that jump about, as those of archives
// do. It may be used by many at once.
type View struct {
	ctx context.Context
	c   *Client
	e   Entry

	mu    sync.Mutex
	buf   []byte
	at    int64 // of buf
	ahead int64
}

// File asks init for nothing until it is read. Its errors are those of Read.
func (c *Client) File(ctx context.Context, e Entry) *View { return &View{ctx: ctx, c: c, e: e} }

// Size is what was listed.
func (f *View) Size() int64 { return f.e.Size }

// ReadAt implements io.ReaderAt.
func (f *View) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read before the beginning of a file")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for n < len(p) && off < f.e.Size {
		if off < f.at || off >= f.at+int64(len(f.buf)) {
			if err := f.fill(off, len(p)-n); err != nil {
				return n, err
			}
		}
		m := copy(p[n:], f.buf[off-f.at:])
		n, off = n+m, off+int64(m)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// fill has buf begin at off. Who reads on where the last read ended will go
// on, and is given more each time.
func (f *View) fill(off int64, want int) error {
	if len(f.buf) > 0 && off == f.at+int64(len(f.buf)) {
		f.ahead = min(2*f.ahead, mostAhead)
	} else {
		f.ahead = firstAhead
	}
	n := min(max(f.ahead, min(int64(want), mostAhead)), f.e.Size-off)
	if int64(cap(f.buf)) < n {
		f.buf = make([]byte, 0, n)
	}
	f.buf, f.at = f.buf[:0], off
	err := f.c.Read(f.ctx, f.e, off, n, (*filler)(f))
	if err != nil {
		f.buf = f.buf[:0]
	}
	return err
}

type filler View

func (f *filler) Write(p []byte) (int, error) { f.buf = append(f.buf, p...); return len(p), nil }
