package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

// The tests run the real binary, built once with these folders, which are
// then overwritten in a copy for each test: linking costs a second.
const (
	markDir  = "/tmp/cleanroom-init-test-0000000000000000000000/run"
	markInit = "/tmp/cleanroom-init-test-0000000000000000000000/init"
)

var built []byte

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "init-build")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		cmd := exec.Command("go", "build", "-trimpath", "-o", dir+"/init",
			"-ldflags", "-s -w -X main.version=test -X main.runDir="+markDir+" -X main.initPath="+markInit, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			panic(string(out))
		}
		if built, err = os.ReadFile(dir + "/init"); err != nil {
			panic(err)
		}
		return m.Run()
	}())
}

// room is one container as far as init can tell.
type room struct {
	t    testing.TB
	dir  string
	bin  string
	sock string
	key  [32]byte
	cmd  *exec.Cmd
	err  lockedBuffer
	done chan struct{}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newRoom lays out a folder with a binary that knows it. root is what the
// container sees as /, empty for the machine's own.
func newRoom(t testing.TB, root string) *room {
	t.Helper()
	var id [11]byte
	rand.Read(id[:])
	name := fmt.Sprintf("/tmp/cleanroom-init-test-%x", id)
	r := &room{t: t, dir: root + name, done: make(chan struct{})}
	rand.Read(r.key[:])
	r.bin, r.sock = r.dir+"/init", r.dir+"/run/init.sock"
	if err := os.MkdirAll(r.dir+"/run", 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(r.dir+"/run", 0o777)
	t.Cleanup(func() { os.RemoveAll(r.dir) })
	bin := bytes.ReplaceAll(built, []byte(filepath.Dir(markDir)), []byte(name))
	if err := os.WriteFile(r.bin, bin, 0o755); err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs init (or argv, which is to lead to it).
func (r *room) start(attr *syscall.SysProcAttr, argv ...string) *room {
	r.t.Helper()
	if len(argv) == 0 {
		argv = []string{r.bin}
	}
	cmd := &exec.Cmd{Path: argv[0], Args: argv, Dir: "/", SysProcAttr: attr, Stderr: &r.err,
		Env: []string{"PATH=" + defaultPath, "FROM=container"}}
	cmd.WaitDelay = time.Second // what it leaves behind may hold stderr
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.cmd = cmd
	go func() { cmd.Wait(); close(r.done) }()
	r.t.Cleanup(func() {
		cmd.Process.Kill()
		<-r.done
		if s := r.err.String(); strings.Contains(s, "goroutine ") {
			r.t.Errorf("init crashed:\n%s", s)
		}
	})
	return r
}

func (r *room) conn() net.Conn {
	r.t.Helper()
	for end := time.Now().Add(long); ; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("unix", r.sock)
		if err == nil {
			r.t.Cleanup(func() { c.Close() })
			return c
		}
		if time.Now().After(end) {
			r.t.Fatalf("%v; init says %q", err, r.err.String())
		}
	}
}

func (r *room) dial() *initproto.Client {
	r.t.Helper()
	c, err := initproto.Dial(r.t.Context(), r.conn(), r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// helper is a room whose init is booted in place.
func helper(t *testing.T) (*room, *initproto.Client) {
	t.Helper()
	r := newRoom(t, "").start(nil)
	return r, r.boot(initproto.Boot{Role: initproto.Helper, Env: []string{"BOOT=yes"}})
}

func (r *room) boot(b initproto.Boot) *initproto.Client {
	r.t.Helper()
	c := r.dial()
	replaced, err := c.Boot(r.t.Context(), b)
	if err != nil {
		r.t.Fatal(err)
	}
	if replaced {
		c = r.dial()
	}
	if !c.Hello().Ready {
		r.t.Fatalf("not ready: %+v", c.Hello())
	}
	return c
}

type result struct {
	initproto.Exit
	out string
}

// stage runs one that nobody cancels. Its grace is endless: a stage that wrongly
// waits for it hangs, and no clock has to tell.
func stage(t *testing.T, c *initproto.Client, script string, env ...string) result {
	t.Helper()
	var out bytes.Buffer
	x, err := c.RunStage(t.Context(), initproto.Stage{Name: "test", Env: env, Script: strings.NewReader(script),
		Output: &out, Grace: initproto.MaxGrace})
	if err != nil {
		t.Fatal(err)
	}
	return result{x, out.String()}
}

func want(t *testing.T, got result, code int, out string) {
	t.Helper()
	if got.Code != code || got.out != out {
		t.Fatalf("got code %d, output %q; want %d, %q", got.Code, got.out, code, out)
	}
}

// long guards against hanging and measures nothing: what takes so long on the
// slowest machine would take for ever.
const long = 2 * time.Minute

// sleepMark is how long a process of this test is to sleep, in seconds that
// no other process of the machine asks for: other tests look at /proc, too.
func (r *room) sleepMark() string {
	r.t.Helper()
	var id [4]byte
	rand.Read(id[:])
	return fmt.Sprintf("8%010d", binary.BigEndian.Uint32(id[:]))
}

// alive tells whether a process whose arguments contain mark exists.
func alive(mark string) bool {
	return runs(func(args string) bool { return strings.Contains(args, mark) })
}

// sleeping tells whether "sleep mark" itself runs, and not only who is to become it or waits for it.
func sleeping(mark string) bool {
	return runs(func(args string) bool { return args == "sleep\x00"+mark+"\x00" })
}

func runs(is func(args string) bool) bool {
	dirs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, d := range dirs {
		if b, _ := os.ReadFile(d); is(string(b)) {
			return true
		}
	}
	return false
}

// eventually, for what the kernel does in its own time.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", long, what)
		}
	}
}

func asExec(t *testing.T, err error) *initproto.ExecError {
	t.Helper()
	var x *initproto.ExecError
	if !errors.As(err, &x) {
		t.Fatalf("got %v, want an ExecError", err)
	}
	return x
}

// until returns a writer that closes the channel when mark was written.
func until(mark string) (io.Writer, <-chan struct{}) {
	u := &untilWriter{mark: mark, seen: make(chan struct{})}
	return u, u.seen
}

type untilWriter struct {
	got  []byte
	mark string
	seen chan struct{}
	once sync.Once
}

func (u *untilWriter) Write(p []byte) (int, error) {
	u.got = append(u.got, p...)
	if strings.Contains(string(u.got), u.mark) {
		u.once.Do(func() { close(u.seen) })
	}
	return len(p), nil
}

func withCancel(t *testing.T, when <-chan struct{}) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	go func() { <-when; cancel() }()
	return ctx
}
