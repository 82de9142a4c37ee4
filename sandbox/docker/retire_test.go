package docker

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"cleanroom/sandbox"
)

// TestRetire: both containers end by themselves, a job's with what its
// ENTRYPOINT left running, and the wipe removes all.
func TestRetire(t *testing.T) {
	e := testEngine(t, nil)
	for _, froze := range []bool{false, true} {
		s := testSpec(sandbox.Hardened, "cleanroom/busybox")
		s.Job.Entrypoint = []string{"/bin/busybox", "sh", "-c", `sleep 1000 & exec "$@"`, "sh"}
		if log, err := makeRoom(t, e, s); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		if froze {
			if _, err := storing(t, e, s, "true", sandbox.Store{}); err != nil {
				t.Fatal(err)
			}
		}
		ends(t, e, s, sandbox.Helper)
		if !froze {
			ends(t, e, s, sandbox.Job)
		} else if c, err := e.api.ContainerInspect(t.Context(), containerName(s.Name, sandbox.Job)); err != nil || !c.State.Paused {
			t.Fatalf("gVisor's sandbox does not die frozen: %+v, %v", c, err)
		}
		if err := e.Retire(t.Context(), s.Name, s.Key); err != nil {
			t.Errorf("nobody is left to be told: %v", err)
		}
		ev, err := e.Wipe(t.Context(), s.Name)
		if err != nil || !slices.Contains(ev.Removed, sandbox.Item{Kind: "container", Name: containerName(s.Name, sandbox.Job)}) {
			t.Errorf("%+v, %v", ev, err)
		}
		wiped(t, e, s.Name)
		if err := e.Retire(t.Context(), s.Name, s.Key); !errors.Is(err, sandbox.ErrNoRoom) {
			t.Errorf("a room that is not there: %v", err)
		}
	}
}

// ends retires a room until one of its containers has ended: on a machine that
// is busy an init may not hear of it in time.
func ends(t *testing.T, e *Engine, s sandbox.Spec, role sandbox.Role) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := e.Retire(t.Context(), s.Name, s.Key); err != nil {
			t.Fatal(err)
		}
		c, err := e.api.ContainerInspect(t.Context(), containerName(s.Name, role))
		if err == nil && !c.State.Running {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s does not end: %+v, %v", role, c, err)
		}
	}
}

// TestRetireByExec: a container that no socket leads to is left to the wipe.
func TestRetireByExec(t *testing.T) {
	e := testEngine(t, func(o *Options) { o.Transport = TransportExec })
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if err := e.Retire(t.Context(), s.Name, s.Key); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second) // who was told to end has ended
	for _, role := range []sandbox.Role{sandbox.Job, sandbox.Helper} {
		if out, _ := run(t, e, s, role, "echo still here"); out != "still here\n" {
			t.Errorf("%s: %q", role, out)
		}
	}
}

// TestRetireWithAMutePeer plays a job that listens where its init did, and
// never answers: the driver does not wait for it, and the helper ends.
func TestRetireWithAMutePeer(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	f, ok := e.remembered(s.Name)
	if !ok {
		t.Fatal("the room is not remembered")
	}
	if err := os.Remove(f.Job.Socket); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", f.Job.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan int64, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			heard <- 0
			return
		}
		n, _ := io.Copy(io.Discard, conn) // until the driver gives up
		heard <- n
	}()
	done := make(chan error, 1)
	go func() { done <- e.Retire(t.Context(), s.Name, s.Key) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the driver waits for an init that never answers")
	}
	l.Close()
	if <-heard == 0 {
		t.Error("the job's socket was not asked: this shows nothing")
	}
	ends(t, e, s, sandbox.Helper)
}
