package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

// masking runs a stage whose driver takes values, and tells which and what it
// printed, in one text: values stand in brackets.
func masking(t *testing.T, c *initproto.Client, script string, refuse error) string {
	t.Helper()
	var mu sync.Mutex
	var got bytes.Buffer
	s := initproto.Stage{Name: "mask", Script: strings.NewReader(script), Grace: initproto.MaxGrace,
		Output: writerFunc(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return got.Write(p) }),
		Mask: func(v string) error {
			mu.Lock()
			defer mu.Unlock()
			if refuse == nil {
				fmt.Fprintf(&got, "[%.100s]", v)
			}
			return refuse
		}}
	x, err := c.RunStage(t.Context(), s)
	if err != nil || x.Code != 0 {
		t.Fatalf("%+v, %v: %q", x, err, got.String())
	}
	return got.String()
}

// withCommand puts the command where a room has it.
func (r *room) withCommand() *room {
	r.t.Helper()
	if err := errors.Join(os.Mkdir(r.dir+"/bin", 0o755), os.Symlink("../init", r.dir+"/bin/"+initproto.MaskName)); err != nil {
		r.t.Fatal(err)
	}
	return r
}

func TestMask(t *testing.T) {
	r := newRoom(t, "").withCommand().start(nil)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	is := func(script, want string, refuse error) {
		t.Helper()
		if got := masking(t, c, script, refuse); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", script, got, want)
		}
	}
	name := initproto.MaskName
	is("echo a >&2; cleanroom-mask s3cret && echo s3cret", "a\n[s3cret]s3cret\n", nil)
	is("echo s3cret | cleanroom-mask; printf 'two\r\n' | cleanroom-mask; printf 'a\nb\n\n' | cleanroom-mask; printf 'c\r' | cleanroom-mask", "[s3cret][two][a\nb\n][c\r]", nil)
	is("cleanroom-mask -x; cleanroom-mask ' '; cleanroom-mask $'\\xff\\n'", "[-x][ ][\xff\n]", nil)
	is("cleanroom-mask s3cret || echo $?", name+": too short\n1\n", errors.New("too short"))
	is("cleanroom-mask '' || echo $?; cleanroom-mask </dev/null || echo $?",
		strings.Repeat(name+": there is no value: give it as the one argument or on standard input\n1\n", 2), nil)
	is("cleanroom-mask a b || echo $?", name+": give one value, quoted; see --help\n2\n", nil)
	long := fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x | cleanroom-mask", initproto.MaxMask)
	is(long, "["+strings.Repeat("x", 100)+"]", nil)
	is("(head -c 70000 /dev/zero | cleanroom-mask) || echo $?", name+": the value is longer than 64 KiB: hide its parts\n1\n", nil)
	is("(("+strings.TrimSuffix(long, " | cleanroom-mask")+"; echo x) | cleanroom-mask) || echo $?", name+": the value is longer than 64 KiB: hide its parts\n1\n", nil)
	is("echo $PATH | sed 's/.*://'; command -v cleanroom-mask", r.dir+"/bin\n"+r.dir+"/bin/cleanroom-mask\n", nil)
	is("cleanroom-mask --help | head -1; cleanroom-mask -h | grep -c '^Example'", "Hide a value in this job's log, from now on.\n1\n", nil)
	// A user of the job's may have something to hide, too.
	is("setpriv --reuid 12345 --clear-groups $(command -v cleanroom-mask) other && echo ok", "[other]ok\n", nil)

	if got := stage(t, c, "cleanroom-mask s3cret"); got.Code != 1 || got.out != name+": this stage takes no values to hide\n" {
		t.Errorf("%+v", got)
	}
	// PATH may be anything, or nothing.
	want(t, stage(t, c, "echo $PATH", "PATH=/a:/b"), 0, "/a:/b:"+r.dir+"/bin\n")
	want(t, stage(t, c, "command -v nothing || echo $PATH", "PATH="), 0, ":"+r.dir+"/bin\n")
	// Without a stage nobody could hide it.
	if line := r.sayMask("s3cret"); line != maskRefused+errNoStage.Error()+"\n" {
		t.Errorf("%q", line)
	}
}

// sayMask speaks to the socket without the command.
func (r *room) sayMask(value string) string {
	r.t.Helper()
	conn, err := net.Dial("unix", r.dir+"/run/mask.sock")
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte(value))
	conn.(*net.UnixConn).CloseWrite()
	var b bytes.Buffer
	b.ReadFrom(conn)
	return b.String()
}

// All that a job prints after the command comes after the value, many times
// over and by many at once.
func TestMaskComesBeforeWhatFollows(t *testing.T) {
	r := newRoom(t, "").withCommand().start(nil)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	got := masking(t, c, `for i in $(seq 60); do (echo s3cret-$i-x | cleanroom-mask && echo after s3cret-$i-x) & done; wait`, nil)
	for i := range 60 {
		at, after := strings.Index(got, fmt.Sprintf("[s3cret-%d-x]", i+1)), strings.Index(got, fmt.Sprintf("after s3cret-%d-x\n", i+1))
		if at < 0 || after < at {
			t.Fatalf("value %d: asked at %d, printed at %d", i+1, at, after)
		}
	}
}

// The second life has the socket as well, and a job that floods it gains
// nothing: stages begin, print and end, and the next value is taken.
func TestMaskFlood(t *testing.T) {
	r := pidOne(t)
	r.withCommand()
	c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{"/bin/sh", "-c"}})
	for range 3 * maskConns { // they sit there and say nothing
		conn, err := net.DialTimeout("unix", r.dir+"/run/mask.sock", time.Second)
		if err != nil {
			break
		}
		t.Cleanup(func() { conn.Close() })
	}
	began := time.Now()
	for range 5 {
		if got := masking(t, c, "echo hi", nil); got != "hi\n" {
			t.Fatal(got)
		}
	}
	t.Logf("five stages beside the flood: %s", time.Since(began))
	// One is held up by its driver, and the stage ends all the same.
	taken := make(chan struct{}, 1)
	x, err := c.RunStage(t.Context(), initproto.Stage{Output: writerFunc(func(p []byte) (int, error) { return len(p), nil }), Grace: initproto.MaxGrace,
		Mask: func(string) error { taken <- struct{}{}; return nil }, Script: strings.NewReader("cleanroom-mask v4lue & exit 3")})
	if err != nil || x.Code != 3 {
		t.Fatalf("%+v, %v", x, err)
	}
	// (What that one left in the kernel's queue may be taken now.)
	if got := masking(t, c, "cleanroom-mask other && echo other", nil); strings.Replace(got, "[v4lue]", "", 1) != "[other]other\n" {
		t.Fatal(got)
	}
}
