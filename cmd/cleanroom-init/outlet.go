package main

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// outlet copies a stage's output to the driver, as soon as there is something.
type outlet struct {
	fd    int
	r     *os.File
	w     io.Writer
	ended chan struct{}
}

func newOutlet(fd int, w io.Writer) *outlet {
	unix.SetNonblock(fd, true) // so that the runtime polls, and no thread sits in read
	return &outlet{fd: fd, r: os.NewFile(uintptr(fd), "output"), w: w, ended: make(chan struct{})}
}

func (o *outlet) copy() {
	defer close(o.ended)
	defer o.r.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := o.r.Read(buf)
		o.write(buf[:n])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			o.rest(buf)
			return
		}
		if err != nil {
			return
		}
	}
}

// write discards once the driver is gone: a stage that is being ended must
// not hang in a full pipe while it cleans up.
func (o *outlet) write(p []byte) {
	if len(p) == 0 || o.w == nil {
		return
	}
	if _, err := o.w.Write(p); err != nil {
		o.w = nil
	}
}

// rest takes what is in the pipe without waiting, at most what fits into it:
// whoever still writes is not ours.
func (o *outlet) rest(buf []byte) {
	size, err := unix.FcntlInt(uintptr(o.fd), unix.F_GETPIPE_SZ, 0)
	if err != nil {
		return
	}
	for size > 0 {
		n, err := unix.Read(o.fd, buf)
		if n <= 0 || err != nil {
			return
		}
		o.write(buf[:n])
		size -= n
	}
}

// finish returns when the pipe is read to its end: usually all writers are
// dead and it has one. When it has none for the length of patience, something
// still holds it, and only what is in it then is taken. A driver that reads
// slowly is waited for.
func (o *outlet) finish(patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-o.ended:
		return
	case <-timer.C:
	}
	o.r.SetReadDeadline(time.Unix(1, 0))
	<-o.ended
}
