package initproto

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Client is the driver's end of a connection to init. Its methods may be
// called from any goroutine, one runs at a time; after an error that is not
// an *ExecError or ErrNotReady the connection is of no more use.
type Client struct {
	conn  io.ReadWriteCloser
	in    frameReader
	hello Hello
	seq   int64
	op    sync.Mutex // held by the call that owns the stream
	dir   string     // of the last List

	wmu  sync.Mutex
	wbuf []byte
}

// Dial proves both sides to each other over conn and returns the client that
// owns it. A fresh init is given key: use Dial where one is expected (after
// the container was started, and after Boot replaced it), Redial everywhere
// else. When ctx ends or an error is returned, conn is closed.
// Errors: ErrKey, ErrBusy, ErrProtocol, ErrLost, ctx's.
func Dial(ctx context.Context, conn io.ReadWriteCloser, key [32]byte) (*Client, error) {
	return dial(ctx, conn, key, true)
}

// Redial is Dial for an init that was given key before. It returns ErrFresh,
// and keeps the key to itself, when the peer says that it has none: something
// in the container then sits where init should be.
func Redial(ctx context.Context, conn io.ReadWriteCloser, key [32]byte) (*Client, error) {
	return dial(ctx, conn, key, false)
}

func dial(ctx context.Context, conn io.ReadWriteCloser, key [32]byte, fresh bool) (*Client, error) {
	c := &Client{conn: conn, in: frameReader{r: bufio.NewReaderSize(conn, maxStream+headerLen), max: toDriver}}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err := c.shake(key, fresh)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, c.explain(ctx, "meet init", err)
	}
	return c, nil
}

