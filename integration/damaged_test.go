package integration

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// TestDamagedState has files of a running job's room damaged: what can go on
// does, what cannot says so, and the room ends. All the ways are in executor's
// and sandbox/docker's own tests; this takes some.
func TestDamagedState(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: faultConfig})
	s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	type way struct {
		name   string
		damage func(path string) error
	}
	ways := []way{
		{"garbage", func(path string) error { return os.WriteFile(path, []byte("\x00{]garbage\n\xff\n"), 0o600) }},
		{"half", func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/2)
		}},
		{"a folder", func(path string) error {
			return errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Join(path, "in", "it"), 0o700))
		}},
	}
	for _, file := range []string{"rooms", "sealed", "stages", "leases"} {
		for _, how := range ways {
			t.Run(file+" are "+how.name, func(t *testing.T) {
				s := s.in(t)
				g := newGate(t)
				id := s.submit(trap{s, ""}.job(g))
				s.arrives(g)
				at := filepath.Join(s.runner.StateDir(), file, fmt.Sprintf("*-%d-*", id))
				switch file {
				case "rooms":
					at = filepath.Join(at, "room.json")
				case "leases":
					at = filepath.Join(s.runner.DataDir(), file, fmt.Sprintf("*-%d-*", id))
				}
				found, err := filepath.Glob(at)
				if err != nil || len(found) != 1 {
					t.Fatalf("%q, %v", found, err)
				}
				if err := how.damage(found[0]); err != nil {
					t.Fatal(err)
				}
				words := len(s.runner.Words())
				g.open()
				r := s.wait(id)
				s.driverEnds(id)
				said := s.runner.Words()[words:]
				switch file {
				case "sealed":
					r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
					r.inOneLine(t, "unseal secrets: ")
				case "leases":
					r.is(t, job.Success, "", 0)
					if how.name == "half" {
						break
					}
					if !strings.Contains(said, "the wipe is not finished") || !strings.Contains(said, found[0]) {
						t.Errorf("the runner's log says:\n%s", said)
					}
					// Where cleanup could note that the job is over, reap wipes again, and says so first.
					if out, err := s.tryCleanroom("reap"); err == nil || strings.Count("\n"+out, "\ncleanroom: ") != 1 || !strings.Contains(out, found[0]) {
						t.Errorf("reap says %s", out)
					}
					if err := os.RemoveAll(found[0]); err != nil {
						t.Fatal(err)
					}
					_ = os.Remove(filepath.Join(s.runner.StateDir(), "stages", strings.TrimSuffix(filepath.Base(found[0]), ".jsonl"))) // reap leaves it for some minutes
				default:
					r.is(t, job.Success, "", 0)
				}
				s.cleanroom("reap")
				s.nothingLeft(id, file != "leases")
			})
		}
	}
}
