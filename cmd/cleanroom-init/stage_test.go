package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/sandbox/initproto"
)

func TestExitStatus(t *testing.T) {
	_, c := helper(t)
	want(t, stage(t, c, "echo hello"), 0, "hello\n")
	want(t, stage(t, c, ""), 0, "")
	for _, code := range []int{1, 42, 127, 255} {
		want(t, stage(t, c, fmt.Sprint("exit ", code)), code, "")
	}
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSEGV, syscall.SIGTERM} {
		got := stage(t, c, fmt.Sprintf("kill -%d $$", sig))
		if got.Signal != int(sig) || got.Code != 128+int(sig) || got.Canceled {
			t.Fatalf("%v: got %+v", sig, got.Exit)
		}
	}
	// Both streams are one, in the order of what was written.
	want(t, stage(t, c, strings.Repeat("echo -n out; echo -n err >&2; ", 200)), 0, strings.Repeat("outerr", 200))
	want(t, stage(t, c, "[ /dev/fd/1 -ef /dev/fd/2 ] && echo one"), 0, "one\n")
	if h := c.Hello(); !strings.HasSuffix(h.Shell, "bash") || h.Version != "test" || h.PID <= 0 || h.UID != os.Getuid() {
		t.Fatalf("%+v", h)
	}
}

func TestEnvironment(t *testing.T) {
	_, c := helper(t)
	raw := "a\xff\nb'\"$x"
	got := stage(t, c, `printf '%s|%s|%s|%s' "$FROM" "$BOOT" "$STAGE" "$RAW"`, "STAGE=one", "FROM=stage", "RAW="+raw)
	want(t, got, 0, "stage|yes|one|"+raw)
	want(t, stage(t, c, `printf '%s|%s' "$FROM" "$STAGE"`), 0, "container|")
	want(t, stage(t, c, `cat /proc/self/oom_score_adj`), 0, "500\n")

	_, err := c.RunStage(t.Context(), initproto.Stage{Env: []string{"A=" + strings.Repeat("x", 200<<10)}})
	if x := asExec(t, err); !strings.Contains(x.Text, "argument list too long") {
		t.Fatal(x)
	}
	if _, err = c.RunStage(t.Context(), initproto.Stage{Env: []string{"A=\x00"}}); err == nil {
		t.Fatal("zero byte accepted")
	}
	_, err = c.RunStage(t.Context(), initproto.Stage{Dir: "/nowhere"})
	if x := asExec(t, err); x.Argv0 != "/nowhere" {
		t.Fatal(x)
	}
	want(t, stage(t, c, "echo still"), 0, "still\n")
}

func TestLargeScript(t *testing.T) {
	_, c := helper(t)
	script := "n=0\n" + strings.Repeat("n=$((n+1)) # "+strings.Repeat("x", 1000)+"\n", 10<<20/1014) + "echo $n\n"
	want(t, stage(t, c, script), 0, fmt.Sprintln(10<<20/1014))
	want(t, stage(t, c, "exit 3\n"+script), 3, "")
	// What a command reads is not read by the shell, and the reverse.
	want(t, stage(t, c, "head -n 1\necho not run\necho run\n"), 0, "echo not run\nrun\n")
	want(t, stage(t, c, "echo x 2>/dev/null >>/proc/self/fd/0; echo $?\n"), 0, "1\n")

	// Beyond the spool: by pipe, to a shell that is busy, and to one that
	// does not want it.
	n := 20 << 20
	want(t, stage(t, c, "sleep 0.2; exec wc -c\n"+strings.Repeat("x", n)), 0, fmt.Sprintln(n))
	want(t, stage(t, c, "exit 4\n"+strings.Repeat("#\n", n/2)), 4, "")
	want(t, stage(t, c, "echo next"), 0, "next\n")
}

func TestCanceledWhileScriptArrives(t *testing.T) {
	_, c := helper(t)
	pr, pw := io.Pipe()
	defer pw.Close()
	began := make(chan struct{})
	go func() { io.WriteString(pw, "echo hello\n"); close(began) }()
	x, err := c.RunStage(withCancel(t, began), initproto.Stage{Script: pr, Grace: time.Minute})
	if err != nil || !x.Canceled {
		t.Fatalf("%+v, %v", x, err)
	}
	want(t, stage(t, c, "echo next"), 0, "next\n")
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) { c.n += int64(len(p)); return len(p), nil }

