package docker

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/sandbox"
)

// TestLastStage: the job's container ends while the helper does its last work,
// the helper's after it, and the wipe removes all.
func TestLastStage(t *testing.T) {
	e := testEngine(t, nil)
	for _, froze := range []bool{false, true} {
		s := testSpec(sandbox.Hardened, "cleanroom/busybox")
		s.Job.Entrypoint = []string{"/bin/busybox", "sh", "-c", `(while :; do echo tick >>/builds/ticks; sleep 0.01; done) & exec "$@"`, "sh"}
		if log, err := makeRoom(t, e, s); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		run(t, e, s, sandbox.Job, "until [ -s /builds/ticks ]; do sleep 0.01; done")
		if froze {
			if _, err := storing(t, e, s, "true", sandbox.Store{}); err != nil {
				t.Fatal(err)
			}
		}
		// Without a stop the stage itself could not end.
		script := "until n=$(wc -c </builds/ticks); sleep 0.5; [ $n = $(wc -c </builds/ticks) ]; do :; done; echo quiet"
		var out strings.Builder
		r, err := e.Run(t.Context(), sandbox.Stage{Room: s.Name, Key: s.Key, Name: "last", Role: sandbox.Helper,
			Script: strings.NewReader(script), Output: &out, Grace: time.Second, Last: true})
		if err != nil || r.ExitCode != 0 || out.String() != "quiet\n" {
			t.Fatalf("%+v, %v: %q", r, err, out.String())
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
		ev, err := e.Wipe(t.Context(), s.Name)
		if err != nil || !slices.Contains(ev.Removed, sandbox.Item{Kind: "container", Name: containerName(s.Name, sandbox.Job)}) {
			t.Errorf("%+v, %v", ev, err)
		}
		wiped(t, e, s.Name)
	}
}
