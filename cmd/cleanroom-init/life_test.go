package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

// pidOne starts init as PID 1 of its own namespace.
func pidOne(t testing.TB, wrap ...string) *room {
	t.Helper()
	r := newRoom(t, "")
	return r.start(&syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS},
		"/bin/sh", "-c", "mount --make-rprivate / && mount -t proc proc /proc && exec "+strings.Join(append(wrap, r.bin), " "))
}

func TestPidOne(t *testing.T) {
	r := pidOne(t)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	if c.Hello().PID != 1 {
		t.Fatalf("%+v", c.Hello())
	}
	want(t, stage(t, c, "setsid sleep 1000 >/dev/null 2>&1 & (sleep 0.01 &) ; echo ok"), 0, "ok\n")
	want(t, stage(t, c, "sleep 1000 & echo ok"), 0, "ok\n")
	// Nothing is left, no zombie either: init and this shell are all. (The shell counts by itself: one
	// that forks, as a pipeline does, may look before its last child is there.)
	want(t, stage(t, c, "set -- /proc/[0-9]*/exe; echo $#"), 0, "2\n")
	w, seen := until("go\n")
	x, err := c.RunStage(withCancel(t, seen), initproto.Stage{Output: w, Grace: 200 * time.Millisecond,
		Script: strings.NewReader("trap '' TERM; setsid bash -c 'trap \"\" TERM; sleep 999' & echo go; sleep 999; sleep 999")})
	if err != nil || x.Signal != 9 || !x.Canceled {
		t.Fatalf("%+v, %v", x, err)
	}
	want(t, stage(t, c, "kill -9 -1 2>/dev/null; echo survived by the builtin"), 0, "survived by the builtin\n")

	// A process of the engine's exec is in the namespace too: it stays.
	mark := r.sleepMark()
	enter := exec.Command("nsenter", "-t", fmt.Sprint(initPid(t, r)), "-p", "-m", "sleep", mark)
	if err := enter.Start(); err != nil {
		t.Fatal(err)
	}
	defer enter.Process.Kill()
	eventually(t, "exec'd process", func() bool { return stage(t, c, "pgrep -x -f 'sleep "+mark+"' >/dev/null").Code == 0 })
	want(t, stage(t, c, "sleep 1000 & echo ok"), 0, "ok\n")
	if !sleeping(mark) {
		t.Fatal("the engine's exec was killed")
	}
}

// initPid is the pid of init outside of its namespace: the process we started.
func initPid(t *testing.T, r *room) int { t.Helper(); return r.cmd.Process.Pid }

