package initproto

import (
	"context"
	"fmt"
	"io"
	"sync"
)

// serve reads the driver's frames until the stream ends. It never blocks on
// a stage, so that a cancel frame and the end of the stream are always seen.
func (c *session) serve() error {
	c.in.max = toInit
	err := c.loop()
	c.abandon()
	c.mu.Lock()
	c.retired = true
	done := c.done
	if c.cancel != nil {
		c.cancel() // a stage whose driver is gone is ended
	}
	c.mu.Unlock()
	if done != nil {
		<-done
	}
	return err
}

func (c *session) loop() error {
	for {
		t, p, err := c.in.next()
		if err != nil {
			return err
		}
		switch t {
		case frameBoot:
			err = c.boot(p)
		case frameStage:
			err = c.stage(p)
		case frameProbe:
			err = c.probe(p)
		case frameList:
			err = c.list(p)
		case frameRead:
			err = c.read(p)
		case frameWrite:
			err = c.create(p)
		case frameBytes:
			err = c.content(p)
		case frameKeep, frameDrop:
			err = c.settle(t == frameKeep)
		case frameScript, frameScriptEnd:
			err = c.feed(t, p)
		case frameMasked:
			err = c.masked(p)
		case frameEnd:
			if c.retire() { // else a client that is broken: what runs goes on
				c.srv.Handler.End()
			}
		case frameCancel:
			c.mu.Lock()
			if c.cancel != nil {
				c.cancel()
			}
			c.mu.Unlock()
		}
		// Whoever needs something of the frame has a copy; of an environment or
		// a file there is to be no other.
		clear(p)
		if err != nil {
			return err
		}
	}
}

// retire ends an idle session; it is false for a busy one.
func (c *session) retire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		return false
	}
	c.retired = true
	return true
}

// begin claims the session for an operation. A client that asks for two at
// once is broken.
func (c *session) begin(script *queue, masks *masks) (context.Context, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.retired {
		return nil, ErrBusy
	}
	if c.cancel != nil {
		return nil, fmt.Errorf("%w: two operations at once", ErrProtocol)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.script, c.masks, c.done = cancel, script, masks, make(chan struct{})
	return ctx, nil
}

// end frees the session and then sends the answer: the next request may
// follow at its heels.
func (c *session) end(answer func()) {
	c.mu.Lock()
	if c.script != nil {
		c.script.Close()
	}
	if c.masks != nil {
		c.masks.end()
	}
	c.cancel()
	done := c.done
	c.cancel, c.script, c.masks = nil, nil, nil
	c.mu.Unlock()
	answer()
	close(done)
}

func (c *session) boot(p []byte) error {
	b, err := decodeBoot(p)
	if err != nil {
		return err
	}
	if c.srv.Handler.Hello().Ready {
		return c.fail(fmt.Errorf("already booted: make a new container"))
	}
	if _, err := c.begin(nil, nil); err != nil {
		return err
	}
	if len(b.Argv) > 0 {
		err = c.write(frameExec, nil)
	}
	if err == nil {
		err = c.srv.Handler.Boot(b)
	}
	var sent error
	c.end(func() {
		if err != nil {
			sent = c.fail(err)
			return
		}
		var e encoder
		c.srv.Handler.Hello().encode(&e)
		sent = c.write(frameReady, e.b)
	})
	return sent
}

func (c *session) stage(p []byte) error {
	head, err := decodeStage(p)
	if err != nil {
		return err
	}
	if !c.srv.Handler.Hello().Ready {
		return c.fail(ErrNotReady)
	}
	script, masks := newQueue(c, head.Seq), newMasks(c)
	ctx, err := c.begin(script, masks)
	if err != nil {
		return err
	}
	// The stage is handed over, and not held in a closure: when the Handler
	// drops its environment and files nobody else has them.
	go c.run(ctx, Stage{
		Name: head.Name, Env: head.Env, Dir: head.Dir, Grace: head.Grace, FilesDir: head.FilesDir, Files: head.Files,
		Script: script, Output: output{c},
	}, masks.send)
	return nil
}

func (c *session) run(ctx context.Context, s Stage, mask func([]byte) error) {
	exit, err := c.srv.Handler.Run(ctx, s, mask)
	c.end(func() {
		if err != nil {
			c.fail(err)
			return
		}
		var e encoder
		exit.encode(&e)
		c.write(frameExit, e.b)
	})
}

func (c *session) probe(p []byte) error {
	d := decoder{b: p}
	addrs := d.strs()
	if d.err == nil && (len(addrs) == 0 || len(addrs) > maxProbe) {
		d.fail("bad number of addresses")
	}
	if err := d.done(); err != nil {
		return err
	}
	ctx, err := c.begin(nil, nil)
	if err != nil {
		return err
	}
	go func() {
		addr, last := c.srv.Handler.Probe(ctx, addrs)
		c.end(func() {
			var e encoder
			e.str(addr)
			if last != nil {
				e.str(cut(last.Error()))
			} else {
				e.str("")
			}
			c.write(frameProbed, e.b)
		})
	}()
	return nil
}

func (c *session) feed(t byte, p []byte) error {
	c.mu.Lock()
	q := c.script
	c.mu.Unlock()
	if q == nil {
		return nil // the stage ended before it had read all of its script
	}
	return q.push(p, t == frameScriptEnd)
}

func (c *session) masked(p []byte) error {
	c.mu.Lock()
	m := c.masks
	c.mu.Unlock()
	if m == nil {
		return nil // the stage ended before it had its answer
	}
	return m.answered(p)
}

// output turns writes into frames.
type output struct{ c *session }

func (o output) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		part := p[:min(len(p), maxStream)]
		if err = o.c.write(frameOutput, part); err == nil {
			n += len(part)
			p = p[len(part):]
		}
	}
	return n, err
}

// queue holds script bytes until the shell takes them: at most a window,
// because the driver sends no more than was acknowledged.
type queue struct {
	c   *session
	seq int64

	mu    sync.Mutex
	cond  sync.Cond
	buf   []byte
	taken int // read, not acknowledged
	ended bool
	over  bool
}

func newQueue(c *session, seq int64) *queue {
	q := &queue{c: c, seq: seq}
	q.cond.L = &q.mu
	return q
}

func (q *queue) push(p []byte, last bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended || len(q.buf)+q.taken+len(p) > window {
		return fmt.Errorf("%w: script beyond the window or its end", ErrProtocol)
	}
	q.buf = append(q.buf, p...)
	q.ended = last
	q.cond.Signal()
	return nil
}

// Read gives the next part of the script. Asking for more is taken as a sign
// that what was given before has reached the shell.
func (q *queue) Read(p []byte) (int, error) {
	q.mu.Lock()
	n := q.taken
	q.taken = 0
	over := q.over
	q.mu.Unlock()
	if n > 0 && !over {
		var e encoder
		e.num(q.seq)
		e.num(int64(n))
		q.c.write(frameAck, e.b)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.buf) == 0 && !q.ended && !q.over {
		q.cond.Wait()
	}
	switch {
	case q.over:
		return 0, io.ErrClosedPipe
	case len(q.buf) == 0:
		return 0, io.EOF
	}
	n = copy(p, q.buf)
	q.buf = q.buf[n:]
	if len(q.buf) == 0 {
		q.buf = nil
	}
	q.taken = n
	return n, nil
}

// Close ends the script where it is: for a Handler that gave up waiting.
func (q *queue) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	q.cond.Broadcast()
	return nil
}
