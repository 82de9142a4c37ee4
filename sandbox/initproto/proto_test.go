package initproto

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fake is a container without processes: its shell copies the script to
// its output and ends with the last byte as status.
type fake struct {
	ready bool
	fail  error
	hello Hello

	written *memo // the last
	ends    int
}

func (f *fake) Hello() Hello { h := f.hello; h.Ready = f.ready; return h }
func (f *fake) Over()        {}
func (f *fake) End()         { f.ends++ }

func (f *fake) Boot(b Boot) error {
	if len(b.Argv) > 0 && f.fail == nil {
		return &ExecError{Argv0: b.Argv[0], Text: "not in a test"}
	}
	f.ready = f.fail == nil
	return f.fail
}

func (f *fake) Run(ctx context.Context, s Stage, mask func([]byte) error) (Exit, error) {
	if s.Name == "hang" {
		<-ctx.Done()
		return Exit{Code: 143, Signal: 15, Canceled: true}, nil
	}
	if s.Name == "deaf" {
		return Exit{Code: 7}, nil
	}
	last := make([]byte, 1)
	stop := context.AfterFunc(ctx, func() { s.Script.(io.Closer).Close() })
	defer stop()
	n, err := io.Copy(writerTo(func(p []byte) (int, error) { last[0] = p[len(p)-1]; return s.Output.Write(p) }), s.Script)
	if n == 0 || err != nil {
		return Exit{}, err
	}
	return Exit{Code: int(last[0])}, nil
}

type writerTo func([]byte) (int, error)

func (f writerTo) Write(p []byte) (int, error) { return f(p) }

func (f *fake) Probe(ctx context.Context, addrs []string) (string, error) {
	if addrs[0] == "never" {
		<-ctx.Done()
		return "", errors.New("refused")
	}
	return addrs[len(addrs)-1], nil
}

func (f *fake) List(_ context.Context, _ string, sets []FileSet, each func(Entry) error) (string, error) {
	return "", each(Entry{Path: "file", Size: 5})
}

func (f *fake) Open(_ string, e Entry) (OpenFile, error) {
	return memory{strings.NewReader("12345")}, nil
}

// memo is a file that fake is given.
type memo struct {
	bytes.Buffer
	as      NewFile
	refuse  error // at the end
	kept    bool
	dropped bool
}

func (m *memo) Keep() (Entry, error) {
	m.kept = true
	return Entry{Path: m.as.Path, Mode: m.as.Mode, Size: int64(m.Len()), Mtime: m.as.Modified}, m.refuse
}

func (m *memo) Drop() { m.dropped = true }

func (f *fake) Create(n NewFile) (Writing, error) {
	if n.Path == "refused" {
		return nil, errors.New("no\nroom")
	}
	f.written = &memo{as: n}
	if n.Path == "late" {
		f.written.refuse = errors.New("no name")
	}
	return f.written, nil
}

var testKey = [32]byte{1, 2, 3}

func connect(t testing.TB, s *Server) net.Conn {
	a, b := net.Pipe()
	go s.ServeConn(b)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a
}

// TestSession runs on a clock of its own: a time limit ends, and a sleep is
// over, when both ends have nothing else to do, however slow the machine is.
func TestSession(t *testing.T) { synctest.Test(t, testSession) }

func testSession(t *testing.T) {
	f := &fake{hello: Hello{Version: "1", UID: 5, Shell: "/bin/bash\n"}}
	s := &Server{Handler: f}
	ctx := t.Context()
	if _, err := Redial(ctx, connect(t, s), testKey); !errors.Is(err, ErrFresh) {
		t.Fatal(err)
	}
	c, err := Dial(ctx, connect(t, s), testKey)
	if err != nil {
		t.Fatal(err)
	}
	if h := c.Hello(); !h.Fresh || h.UID != 5 || h.Shell != "/bin/bash?" || h.Ready {
		t.Fatalf("%+v", h)
	}
	if _, err := c.RunStage(ctx, Stage{}); !errors.Is(err, ErrNotReady) {
		t.Fatal(err)
	}
	_, err = c.Boot(ctx, Boot{Role: Service, Argv: []string{"x"}})
	var x *ExecError
	if !errors.As(err, &x) || x.Argv0 != "x" || x.Text != "not in a test" {
		t.Fatal(err)
	}
	env := []string{"BIG=" + strings.Repeat("v", 5<<20)}
	if replaced, err := c.Boot(ctx, Boot{Role: Helper, Env: env}); replaced || err != nil || !c.Hello().Ready {
		t.Fatal(replaced, err)
	}
	script := bytes.Repeat([]byte("0123456789\x2a"), 300<<10)
	var out bytes.Buffer
	exit, err := c.RunStage(ctx, Stage{Script: bytes.NewReader(script), Output: &out})
	if err != nil || exit.Code != 42 || !bytes.Equal(out.Bytes(), script) {
		t.Fatal(exit, err, out.Len())
	}
	for range 20 { // frames of a stage that is over must not reach the next
		if exit, err := c.RunStage(ctx, Stage{Name: "deaf", Script: bytes.NewReader(script)}); err != nil || exit.Code != 7 {
			t.Fatal(exit, err)
		}
		if addr, err := c.Probe(ctx, []string{"a:1", "b:2"}); err != nil || addr != "b:2" {
			t.Fatal(addr, err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if exit, err := c.RunStage(short, Stage{Name: "hang"}); err != nil || !exit.Canceled {
		t.Fatal(exit, err)
	}
	short, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := c.Probe(short, []string{"never"}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Fatal(err)
	}
	if _, err := Redial(ctx, connect(t, s), [32]byte{9}); !errors.Is(err, ErrKey) {
		t.Fatal(err)
	}

	done := make(chan error, 1)
	go func() { _, err := c.RunStage(ctx, Stage{Name: "hang"}); done <- err }()
	time.Sleep(20 * time.Millisecond)
	if _, err := Redial(ctx, connect(t, s), testKey); !errors.Is(err, ErrBusy) {
		t.Fatal(err)
	}
	c.Close()
	if err := <-done; !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
}

// An impostor that repeats what it hears, one that makes up a proof, and one
// that says nothing.
func TestImpostor(t *testing.T) {
	for name, play := range map[string]func(net.Conn){
		"echo": func(c net.Conn) { io.Copy(c, c) },
		"made up": func(c net.Conn) {
			e := encoder{b: make([]byte, 32)}
			e.flag(false)
			e.str(strings.Repeat("p", 32))
			go io.Copy(io.Discard, c)
			c.Write(appendFrame(nil, frameChallenge, e.b))
		},
		"silent": func(c net.Conn) { io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := net.Pipe()
				defer b.Close()
				go play(b)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				_, err := Redial(ctx, a, testKey)
				if !errors.Is(err, ErrKey) && !errors.Is(err, ErrProtocol) && !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
			})
		})
	}
}

