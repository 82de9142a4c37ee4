package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// TestManyEndOneRoom at once: a second cleanup, two reaps and a `room wipe`
// beside the runner's own. One does it, and none says that anything is wrong.
func TestManyEndOneRoom(t *testing.T) {
	s := installFaulty(t, rig.RunnerOptions{Config: faultConfig})
	b := newBox(t)
	for round, at := range shuffled(s.luck, []string{"cleanup.begun", "end.begun", "end.over.noted", "wipe.found", "wipe.containers.gone", "end.note.gone"}) {
		if !b.open(at) {
			continue
		}
		t.Run(at, func(t *testing.T) {
			s := s.in(t)
			p, g := newTrap(s), newGate(t)
			words := len(s.runner.Words())
			id := s.submit(p.job(g))
			s.arrives(g)
			p.set(at + "=stop:1s")
			g.open()
			cleanup, env := s.environOf("cleanup", p.file)
			if round%2 > 0 { // it has come to the point
				for _, err := os.Stat(p.file); err == nil; _, err = os.Stat(p.file) {
					time.Sleep(10 * time.Millisecond)
				}
			}
			room := valueOf(env, "CLEANROOM_ROOM")
			config := []string{"--config", s.runner.CleanroomConfig()}
			commands := [][]string{cleanup[1:], append(config, "reap"), append(config, "room", "wipe", room), append(config, "reap")}
			s.luck.Shuffle(len(commands), func(i, j int) { commands[i], commands[j] = commands[j], commands[i] })
			var work sync.WaitGroup
			for _, args := range commands {
				after := upTo(s.luck, 300*time.Millisecond)
				work.Go(func() {
					time.Sleep(after)
					c := exec.Command(cleanup[0], args...)
					c.Env = env
					out, err := c.CombinedOutput()
					if late := strings.Contains(string(out), "no such room"); !late && (err != nil || strings.Contains(string(out), "level=error")) {
						t.Errorf("%q: %v: %s", args, err, out)
					}
				})
			}
			work.Wait()
			s.wait(id).is(t, job.Success, "", 0)
			s.driverEnds(id)
			if said := s.runner.Words()[words:]; strings.Contains(said, "level=error") || strings.Contains(said, "not finished") {
				t.Errorf("the runner's log says:\n%s", said)
			}
			s.nothingLeft(id, true)
			if all := s.endings(id); len(all) != 1 || len(all[0].Leases) != 1 || len(all[0].Removed) < 8 {
				t.Errorf("the evidence is %+v", all)
			}
		})
	}
}

// environOf waits for a driver's command of a job, and is its argv and
// environment, as the runner has them.
func (s *site) environOf(command, trap string) (argv, env []string) {
	s.t.Helper()
	split := func(file string) []string {
		b, _ := os.ReadFile(file)
		return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if pid := s.driver(command); pid > 0 {
			proc := filepath.Join("/proc", strconv.Itoa(pid))
			argv, env = split(filepath.Join(proc, "cmdline")), split(filepath.Join(proc, "environ"))
			if valueOf(env, "CUSTOM_ENV_FAULTS_AT") == trap && valueOf(env, "CLEANROOM_ROOM") != "" {
				told := func(line string) bool { return strings.HasPrefix(line, "CLEANROOM_FRONT=") } // by cleanroom to cleanroom-admin
				return argv, slices.DeleteFunc(env, told)
			}
		}
	}
	s.t.Fatalf("no `cleanroom %s` comes", command)
	return nil, nil
}

func valueOf(env []string, name string) string {
	for _, line := range env {
		if value, ok := strings.CutPrefix(line, name+"="); ok {
			return value
		}
	}
	return ""
}

// TestReapers: after a restart of the machine, with an empty state folder, two
// at once, beside a job that runs and beside a stranger's rooms. They need no
// key of the rooms'.
func TestReapers(t *testing.T) {
	living := installFaulty(t, rig.RunnerOptions{Config: faultConfig})
	g := newGate(t)
	alive := living.submit(trap{living, ""}.job(g))
	living.arrives(g)
	t.Run("after a restart", func(t *testing.T) {
		if _, err := exec.LookPath("unshare"); err != nil {
			t.Fatal(err)
		}
		s := installFaulty(t, rig.RunnerOptions{Config: faultConfig})
		shut := newGate(t)
		id := s.submit(trap{s, ""}.job(shut))
		s.arrives(shut)
		s.runnerIsKilled()
		if err := os.RemoveAll(s.runner.StateDir()); err != nil {
			t.Fatal(err)
		}
		boot := filepath.Join(t.TempDir(), "boot_id")
		if err := os.WriteFile(boot, []byte("00000000-0000-4000-8000-000000000000\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if out := reapAs(t, s, stranger(t, s)); out != "" {
			t.Errorf("a stranger's reap says %q", out)
		}
		var out [2]string
		var work sync.WaitGroup
		for i := range out {
			after := upTo(s.luck, 200*time.Millisecond)
			work.Go(func() {
				time.Sleep(after)
				out[i] = reapAs(t, s, s.runner.CleanroomConfig(), "unshare", "--mount", "sh", "-c",
					fmt.Sprintf(`mount --bind %s /proc/sys/kernel/random/boot_id && exec "$@"`, boot), "sh")
			})
		}
		work.Wait()
		if both := out[0] + out[1]; strings.Count(both, "revoked 1 of 1 leases") != 1 {
			t.Errorf("they say %q", out)
		}
		s.runnerLeftNothing()
		s.nothingLeft(id, true)
	})
	if out := living.cleanroom("reap"); out != "" {
		t.Errorf("reap says %q", out)
	}
	g.open()
	living.wait(alive).is(t, job.Success, "", 0)
}
