package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/rig"
)

// spoils are what may become of a file of a room while its job runs.
var spoils = map[string]func(t *testing.T, file string){
	"garbage":   func(t *testing.T, file string) { put(t, file, []byte("\x00{\"garbage\n\xff")) },
	"empty":     func(t *testing.T, file string) { put(t, file, nil) },
	"truncated": func(t *testing.T, file string) { must(t, os.Truncate(file, 20)) },
	"gone":      func(t *testing.T, file string) { must(t, os.Remove(file)) },
	"a folder": func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, os.Mkdir(file, 0o700))
	},
	"another's": func(t *testing.T, file string) { must(t, os.Chown(file, 4242, 4242)) },
}

func put(t *testing.T, file string, text []byte) {
	t.Helper()
	must(t, os.WriteFile(file, text, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestSpoiledStateFile: whatever becomes of a file of a running room, the job
// ends, the room is wiped, and a room beside it goes on as if nothing were.
func TestSpoiledStateFile(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: faultConfig, Concurrent: 2})
	s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	files := map[string]string{
		"seal":  filepath.Join(s.runner.StateDir(), "sealed", "*-%d-*"),
		"way":   filepath.Join(s.runner.StateDir(), "rooms", "*-%d-*", "room.json"),
		"note":  filepath.Join(s.runner.StateDir(), "stages", "*-%d-*"),
		"lease": filepath.Join(s.runner.DataDir(), "leases", "*-%d-*.jsonl"),
	}
	beside := newGate(t)
	other := s.submit(gitlab.JobSpec{Name: "beside", Image: &gitlab.Image{Name: "cleanroom/busybox"}, Variables: asking("KEY"), Script: []string{beside.line(), "[ ${#KEY} -gt 8 ]"}})
	s.arrives(beside)
	for name, pattern := range files {
		how := s.luck.IntN(len(spoils))
		for kind, spoil := range spoils {
			if how--; how >= 1 || how < -2 { // some of all, others each time
				continue
			}
			t.Run(name+" is "+kind, func(t *testing.T) {
				s, g := s.in(t), newGate(t)
				id := s.submit(gitlab.JobSpec{Name: "spoiled", Image: &gitlab.Image{Name: "cleanroom/busybox"}, Variables: asking("KEY"), Script: []string{g.line(), "true"}})
				s.arrives(g)
				found, err := filepath.Glob(fmt.Sprintf(pattern, id))
				if err != nil || len(found) != 1 {
					t.Fatal(found, err)
				}
				spoil(t, found[0])
				g.open()
				s.wait(id)
				for range 2 { // it may be loud, once, and must end what it can
					out, err := s.tryCleanroom("reap")
					t.Logf("reap: %v %s", err, out)
				}
				for _, room := range strings.Fields(s.cleanroom("room", "list")) {
					if strings.Contains(room, fmt.Sprintf("-%d-", id)) {
						out, err := s.tryCleanroom("room", "wipe", room)
						t.Logf("room wipe: %v %s", err, out)
					}
				}
				if left, err := s.rig.LeftOf(t.Context(), id); err != nil || left != "0 0 0" {
					t.Errorf("left: %s, %v", left, err)
				}
				if left := s.leftOf(id); len(left) > 0 {
					t.Errorf("left: %q", left)
				}
			})
		}
	}
	beside.open()
	if r := s.wait(other); r.FailureReason != "" {
		t.Errorf("the job beside: %s\n%s", r.FailureReason, r.log)
	}
}
