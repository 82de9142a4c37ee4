package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/rig"
)

// faultConfig gives the job a secret of each store's job, so that there is a
// lease to take back.
const faultConfig = graceful + images + `
[[provider]]
name = "store"
kind = "store"
[[secret]]
name = "KEY"
provider = "store"
[[policy.rule]]
name = "all"
when = "true"
secrets = ["KEY"]
`

// faults are what dies, at a random instant of the job's life.
var faults = []struct {
	name string
	kill func(s *site, id int64)
}{
	{"prepare", func(s *site, id int64) { s.killAnywhere(id, "prepare", 1) }},
	{"run", func(s *site, id int64) { s.killAnywhere(id, "run", 2) }},
	{"cleanup", func(s *site, id int64) { s.killAnywhere(id, "cleanup", 1) }},
	{"init", func(s *site, id int64) { s.killInit(id) }},
	{"runner", func(s *site, id int64) {
		if err := s.runner.Signal(syscall.SIGKILL); err != nil {
			s.t.Error(err)
		}
		_ = s.runner.Wait()
	}},
}

// TestKilledAnywhere: whatever of us dies, and the runner, at whatever instant
// of a job with a service, a secret and artifacts: after reap nothing of the
// room is left, and its lease is revoked.
func TestKilledAnywhere(t *testing.T) {
	b := newBox(t)
	for round := range 2 {
		for _, fault := range shuffled(chance(t), faults) {
			name := fmt.Sprint(fault.name, round)
			if !b.open(name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				s := install(t, rig.RunnerOptions{Config: faultConfig})
				s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
				id := s.submit(gitlab.JobSpec{
					Name: "fault", Variables: asking("KEY"), Services: []gitlab.Image{{Name: "cleanroom/service-pid1"}},
					Script:    []string{"mkdir out; echo made >out/a", "for i in 1 2 3 4 5; do echo $i; sleep 0.2; done"},
					Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"out/"}, When: "always"}},
				})
				if fault.name == "runner" { // before its prepare nothing of ours knows of the job (README, Limits)
					s.until(id, "Room cr-")
				}
				delay := upTo(s.luck, 4*time.Second)
				t.Logf("after %s", delay)
				time.Sleep(delay)
				fault.kill(s, id)
				if fault.name == "runner" {
					s.driversEnd()
				} else {
					s.wait(id)
				}
				if out, err := s.tryCleanroom("reap"); err != nil {
					t.Errorf("reap: %v: %s", err, out)
				}
				if fault.name == "runner" {
					s.runnerLeftNothing()
					return
				}
				if fault.name == "cleanup" { // one that was killed before it began, with a runner that lives on: nobody knows that the job is over
					s.endAll()
				}
			})
		}
	}
}

// driversEnd waits until the commands of a runner that is gone have noticed.
func (s *site) driversEnd() {
	s.t.Helper()
	for end := time.Now().Add(2 * time.Minute); s.running("cleanroom"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("the driver goes on without its runner")
		}
	}
}

// endAll is what an admin does about rooms whose job is over although nothing
// shows it.
func (s *site) endAll() {
	s.t.Helper()
	for _, line := range strings.Split(s.cleanroom("room", "list"), "\n") {
		if room, _, _ := strings.Cut(line, " "); strings.HasPrefix(room, "cr-") {
			s.cleanroom("room", "wipe", room)
		}
	}
}

// killInit kills the first process of one of the job's containers, as soon as
// there is one.
func (s *site) killInit(id int64) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		found, err := s.rig.Find(s.t.Context(), id, "ps")
		if err != nil {
			s.t.Fatal(err)
		}
		if len(found) == 0 {
			if st, err := theRig.Job(s.t.Context(), id); err == nil && st.State.Final() {
				return // it was too quick for us
			}
			continue
		}
		pid, err := exec.Command("docker", "inspect", "--format", "{{.State.Pid}}", found[s.luck.IntN(len(found))]).Output()
		n, _ := strconv.Atoi(strings.TrimSpace(string(pid)))
		if err != nil || n <= 1 {
			continue
		}
		comm, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n), "comm"))
		s.t.Logf("killing process %d, %s", n, strings.TrimSpace(string(comm)))
		if err := syscall.Kill(n, syscall.SIGKILL); err == nil {
			return
		}
	}
}
