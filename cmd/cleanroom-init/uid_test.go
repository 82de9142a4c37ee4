package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

// bounded starts init as PID 1 of root with caps and no others. With those of
// the hardened profile it may not signal a process that has another uid.
func bounded(t *testing.T, caps string, more ...string) *room {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test changes uids: run it as root")
	}
	return pidOne(t, append([]string{"setpriv", "--bounding-set", "-all," + caps, "--inh-caps", "-all"}, more...)...)
}

const (
	hardened = "+chown,+dac_override,+fowner,+setuid,+setgid"
	asOther  = "setpriv --reuid 12345 --clear-groups "
)

// otherUser runs f alone in the container, and beside a daemon that ENTRYPOINT
// has started as the same user as the job will, which is to live on.
func otherUser(t *testing.T, f func(t *testing.T, r *room, c *initproto.Client)) {
	t.Run("alone", func(t *testing.T) {
		r := bounded(t, hardened, "--no-new-privs")
		f(t, r, r.boot(initproto.Boot{Role: initproto.Helper}))
	})
	t.Run("daemon", func(t *testing.T) {
		r := bounded(t, hardened, "--no-new-privs")
		daemon := r.sleepMark()
		c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{
			r.script("entry", "#!/bin/bash\n"+asOther+"sleep "+daemon+" & exec \"$@\"\n")}})
		eventually(t, "daemon", func() bool { return sleeping(daemon) })
		f(t, r, c)
		if !sleeping(daemon) {
			t.Fatal("the daemon of ENTRYPOINT was ended with a stage")
		}
	})
}

func TestOtherUserIsGone(t *testing.T) {
	otherUser(t, func(t *testing.T, r *room, c *initproto.Client) {
		mark := r.sleepMark()
		ok := func(uid string) string { // said once it runs: before, it is not yet another user's
			return "until pgrep -U " + uid + " -x -f 'sleep " + mark + "' >/dev/null; do sleep 0.01; done; "
		}
		for _, script := range []string{
			asOther + "sleep " + mark + " >/dev/null 2>&1 & " + ok("12345") + "echo ok",
			asOther + "sleep " + mark + " & sleep " + mark + " & setpriv --reuid 54321 --clear-groups sleep " + mark + " & " + ok("12345") + ok("54321") + "echo ok",
			"setsid " + asOther + "bash -c 'trap \"\" TERM HUP; (setsid sleep " + mark + " &); sleep " + mark + "; :' & " + ok("12345") + "echo ok",
		} {
			began := time.Now()
			want(t, stage(t, c, script), 0, "ok\n")
			if d := time.Since(began); d > long {
				t.Errorf("%q took %s", script, d)
			}
			if alive(mark) {
				t.Fatalf("left by %q", script)
			}
		}
		// One that forks faster than it can be read from /proc.
		bomb := asOther + "bash -c 'ulimit -u 100; b() { b | b & b; }; b' 2>/dev/null & sleep 0.2; echo ok"
		want(t, stage(t, c, bomb), 0, "ok\n")
		want(t, stage(t, c, "ps -o pid= -u 12345 | wc -l"), 0, map[bool]string{true: "1\n", false: "0\n"}[strings.HasSuffix(t.Name(), "daemon")])
		// Init is what it was: root on all threads, with its capabilities, and
		// nobody looks into it.
		want(t, stage(t, c, `cat /proc/$PPID/task/*/status | awk '/^(Uid|CapEff)/ {$1=$1; print}' | sort -u`), 0,
			"CapEff: 00000000000000cb\nUid: 0 0 0 0\n")
		got := stage(t, c, "head -c 1 /proc/$PPID/environ || exec 3</proc/$PPID/mem || echo closed")
		if got.Code != 0 || !strings.HasSuffix(got.out, "closed\n") || strings.Count(got.out, "Permission denied") != 2 {
			t.Fatalf("%+v", got)
		}
	})
}

func TestOtherUserIsCanceled(t *testing.T) {
	otherUser(t, func(t *testing.T, r *room, c *initproto.Client) {
		mark := r.sleepMark()
		run := func(script string, grace time.Duration) (result, time.Duration) {
			t.Helper()
			w, seen := until("go\n")
			began := time.Now()
			x, err := c.RunStage(withCancel(t, seen), initproto.Stage{Script: strings.NewReader(script), Output: w, Grace: grace})
			if err != nil || !x.Canceled {
				t.Fatalf("%+v, %v", x, err)
			}
			return result{x, string(w.(*untilWriter).got)}, time.Since(began)
		}
		// Each hears TERM once, whoever it is: the other stays until it came, and 40 rounds more for a second.
		got, d := run("trap 'echo root; sleep 0.3; exit 9' TERM; "+asOther+
			"bash -c 'n=-1; trap \"echo other; n=40\" TERM; echo go; while [ $n != 0 ]; do sleep 0.01; n=$((n-1)); done' & while :; do sleep 0.05; done", initproto.MaxGrace)
		if got.Code != 9 || strings.Count(got.out, "root\n") != 1 || strings.Count(got.out, "other\n") != 1 || d > long {
			t.Fatalf("%+v after %s", got, d)
		}
		// The shell itself is of another user.
		got, d = run("exec "+asOther+"bash -c 'echo go; exec sleep "+mark+"'", initproto.MaxGrace)
		if got.Signal != 15 || d > long {
			t.Fatalf("%+v after %s", got, d)
		}
		// Nobody listens.
		got, d = run("exec "+asOther+"bash -c 'trap \"\" TERM; setsid sleep "+mark+" & echo go; sleep "+mark+"; sleep "+mark+"'", 300*time.Millisecond)
		if got.Signal != 9 || d < 300*time.Millisecond || d > long || alive(mark) {
			t.Fatalf("%+v after %s, left: %t", got, d, alive(mark))
		}
		want(t, stage(t, c, "echo fine"), 0, "fine\n")
	})
}

// Without CAP_SETUID init has no means against a process that became another
// user by a setuid program: then the stage has not simply succeeded.
func TestSurvivorIsAnError(t *testing.T) {
	r := bounded(t, "+chown,+dac_override,+fowner")
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	tool, err := exec.LookPath("setpriv")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(tool)
	if err != nil {
		t.Fatal(err)
	}
	become := r.script("become", string(text))
	if err := os.Chown(become, 12345, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(become, os.ModeSetuid|0o755); err != nil {
		t.Fatal(err)
	}
	script := become + " --reuid 12345 sleep 1000 & until pgrep -U 12345 -x sleep >/dev/null; do sleep 0.01; done; exit 0"
	_, err = c.RunStage(t.Context(), initproto.Stage{Script: strings.NewReader(script)})
	if err == nil || !strings.Contains(err.Error(), "of user 12345: remove the container") {
		t.Fatal(err)
	}
	t.Log(err)
}
