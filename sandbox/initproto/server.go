package initproto

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Handler is what a Server does for its client. The server calls one method
// at a time, Hello excepted.
type Handler interface {
	// Hello tells of the container; Fresh is filled in by the server.
	Hello() Hello
	// Boot returns nil when it is ready in place. With Argv it executes
	// that, so it returns only an error.
	Boot(Boot) error
	// Run runs a stage until everything of it is gone. ctx ends when the
	// stage is to be ended. mask has the driver hide a value (of which no copy
	// is kept), and returns at the latest when Run does; s.Mask is nil.
	Run(ctx context.Context, s Stage, mask func(value []byte) error) (Exit, error)
	// List calls each for all that sets choose below dir, sorted by path, each
	// path once. note says what was chosen wider than asked for, and why.
	List(ctx context.Context, dir string, sets []FileSet, each func(Entry) error) (note string, err error)
	// Open opens a regular file below dir. Unless it is still what e says the
	// error wraps ErrChanged.
	Open(dir string, e Entry) (OpenFile, error)
	// Create begins a file, whose folders it makes.
	Create(f NewFile) (Writing, error)
	// Probe dials addrs until one accepts. last is the last failure.
	Probe(ctx context.Context, addrs []string) (addr string, last error)
	// End is told that nothing is to run any more.
	End()
	// Over is told that a session with a proven client has ended.
	Over()
}

// OpenFile is a file that is read from.
type OpenFile interface {
	io.ReaderAt
	io.Closer
}

// What clients that have proved nothing may take of init.
const (
	shakeTime  = 5 * time.Second
	maxWaiting = 16
)

// Server is init's half. The zero value with a Handler is ready for use and
// has no key: it takes that of its first client.
type Server struct {
	Handler Handler

	mu      sync.Mutex
	key     *[32]byte
	waiting []net.Conn // before the proof, oldest first
	current *session
}

// Serve accepts connections until the listener is closed.
func (s *Server) Serve(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // out of descriptors: those of waiting clients end by time
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.wait(conn) // here, so that the waiting are in order
		go s.serveConn(conn)
	}
}

// ServeConn serves one connection until it ends, and everything that runs for
// it with it. It closes conn.
func (s *Server) ServeConn(conn net.Conn) error {
	s.wait(conn)
	return s.serveConn(conn)
}

func (s *Server) serveConn(conn net.Conn) error {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(shakeTime))
	ses := &session{srv: s, conn: conn}
	// Read without a buffer in between, which would keep a copy of what it
	// passed on; a driver sends a handful of frames.
	ses.in = frameReader{r: conn, max: beforeProof}
	err := ses.shake()
	s.unwait(conn)
	if err != nil {
		return err
	}
	if err = ses.welcome(); err == nil {
		err = ses.serve()
	}
	s.mu.Lock()
	if s.current == ses {
		s.current = nil
	}
	s.mu.Unlock()
	s.Handler.Over()
	return err
}

// wait makes room for conn among those who have proved nothing. The oldest
// has to go: a driver needs a millisecond, who sits there longer is none.
func (s *Server) wait(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= maxWaiting {
		s.waiting[0].Close()
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
	s.waiting = append(s.waiting, conn)
}

func (s *Server) unwait(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.waiting, conn); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
}

// admit makes ses the session. An idle one before it is dropped: its driver
// may have died where the stream does not tell. A busy one stays.
func (s *Server) admit(ses *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.current; old != nil {
		if !old.retire() {
			return ErrBusy
		}
		old.conn.Close()
	}
	s.current = ses
	return nil
}

// session is one connection.
type session struct {
	srv  *Server
	conn net.Conn
	in   frameReader

	fresh bool   // the client's key was taken
	proof string // for the welcome frame

	wmu  sync.Mutex
	wbuf []byte

	mu      sync.Mutex
	retired bool
	cancel  context.CancelFunc // of the running operation, nil: idle
	script  *queue             // of the running stage
	masks   *masks             // the same
	done    chan struct{}      // closed at the operation's end

	incoming *incoming // a file that is written
}

func (c *session) write(t byte, payload []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = appendFrame(c.wbuf[:0], t, payload)
	_, err := c.conn.Write(c.wbuf)
	return err
}

func (c *session) fail(err error) error {
	var e encoder
	encodeFail(&e, err)
	return c.write(frameFail, e.b)
}

// shake is the other end of Client.shake, up to the proof. Who fails here is
// told nothing beyond the challenge, except that the key was wrong.
func (c *session) shake() error {
	t, p, err := c.in.next()
	if err != nil {
		return err
	}
	var theirs, mine nonce
	d := decoder{b: p}
	if t != frameHello || d.str() != magic {
		c.fail(fmt.Errorf("this init speaks %s: use the init that came with your driver", magic))
		return fmt.Errorf("%w: not a driver", ErrProtocol)
	}
	d.raw(theirs[:])
	if err := d.done(); err != nil {
		return err
	}
	rand.Read(mine[:])

	c.srv.mu.Lock()
	key, fresh := c.srv.key, c.srv.key == nil
	c.srv.mu.Unlock()
	e := encoder{b: slices.Clone(mine[:])}
	e.flag(fresh)
	if fresh {
		e.str("")
	} else {
		e.str(string(proof(*key, sideServer, false, theirs, mine)))
	}
	if err := c.write(frameChallenge, e.b); err != nil {
		return err
	}

	if t, p, err = c.in.next(); err != nil {
		return err
	}
	var theirProof [32]byte
	d = decoder{b: p}
	d.raw(theirProof[:])
	if fresh {
		key = new([32]byte)
		d.raw(key[:])
	}
	if err := d.done(); err != nil || t != frameProof {
		return fmt.Errorf("%w: no proof", ErrProtocol)
	}
	if !hmac.Equal(theirProof[:], proof(*key, sideClient, fresh, theirs, mine)) || !c.srv.adopt(key, fresh) {
		c.fail(ErrKey)
		return ErrKey
	}
	c.srv.unwait(c.conn) // a driver is not to make room for anybody
	if err := c.srv.admit(c); err != nil {
		c.fail(err)
		return err
	}
	c.fresh, c.proof = fresh, string(proof(*key, sideServer, fresh, theirs, mine))
	return nil
}

// welcome ends the handshake. Hello may take its time, looking for a shell.
func (c *session) welcome() error {
	c.conn.SetDeadline(time.Time{})
	hello := c.srv.Handler.Hello()
	hello.Fresh = c.fresh
	var e encoder
	hello.encode(&e)
	e.str(c.proof)
	return c.write(frameWelcome, e.b)
}

// adopt takes the first client's key; a second "first" client was too late.
func (s *Server) adopt(key *[32]byte, fresh bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !fresh {
		return true
	}
	if s.key != nil {
		return false
	}
	s.key = key
	return true
}
