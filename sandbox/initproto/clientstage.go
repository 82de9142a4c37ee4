package initproto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"cleanroom/sandbox/fault"
)

// window is how many bytes of script may be on their way to the shell. With
// it a script of any size passes an init of fixed size, and cancel frames are
// read while the shell does not read its script.
const window = 256 << 10

// late is how long after Stage.Grace an init that was told to end a stage may
// take before the driver gives it up.
const late = 10 * time.Second

// RunStage runs one script in init's shell. When ctx ends, everything that
// the stage has started gets TERM, and KILL after s.Grace; output still
// arrives until then, and RunStage returns at the latest Grace+10s after
// ctx's end. A stage that was ended so is no error: Exit.Canceled tells.
// When a writer of s or s.Script fails the stage is ended too, and that error
// is returned. Other errors: *ExecError when there is no usable shell,
// ErrNotReady, ErrLost, ErrProtocol.
//
// RunStage does not wait for a Read of s.Script that blocks; when it returns
// before the script's end a last Read may still go on.
func (c *Client) RunStage(ctx context.Context, s Stage) (Exit, error) {
	c.op.Lock()
	defer c.op.Unlock()
	what := fmt.Sprintf("stage %q", s.Name)
	if err := errors.Join(checkStrings("variable", s.Env), checkStrings("name or folder", []string{s.Name, s.Dir}), checkFiles(s.FilesDir, s.Files)); err != nil {
		return Exit{}, fmt.Errorf("%s: %w", what, err)
	}
	if s.Grace < 0 || s.Grace > MaxGrace {
		return Exit{}, fmt.Errorf("%s: grace of %s: choose 0 to %s", what, s.Grace, MaxGrace)
	}
	c.seq++
	var e encoder
	stageHead{Seq: c.seq, Name: s.Name, Dir: s.Dir, Grace: s.Grace, Env: s.Env, FilesDir: s.FilesDir, Files: s.Files}.encode(&e)
	if err := c.control(ctx, frameStage, e); err != nil {
		return Exit{}, c.explain(ctx, what, err)
	}
	ctx2, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	release := c.cancelWith(ctx2, s.Grace+late)
	defer release()
	feed := &feeder{c: c, credit: window, seq: c.seq}
	feed.cond.L = &feed.mu
	if s.Script == nil {
		s.Script = strings.NewReader("")
	}
	go feed.run(s.Script, abort)
	defer feed.stop()

	exit, err := c.follow(s, feed, abort)
	if cause := context.Cause(ctx2); cause != nil && ctx.Err() == nil {
		return exit, fmt.Errorf("%s: %w", what, cause) // ours came first, the rest followed from it
	}
	if err != nil {
		return Exit{}, c.explain(ctx, what, err)
	}
	return exit, nil
}

// follow reads frames until the stage's exit.
func (c *Client) follow(s Stage, feed *feeder, abort context.CancelCauseFunc) (Exit, error) {
	output := &sink{s.Output, abort}
	mask := &maskTaker{c: c, take: s.Mask}
	for {
		t, p, err := c.next()
		if err != nil {
			return Exit{}, err
		}
		switch t {
		case frameOutput:
			if err = fault.At("run.output"); err == nil {
				err = output.write(p)
			}
		case frameMask:
			err = mask.answer(p)
		case frameAck:
			err = feed.ack(p)
		case frameExit:
			return decodeExit(p)
		default:
			err = fmt.Errorf("%w: frame %q in a stage", ErrProtocol, t)
		}
		if err != nil {
			return Exit{}, err
		}
	}
}

// sink writes output until its writer fails, which aborts the stage.
type sink struct {
	w     io.Writer
	abort context.CancelCauseFunc
}

func (s *sink) write(p []byte) error {
	if len(p) == 0 {
		return fmt.Errorf("%w: empty output frame", ErrProtocol)
	}
	if s.w == nil {
		return nil
	}
	if _, err := s.w.Write(p); err != nil {
		s.w = nil
		s.abort(fmt.Errorf("write output: %w", err))
	}
	return nil
}

// feeder sends the script, never more than a window ahead of the shell.
type feeder struct {
	c    *Client
	seq  int64
	mu   sync.Mutex
	cond sync.Cond

	credit  int
	stopped bool
}

func (f *feeder) run(script io.Reader, abort context.CancelCauseFunc) {
	buf := make([]byte, maxStream)
	for {
		n, err := script.Read(buf)
		if n > 0 && !f.send(frameScript, buf[:n]) {
			return
		}
		if err == io.EOF {
			f.send(frameScriptEnd, nil)
			return
		}
		if err != nil {
			abort(fmt.Errorf("read script: %w", err))
			return
		}
	}
}

// send waits for credit. It is false when the stage is over; once stop has
// returned nothing more is sent.
func (f *feeder) send(t byte, p []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !f.stopped && f.credit < len(p) {
		f.cond.Wait()
	}
	if f.stopped {
		return false
	}
	f.credit -= len(p)
	f.mu.Unlock() // acks must not wait for a slow write
	err := f.c.writeIf(func() bool { f.mu.Lock(); defer f.mu.Unlock(); return !f.stopped }, t, p)
	f.mu.Lock()
	return err == nil
}

func (f *feeder) ack(p []byte) error {
	d := decoder{b: p}
	seq, n := d.num(), d.num()
	if err := d.done(); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if seq != f.seq {
		return nil // of the stage before
	}
	if n <= 0 || n > int64(window-f.credit) {
		return fmt.Errorf("%w: ack of what was not sent", ErrProtocol)
	}
	f.credit += int(n)
	f.cond.Signal()
	return nil
}

func (f *feeder) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stopped = true
	f.cond.Signal()
}

var errStopped = errors.New("stage is over")

// writeIf is write, unless the stage ended while it waited for its turn.
// Whoever writes after stop does so under wmu, so frames stay in order.
func (c *Client) writeIf(still func() bool, t byte, p []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if !still() {
		return errStopped
	}
	c.wbuf = appendFrame(c.wbuf[:0], t, p)
	_, err := c.conn.Write(c.wbuf)
	return err
}