// A proof made for one connection is worthless in another, or backwards.
func TestProofIsBound(t *testing.T) {
	var a, b nonce
	a[0], b[0] = 1, 2
	seen := map[string]bool{}
	for _, side := range []string{sideClient, sideServer} {
		for _, fresh := range []bool{true, false} {
			for _, n := range [][2]nonce{{a, b}, {b, a}, {a, a}} {
				seen[string(proof(testKey, side, fresh, n[0], n[1]))] = true
			}
		}
	}
	if len(seen) != 12 || ContainerKey(testKey, "a") == ContainerKey(testKey, "b") || ContainerKey(testKey, "a") == testKey {
		t.Fatal("two proofs or keys are the same")
	}
}

// An init that never reads or answers cannot hold its driver.
func TestDeafInit(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &Client{conn: a, in: frameReader{r: a, max: toDriver}}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.RunStage(ctx, Stage{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestCheckRoundTrip(t *testing.T) {
	var b bytes.Buffer
	in := Check{Argv: []string{"a", "\xff\n"}, Env: []string{"X=1"}, Dir: "/d"}
	if err := WriteCheck(&b, in); err != nil {
		t.Fatal(err)
	}
	b.WriteString("rest")
	out, err := ReadCheck(&b)
	if err != nil || out.Argv[1] != in.Argv[1] || out.Env[0] != "X=1" || out.Dir != "/d" || b.String() != "rest" {
		t.Fatal(out, err, b.String())
	}
	if _, err := ReadCheck(strings.NewReader("\xff\xff\xff\xff")); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
	if err := WriteCheck(io.Discard, Check{}); err == nil {
		t.Fatal("accepted a check without command")
	}
}

// The claimed length alone must not take memory.
func TestClaimedLength(t *testing.T) {
	f := frameReader{r: strings.NewReader("B\x00\xff\xff\xffshort"), max: toInit}
	if _, _, err := f.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if cap(f.buf) > maxStream {
		t.Fatal(cap(f.buf))
	}
}

// The corpus is committed; a missing one would make the fuzz targets blind.
func TestCorpus(t *testing.T) {
	for _, name := range []string{"FuzzReadFrame", "FuzzClient", "FuzzServer"} {
		files, _ := filepath.Glob(filepath.Join("testdata", "fuzz", name, "*"))
		if len(files) == 0 {
			t.Errorf("no seeds for %s", name)
		}
		for _, f := range files {
			if b, err := os.ReadFile(f); err != nil || !bytes.HasPrefix(b, []byte("go test fuzz v1\n")) {
				t.Errorf("%s: %v", f, err)
			}
		}
	}
}

// TestEnd: whoever needs no init any more says so, when nothing runs.
func TestEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{ready: true}
		s := &Server{Handler: f}
		c, err := Dial(t.Context(), connect(t, s), testKey)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error)
		go func() {
			_, err := c.RunStage(ctx, Stage{Name: "hang", Script: strings.NewReader("x"), Output: io.Discard})
			over <- err
		}()
		synctest.Wait()
		if err := c.write(frameEnd, nil); err != nil { // End would wait for the stage
			t.Fatal(err)
		}
		synctest.Wait()
		if f.ends != 0 {
			t.Error("ended, and a stage runs")
		}
		cancel()
		if err := <-over; err != nil {
			t.Fatal(err)
		}
		if err := c.End(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f.ends != 1 {
			t.Errorf("ended %d times", f.ends)
		}
		c.Close()
		synctest.Wait()
	})
}
