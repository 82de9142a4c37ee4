package docker

import (
	"errors"
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
		if err := e.Retire(t.Context(), s.Name, s.Key); err != nil {
			t.Fatal(err)
		}
		for _, role := range []sandbox.Role{sandbox.Job, sandbox.Helper} {
			left := role == sandbox.Job && froze // gVisor's sandbox does not die frozen
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				c, err := e.api.ContainerInspect(t.Context(), containerName(s.Name, role))
				if err == nil && c.State.Paused == left && c.State.Running == left {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%s, frozen before: %t; %+v, %v", role, froze, c.State, err)
				}
			}
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