// explain prefers ctx's error over that of the connection which it closed.
func (c *Client) explain(ctx context.Context, what string, err error) error {
	var x *ExecError
	switch {
	case errors.As(err, &x):
		return err
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		err = ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = ErrLost
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c *Client) shake(key [32]byte, mayGive bool) error {
	var mine, theirs nonce
	rand.Read(mine[:])
	e := encoder{}
	e.str(magic)
	e.b = append(e.b, mine[:]...)
	if err := c.write(frameHello, e.b); err != nil {
		return lost(err)
	}

	p, err := c.expect(frameChallenge)
	if err != nil {
		return err
	}
	d := decoder{b: p}
	d.raw(theirs[:])
	fresh, theirProof := d.flag(), d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	switch {
	case fresh && !mayGive:
		return ErrFresh
	case !fresh && !hmac.Equal(theirProof, proof(key, sideServer, false, mine, theirs)):
		return ErrKey
	}
	e = encoder{b: proof(key, sideClient, fresh, mine, theirs)}
	if fresh {
		e.b = append(e.b, key[:]...)
	}
	if err := c.write(frameProof, e.b); err != nil {
		return lost(err)
	}

	if p, err = c.expect(frameWelcome); err != nil {
		return err
	}
	d = decoder{b: p}
	hello, theirProof := decodeHello(&d), d.bytes()
	if err := d.done(); err != nil {
		return err
	}
	if fresh && !hmac.Equal(theirProof, proof(key, sideServer, true, mine, theirs)) {
		return ErrKey
	}
	hello.Fresh = fresh
	c.hello = hello
	return nil
}

func (d *decoder) raw(dst []byte) {
	if len(d.b) < len(dst) {
		d.fail("short frame")
		return
	}
	d.b = d.b[copy(dst, d.b):]
}

// Hello is what init said of itself, last at Dial or Boot.
func (c *Client) Hello() Hello { return c.hello }

// End tells an init on whose connection nothing runs that it is not needed any
// more: it ends, and where it is PID 1 its container does. Nothing is waited for.
func (c *Client) End() error {
	c.op.Lock()
	defer c.op.Unlock()
	if err := c.write(frameEnd, nil); err != nil {
		return lost(err)
	}
	return nil
}

// Close ends the connection. A stage that runs on it is ended by init.
func (c *Client) Close() error { return c.conn.Close() }

func lost(err error) error { return fmt.Errorf("%w: %w", ErrLost, err) }

// write sends one frame with one Write.
func (c *Client) write(t byte, payload []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = appendFrame(c.wbuf[:0], t, payload)
	_, err := c.conn.Write(c.wbuf)
	if cap(c.wbuf) > 2*maxStream {
		c.wbuf = nil
	}
	return err
}

// control sends a frame that carries an environment. An init that does not
// read it cannot keep the driver beyond ctx: half a frame is of no use, so
// the connection is closed.
func (c *Client) control(ctx context.Context, t byte, e encoder) error {
	if len(e.b) > maxControl {
		return fmt.Errorf("environment and files of %d bytes: at most %d are allowed, pass large values by the builds folder", len(e.b), maxControl)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	err := c.write(t, e.b)
	if !stop() {
		return ctx.Err()
	}
	if err != nil {
		return lost(err)
	}
	return nil
}

// next reads a frame, turning a fail frame into its error.
func (c *Client) next() (byte, []byte, error) {
	t, p, err := c.in.next()
	switch {
	case err != nil && !errors.Is(err, ErrProtocol):
		err = lost(err)
	case err == nil && t == frameFail:
		err = failError(p)
	}
	return t, p, err
}

func (c *Client) expect(want byte) ([]byte, error) {
	t, p, err := c.next()
	for err == nil && t == frameAck && want != frameChallenge {
		t, p, err = c.next() // a late one, of the stage before
	}
	if err == nil && t != want {
		err = fmt.Errorf("%w: frame %q where %q was due", ErrProtocol, t, want)
	}
	return p, err
}

// Boot sends what the container's configuration must not hold.
//
// replaced is true when init has executed b.Argv and this connection is over:
// the service now is that command, or the image's ENTRYPOINT runs and will
// start init again, which is then to be met with Dial. Otherwise init is
// ready on this connection. An *ExecError says why b.Argv could not be
// executed; init then exits with status 127.
func (c *Client) Boot(ctx context.Context, b Boot) (replaced bool, err error) {
	c.op.Lock()
	defer c.op.Unlock()
	if err := errors.Join(checkStrings("argument", b.Argv), checkStrings("variable", b.Env), checkStrings("folder", []string{b.Dir}), checkFiles(b.FilesDir, b.Files)); err != nil {
		return false, err
	}
	if b.Role != Service && b.FilesDir != "" {
		return false, errors.New("files for the life of a container: only a service can have them, give them to a stage")
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	defer stop()
	replaced, err = c.boot(ctx, b)
	if err == nil {
		err = ctx.Err() // the close below may have looked like a successful exec
	}
	if err != nil {
		return false, c.explain(ctx, "boot container", err)
	}
	return replaced, nil
}

func (c *Client) boot(ctx context.Context, b Boot) (replaced bool, err error) {
	var e encoder
	b.encode(&e)
	if err := c.control(ctx, frameBoot, e); err != nil {
		return false, err
	}
	t, p, err := c.next()
	switch {
	case err != nil:
		return false, err
	case t == frameReady && len(b.Argv) == 0:
		d := decoder{b: p}
		hello := decodeHello(&d)
		hello.Fresh = c.hello.Fresh
		c.hello = hello
		return false, d.done()
	case t != frameExec || len(b.Argv) == 0:
		return false, fmt.Errorf("%w: frame %q as answer to boot", ErrProtocol, t)
	}
	// execve closes init's end of the stream, a failed one is told.
	t, _, err = c.next()
	switch {
	case err == nil:
		return false, fmt.Errorf("%w: frame %q after exec", ErrProtocol, t)
	case errors.Is(err, ErrLost) && !errors.Is(err, io.ErrUnexpectedEOF):
		c.conn.Close()
		return true, nil
	}
	return false, err
}

// Probe has init dial addrs (host:port, at most 64) from inside the
// container's network, again and again, until one of them accepts, which it
// returns. When ctx ends the error wraps ctx's and names the last failure.
func (c *Client) Probe(ctx context.Context, addrs []string) (addr string, err error) {
	c.op.Lock()
	defer c.op.Unlock()
	if len(addrs) == 0 || len(addrs) > maxProbe {
		return "", fmt.Errorf("probe of %d addresses: give 1 to %d", len(addrs), maxProbe)
	}
	var e encoder
	e.strs(addrs)
	if err := c.control(ctx, frameProbe, e); err != nil {
		return "", c.explain(ctx, "probe", err)
	}
	release := c.cancelWith(ctx, 5*time.Second)
	defer release()
	p, err := c.expect(frameProbed)
	if err != nil {
		return "", c.explain(ctx, "probe", err)
	}
	d := decoder{b: p}
	addr, text := d.str(), clean(d.str())
	switch {
	case d.done() != nil:
		return "", fmt.Errorf("probe: %w", d.err)
	case slices.Contains(addrs, addr):
		return addr, nil
	case addr != "":
		return "", fmt.Errorf("probe: %w: an address that was not asked for", ErrProtocol)
	case ctx.Err() != nil:
		return "", fmt.Errorf("probe: %w (last try: %s)", ctx.Err(), text)
	}
	return "", fmt.Errorf("probe: init gave up: %s", text)
}

const maxProbe = 64

// cancelWith sends a cancel frame when ctx ends, and closes the connection
// patience later, so that no init can keep its driver waiting. release undoes
// it and returns only when neither can happen any more.
func (c *Client) cancelWith(ctx context.Context, patience time.Duration) (release func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		// The timer goes first: writing blocks when init does not read.
		timer := time.AfterFunc(patience, func() { c.conn.Close() })
		defer timer.Stop()
		c.write(frameCancel, nil)
		<-done
	}()
	return func() { close(done); <-ended }
}