func TestForkBomb(t *testing.T) {
	r := pidOne(t)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	cg := "/sys/fs/cgroup/pids/" + fmt.Sprint("cleanroom-test-", os.Getpid())
	if err := os.Mkdir(cg, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.cmd.Process.Kill()
		<-r.done
		for i := 0; i < 1000 && os.Remove(cg) != nil; i++ {
			time.Sleep(10 * time.Millisecond)
		}
	})
	os.WriteFile(cg+"/pids.max", []byte("60"), 0)
	if err := os.WriteFile(cg+"/cgroup.procs", []byte(fmt.Sprint(r.cmd.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	// Not one more process fits when the shell ends.
	for range 3 {
		// Where init needs a thread just then the shell cannot fork, and leaves its loop: the file tells.
		got := stage(t, c, "while read n <"+cg+"/pids.current; [ $n -lt 60 ]; do setsid sleep 1000 >/dev/null 2>&1 & done\nread n <"+cg+"/pids.current; echo $n")
		want(t, got, 0, "60\n")
	}
	w, seen := until("go\n")
	x, err := c.RunStage(withCancel(t, seen), initproto.Stage{Output: w, Grace: 300 * time.Millisecond,
		Script: strings.NewReader("trap '' TERM; echo go; b() { b | b & b; }; b 2>/dev/null; while :; do sleep 1; done 2>/dev/null")})
	if err != nil || !x.Canceled {
		t.Fatalf("%+v, %v", x, err)
	}
	want(t, stage(t, c, "echo fine"), 0, "fine\n")
}

func TestSignalsToInit(t *testing.T) {
	for name, script := range map[string]string{"idle": "", "busy": "trap '' TERM; echo go; while :; do sleep 0.1; done"} {
		t.Run(name, func(t *testing.T) {
			r, c := helper(t)
			began := time.Now()
			if script == "" {
				r.cmd.Process.Signal(syscall.SIGTERM)
			} else {
				w, seen := until("go\n")
				go func() { <-seen; r.cmd.Process.Signal(syscall.SIGTERM) }()
				x, err := c.RunStage(t.Context(), initproto.Stage{Output: w, Script: strings.NewReader(script), Grace: time.Hour})
				if err != nil || !x.Canceled || x.Signal != 9 {
					t.Fatalf("%+v, %v", x, err)
				}
			}
			<-r.done
			if code := r.cmd.ProcessState.ExitCode(); code != 143 || time.Since(began) > long { // the grace is an hour
				t.Fatal(code, time.Since(began))
			}
		})
	}
}

// TestDriverNeedsInitNoMore: it ends, and takes its socket along.
func TestDriverNeedsInitNoMore(t *testing.T) {
	r, c := helper(t)
	want(t, stage(t, c, "echo fine"), 0, "fine\n")
	if err := c.End(); err != nil {
		t.Fatal(err)
	}
	<-r.done
	if code := r.cmd.ProcessState.ExitCode(); code != 0 {
		t.Error(code)
	}
	if _, err := os.Lstat(r.sock); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func (r *room) script(name, text string) string {
	r.t.Helper()
	path := r.dir + "/" + name
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		r.t.Fatal(err)
	}
	return path
}

func TestEntrypoint(t *testing.T) {
	for name, text := range map[string]string{
		"exec": "#!/bin/sh\nexport FROM=entrypoint\nexec \"$@\"\n",
		"fork": "#!/bin/sh\nexport FROM=entrypoint\n\"$@\"\nexit 5\n",
		// An environment made anew, and a daemon that is to live on.
		"bare": "#!/bin/bash\nsleep MARK & exec env -i PATH=\"$PATH\" FROM=entrypoint BOOT=$BOOT \"$@\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := pidOne(t)
			daemon, left := r.sleepMark(), r.sleepMark()
			text = strings.ReplaceAll(text, "MARK", daemon)
			c := r.boot(initproto.Boot{Role: initproto.Job, Env: []string{"BOOT=yes"}, Argv: []string{r.script("entry", text)}})
			if !c.Hello().Fresh {
				t.Fatal("the second life knew a key")
			}
			want(t, stage(t, c, `echo $FROM $BOOT`), 0, "entrypoint yes\n")
			if name == "bare" { // it may need a moment to become what it is
				eventually(t, "daemon", func() bool { return sleeping(daemon) })
			}
			want(t, stage(t, c, "setsid sleep "+left+" >/dev/null 2>&1 & (sleep 0.001 &); exit 0"), 0, "")
			if alive(left) {
				t.Fatal("left behind")
			}
			if name == "bare" && !sleeping(daemon) {
				t.Fatal("the daemon of ENTRYPOINT was ended with a stage")
			}
			c2, err := initproto.Redial(t.Context(), r.conn(), r.key)
			if err != nil {
				t.Fatal(err)
			}
			want(t, stage(t, c2, "echo again"), 0, "again\n")
		})
	}
	t.Run("sh -c", func(t *testing.T) {
		r := pidOne(t)
		c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{"/bin/sh", "-c"}})
		want(t, stage(t, c, "echo hi"), 0, "hi\n")
	})
	t.Run("tini", func(t *testing.T) {
		r := pidOne(t)
		c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{"tini", "--"}})
		if c.Hello().PID == 1 {
			t.Fatalf("%+v", c.Hello())
		}
		mark := r.sleepMark()
		want(t, stage(t, c, "setsid sleep "+mark+" & echo hi; sleep "+mark+" &"), 0, "hi\n")
		if alive(mark) {
			t.Fatal("left behind")
		}
	})
}

func TestExecFails(t *testing.T) {
	for _, try := range []struct {
		argv []string
		dir  string
		text string
	}{
		{[]string{"/no/such"}, "", "no such file or directory"},
		{[]string{"no-such"}, "", "executable file not found in $PATH"},
		{[]string{"/etc"}, "", "permission denied"},
		{[]string{"/etc/passwd"}, "", "permission denied"},
		{[]string{"text"}, "", "exec format error"},
		{[]string{"/bin/true"}, "/no/dir", "no such file or directory"},
	} {
		r := newRoom(t, "").start(nil)
		r.script("text", "no program")
		for _, role := range []initproto.Role{initproto.Service} {
			c := r.dial()
			_, err := c.Boot(t.Context(), initproto.Boot{Role: role, Argv: try.argv, Dir: try.dir, Env: []string{"PATH=" + r.dir + ":/bin"}})
			x := asExec(t, err)
			if x.Text != try.text || (x.Argv0 != try.argv[0] && x.Argv0 != try.dir) {
				t.Errorf("%v: got %v", try, x)
			}
			c.Close()
			<-r.done
			if code := r.cmd.ProcessState.ExitCode(); code != exitNotFound {
				t.Errorf("%v: exit status %d", try, code)
			}
		}
	}
}

