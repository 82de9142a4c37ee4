package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

// stdio is the stream of an exec'd "cleanroom-init dial".
type stdio struct {
	io.Reader
	io.WriteCloser
}

func TestDial(t *testing.T) {
	r := newRoom(t, "")
	cmd := exec.Command(r.bin, "dial") // before the socket is there
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	r.start(nil)
	c, err := initproto.Dial(t.Context(), stdio{out, in}, r.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Boot(t.Context(), initproto.Boot{Role: initproto.Helper}); err != nil {
		t.Fatal(err)
	}
	want(t, stage(t, c, "echo over stdio; sleep 1000 &"), 0, "over stdio\n")
	c.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestDialReplaced(t *testing.T) {
	r := newRoom(t, "").start(nil)
	r.conn().Close()
	cmd := exec.Command(r.bin, "dial")
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := initproto.Dial(t.Context(), stdio{out, in}, r.key)
	if err != nil {
		t.Fatal(err)
	}
	replaced, err := c.Boot(t.Context(), initproto.Boot{Role: initproto.Service, Argv: []string{"sleep", "1000"}})
	if err != nil || !replaced {
		t.Fatal(replaced, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestCheck(t *testing.T) {
	r := newRoom(t, "")
	for _, try := range []struct {
		argv []string
		code int
		out  string
	}{
		{[]string{"sh", "-c", "echo $A $B; pwd; cat"}, 0, "check container\n/usr\n"},
		{[]string{"false"}, 1, ""},
		{[]string{"no-such-program"}, 1, ""},
	} {
		var in bytes.Buffer
		if err := initproto.WriteCheck(&in, initproto.Check{Argv: try.argv, Env: []string{"A=check"}, Dir: "/usr"}); err != nil {
			t.Fatal(err)
		}
		in.WriteString("this is not the check's")
		cmd := exec.Command(r.bin, "check")
		cmd.Env = []string{"A=container", "B=container"}
		cmd.Stdin = &in
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != try.code || string(out) != try.out {
			t.Errorf("%v: %v %q", try.argv, cmd.ProcessState, out)
		}
	}
}

func TestOwn(t *testing.T) {
	r := newRoom(t, "")
	dir, link := r.dir+"/a", r.dir+"/link"
	os.Mkdir(dir, 0o700)
	os.Symlink(dir, link)
	if out, err := exec.Command(r.bin, "own", "123", "456", "2770", dir).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	info, _ := os.Stat(dir)
	st := info.Sys().(*syscall.Stat_t)
	if st.Uid != 123 || st.Gid != 456 || st.Mode&0o7777 != 0o2770 {
		t.Fatalf("%+v", st)
	}
	for _, args := range [][]string{{"1", "1", "0700", link}, {"-1", "1", "0700", dir}, {"1", "1", "99", dir}, {"1", "1", "0700"}} {
		if err := exec.Command(r.bin, append([]string{"own"}, args...)...).Run(); err == nil {
			t.Errorf("own %v did not fail", args)
		}
	}
}

func TestVersionAndUsage(t *testing.T) {
	r := newRoom(t, "")
	if out, err := exec.Command(r.bin, "version").Output(); err != nil || string(out) != "test\n" {
		t.Fatal(string(out), err)
	}
	out, err := exec.Command(r.bin, "nonsense").CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "usage:") {
		t.Fatal(string(out), err)
	}
}