func TestLargeOutput(t *testing.T) {
	_, c := helper(t)
	var out counter
	began := time.Now()
	x, err := c.RunStage(t.Context(), initproto.Stage{Output: &out,
		Script: strings.NewReader("head -c 104857600 /dev/zero & head -c 10485760 /dev/zero >&2; wait")})
	if err != nil || x.Code != 0 || out.n != 110<<20 {
		t.Fatalf("%+v, %v: %d bytes", x, err, out.n)
	}
	t.Logf("%.0f MB/s", 110*1.048576/time.Since(began).Seconds())
	// The tail must arrive whole even if the driver is slow.
	slow := writerFunc(func(p []byte) (int, error) { time.Sleep(20 * time.Millisecond); return out.Write(p) })
	out.n = 0
	x, err = c.RunStage(t.Context(), initproto.Stage{Output: slow, Script: strings.NewReader("head -c 2000000 /dev/zero")})
	if err != nil || out.n != 2000000 {
		t.Fatalf("%+v, %v: %d bytes", x, err, out.n)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestBackgroundProcesses(t *testing.T) {
	r, c := helper(t)
	mark := r.sleepMark()
	for _, script := range []string{
		"sleep " + mark + " & echo ok",
		"setsid sleep " + mark + " >/dev/null 2>&1 </dev/null & echo ok",
		"(setsid bash -c 'trap \"\" TERM HUP; (setsid sleep " + mark + " &) ; sleep " + mark + "' &) & sleep 0.1; echo ok",
	} {
		began := time.Now()
		want(t, stage(t, c, script), 0, "ok\n")
		if d := time.Since(began); d > long { // it did not wait for what sleeps for years
			t.Fatalf("%q took %s", script, d)
		}
		if alive(mark) {
			t.Fatalf("left by %q", script)
		}
	}
	// Who writes a moment after the shell's end is heard: without that moment never, and with it only where
	// the machine gives the writer a turn meanwhile, so it may take several tries.
	var got result
	for range 100 {
		if got = stage(t, c, "exec > >(sleep 0.03; cat); echo last words"); got.out != "" {
			break
		}
	}
	want(t, got, 0, "last words\n")
}

func TestCancel(t *testing.T) {
	r, c := helper(t)
	run := func(script string, grace time.Duration) (result, time.Duration) {
		t.Helper()
		w, seen := until("go\n")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		began := make(chan time.Time, 1)
		go func() {
			select {
			case <-seen:
			case <-ctx.Done():
			}
			began <- time.Now() // before the grace begins
			cancel()
		}()
		script = "exec 2>/dev/null; " + script // where a shell tells whom TERM met
		x, err := c.RunStage(ctx, initproto.Stage{Script: strings.NewReader(script), Output: w, Grace: grace})
		if err != nil || !x.Canceled {
			t.Fatalf("%+v, %v", x, err)
		}
		return result{x, string(w.(*untilWriter).got)}, time.Since(<-began)
	}
	mark := r.sleepMark()

	got, d := run("echo go; sleep "+mark, initproto.MaxGrace)
	if got.Signal != 15 || got.Code != 143 || d > long {
		t.Fatalf("%+v after %s", got, d)
	}
	got, d = run("trap 'echo bye; exit 9' TERM; echo go; while :; do sleep 0.05; done", initproto.MaxGrace)
	if got.Code != 9 || got.Signal != 0 || got.out != "go\nbye\n" || d > long {
		t.Fatalf("%+v after %s", got, d)
	}
	// The shell ends at once, a grandchild in another session takes its time.
	got, d = run("setsid bash -c 'trap \"sleep 0.3; echo cleaned; exit\" TERM; echo go; while :; do sleep 0.05; done' & wait", initproto.MaxGrace)
	if got.out != "go\ncleaned\n" || d > long {
		t.Fatalf("%+v after %s", got, d)
	}
	// Nobody listens.
	got, d = run("trap '' TERM; setsid bash -c 'trap \"\" TERM; sleep "+mark+"' & sleep "+mark+" & echo go; while :; do sleep 1; done", 300*time.Millisecond)
	if got.Signal != 9 || d < 300*time.Millisecond || d > long || alive(mark) {
		t.Fatalf("%+v after %s, left: %t", got, d, alive(mark))
	}
	// Stopped processes wake up for TERM.
	got, d = run("echo go; kill -STOP $$", initproto.MaxGrace)
	if got.Signal != 15 || d > long {
		t.Fatalf("%+v after %s", got, d)
	}
	got, _ = run("trap '' TERM; echo go; sleep "+mark, 0)
	if got.Signal != 9 {
		t.Fatalf("%+v", got)
	}
	want(t, stage(t, c, "echo fine"), 0, "fine\n")
}

func TestWriterFails(t *testing.T) {
	_, c := helper(t)
	boom := errors.New("log is full")
	_, err := c.RunStage(t.Context(), initproto.Stage{Script: strings.NewReader("echo a; sleep 100"),
		Output: writerFunc(func([]byte) (int, error) { return 0, boom })})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	_, err = c.RunStage(t.Context(), initproto.Stage{Script: io.MultiReader(strings.NewReader("sleep 100\n"), errReader{boom})})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	want(t, stage(t, c, "echo fine"), 0, "fine\n")
}

type errReader struct{ err error }

func (e errReader) Read([]byte) (int, error) { return 0, e.err }

func TestDriverGone(t *testing.T) {
	r, c := helper(t)
	file, release := r.dir+"/cleaned", r.dir+"/release"
	mark := r.sleepMark()
	leave := func(script string, grace time.Duration) {
		t.Helper()
		w, seen := until("go\n")
		gone := c
		go func() { <-seen; gone.Close() }()
		_, err := c.RunStage(t.Context(), initproto.Stage{Output: w, Grace: grace, Script: strings.NewReader(script)})
		if !errors.Is(err, initproto.ErrLost) {
			t.Fatal(err)
		}
	}
	next := func() {
		t.Helper()
		eventually(t, "next driver is let in", func() (in bool) {
			next, err := initproto.Redial(t.Context(), r.conn(), r.key)
			if err == nil {
				c = next
			}
			return err == nil
		})
	}
	// Until it has ended, nobody else may begin; and it ends when we say so.
	leave("trap 'echo much; touch "+file+"; exit' TERM; (trap '' TERM; echo go; until [ -e "+release+" ]; do sleep 0.05; done) & while :; do sleep 0.05; done", initproto.MaxGrace)
	if _, err := initproto.Redial(t.Context(), r.conn(), r.key); !errors.Is(err, initproto.ErrBusy) {
		t.Fatal(err)
	}
	if err := os.WriteFile(release, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next()
	if _, err := os.Stat(file); err != nil {
		t.Fatal("not ended in order: ", err)
	}
	// One that does not listen has its grace, and no more.
	leave("trap '' TERM; (exec sleep "+mark+") & echo go; while :; do sleep 0.05; done", 700*time.Millisecond)
	next()
	if alive(mark) {
		t.Fatal("not ended at all")
	}
	want(t, stage(t, c, "echo next"), 0, "next\n")
}

func TestIdleSessionIsReplaced(t *testing.T) {
	r, c := helper(t)
	c2, err := initproto.Redial(t.Context(), r.conn(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	want(t, stage(t, c2, "echo two"), 0, "two\n")
	if _, err := c.RunStage(t.Context(), initproto.Stage{}); !errors.Is(err, initproto.ErrLost) {
		t.Fatal(err)
	}
}

func TestGarbageConnections(t *testing.T) {
	r, c := helper(t)
	for i := range 200 {
		conn := r.conn()
		switch i % 3 {
		case 0:
			conn.Write(bytes.Repeat([]byte{0xff}, 100))
		case 1:
			conn.Write([]byte("h\xff\xff\xff\xff"))
		} // else it just sits there
	}
	c2, err := initproto.Redial(t.Context(), r.conn(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	want(t, stage(t, c2, "echo here"), 0, "here\n")
	wrong := r.key
	wrong[0]++
	if _, err := initproto.Dial(t.Context(), r.conn(), wrong); !errors.Is(err, initproto.ErrKey) {
		t.Fatal(err)
	}
	c.Close()
}

func TestProbe(t *testing.T) {
	_, c := helper(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if got, err := c.Probe(t.Context(), []string{"127.0.0.1:1", addr}); err != nil || got != addr {
		t.Fatal(got, err)
	}
	l.Close()
	addr, listen := later(t)
	go func() {
		time.Sleep(300 * time.Millisecond)
		listen()
	}()
	if got, err := c.Probe(t.Context(), []string{addr}); err != nil || got != addr {
		t.Fatal(got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = c.Probe(ctx, []string{"127.0.0.1:1", "no-such-host.invalid:80"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	want(t, stage(t, c, "echo after"), 0, "after\n")
}

// later is an address of the machine that refuses connections until listen is
// called. It is ours from the start: nobody else can be given its port.
func later(t *testing.T) (addr string, listen func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint("127.0.0.1:", name.(*unix.SockaddrInet4).Port), func() {
		if err := unix.Listen(fd, 1); err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkStage is what a stage costs beyond its script.
func BenchmarkStage(b *testing.B) {
	r := pidOne(b)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	for b.Loop() {
		if _, err := c.RunStage(b.Context(), initproto.Stage{Script: strings.NewReader("exit 0\n")}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkShell is the same without init, to compare.
func BenchmarkShell(b *testing.B) {
	for b.Loop() {
		cmd := exec.Command("/usr/bin/bash")
		cmd.Stdin = strings.NewReader("exit 0\n")
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOutput(b *testing.B) {
	r := pidOne(b)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	b.SetBytes(100 << 20)
	for b.Loop() {
		if _, err := c.RunStage(b.Context(), initproto.Stage{Output: io.Discard, Script: strings.NewReader("head -c 104857600 /dev/zero\n")}); err != nil {
			b.Fatal(err)
		}
	}
}