func TestService(t *testing.T) {
	r := newRoom(t, "").start(nil)
	out := r.dir + "/out"
	c := r.dial()
	replaced, err := c.Boot(t.Context(), initproto.Boot{Role: initproto.Service, Dir: r.dir,
		Env: []string{"SECRET=s3cret", "OUT=" + out}, Argv: []string{"sh", "-c", `echo $$ $SECRET $FROM $(pwd) >$OUT; ls -l /proc/$$/fd >$OUT.fd; exec sleep 1000`}})
	if err != nil || !replaced {
		t.Fatal(replaced, err)
	}
	eventually(t, "service wrote", func() bool {
		got, _ := os.ReadFile(out)
		return string(got) == fmt.Sprintf("%d s3cret container %s\n", r.cmd.Process.Pid, r.dir)
	})
	eventually(t, "descriptors", func() bool { b, _ := os.ReadFile(out + ".fd"); return len(b) > 0 })
	if fds, _ := os.ReadFile(out + ".fd"); bytes.Contains(fds, []byte("socket:")) || bytes.Contains(fds, []byte("anon_inode")) {
		t.Fatalf("inherited from init:\n%s", fds)
	}
	if _, err := os.Stat(r.sock); err == nil {
		t.Fatal("the socket is still there")
	}
}

func TestNoShell(t *testing.T) {
	for name, want := range map[string]string{"none": "the image has no shell", "poor": "the image's sh (/bin/sh) does not understand $'...'"} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			r := newRoom(t, root)
			for _, d := range []string{"/bin", "/dev"} {
				os.Mkdir(root+d, 0o755)
			}
			os.WriteFile(root+"/dev/null", nil, 0o666)
			if name == "poor" { // our own binary, which does not know -c
				os.WriteFile(root+"/bin/sh", built, 0o755)
			}
			r.start(&syscall.SysProcAttr{Chroot: root}, strings.TrimPrefix(r.bin, root))
			c := r.boot(initproto.Boot{Role: initproto.Helper})
			if h := c.Hello(); h.Shell != "" || !strings.HasPrefix(h.ShellProblem, want) {
				t.Fatalf("%+v", h)
			}
			_, err := c.RunStage(t.Context(), initproto.Stage{Script: strings.NewReader("echo")})
			if x := asExec(t, err); !strings.HasPrefix(x.Error(), want) {
				t.Fatal(x)
			}
		})
	}
}

func TestUnprivileged(t *testing.T) {
	r := pidOne(t, "setpriv --reuid 65534 --regid 65534 --clear-groups")
	c := r.boot(initproto.Boot{Role: initproto.Job, Argv: []string{"/bin/sh", "-c"}})
	if h := c.Hello(); h.UID != 65534 || h.GID != 65534 {
		t.Fatalf("%+v", h)
	}
	want(t, stage(t, c, "id -u; cat /proc/self/oom_score_adj; sleep 7774 &"), 0, "65534\n500\n")
	if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", r.cmd.Process.Pid)); string(b) != "0\n" {
		t.Fatalf("init's own oom_score_adj is %s", b)
	}
	// The same user cannot look into init.
	got := stage(t, c, "cat /proc/$PPID/environ || ls /proc/$PPID/fd || kill -0 $PPID && echo only signals")
	if got.Code != 0 || !strings.HasSuffix(got.out, "only signals\n") || strings.Count(got.out, "Permission denied") != 2 {
		t.Fatalf("%+v", got)
	}
}

func TestSecondInitLeavesTheFirstAlone(t *testing.T) {
	r, c := helper(t)
	got := stage(t, c, r.bin)
	if got.Code != 1 || !strings.Contains(got.out, "already serves") {
		t.Fatalf("%+v", got)
	}
	want(t, stage(t, c, "echo fine"), 0, "fine\n")
}

func TestMemory(t *testing.T) {
	r, c := helper(t)
	stage(t, c, "head -c 50000000 /dev/zero")
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS") || strings.HasPrefix(line, "RssAnon") || strings.HasPrefix(line, "Threads") {
			t.Log(strings.TrimSpace(line))
			var kb int
			if fmt.Sscanf(line, "VmRSS: %d", &kb); kb > 16<<10 {
				t.Error("more than 16 MiB")
			}
		}
	}
}
