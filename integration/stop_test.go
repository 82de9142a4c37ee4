package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// stubborn starts a grandchild, in a session of its own, that ignores TERM,
// and ignores it too.
var stubborn = []string{
	`setsid bash -c 'trap "" TERM; echo grandchild is $$; while :; do echo alive; sleep 0.31; done' &`,
	`trap "" TERM`,
	"while :; do sleep 0.31; done",
}

const graceful = "[room]\nstage_grace = \"2s\"\n"

func TestCancelReachesAStubbornGrandchild(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: graceful})
	id := s.submit(gitlab.JobSpec{Script: stubborn})
	s.until(id, "alive")
	if err := theRig.Cancel(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	r := s.wait(id)
	if r.State != job.Canceled {
		t.Errorf("%s\n%s", r.State, r.log)
	}
	if d := r.LetGoAt.Sub(r.CancelAt); d > 55*time.Second { // before the runner's own patience ends, graceful_kill_timeout = 60
		t.Errorf("the runner let go %s after the cancel", d)
	}
}

func TestCancelIsGentleFirst(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	id := s.submit(gitlab.JobSpec{
		Script:      []string{`trap 'echo said goodbye; exit 0' TERM`, "while :; do echo working; sleep 0.2; done"},
		AfterScript: []string{"echo after script came"}})
	s.until(id, "working")
	if err := theRig.Cancel(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	r := s.wait(id)
	r.says(t, "said goodbye", "after script came")
}

func TestTimeoutReachesAStubbornGrandchild(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: graceful})
	r := s.run(gitlab.JobSpec{Script: stubborn, Timeout: 10 * time.Second})
	if r.State != job.Failed || r.FailureReason != "job_execution_timeout" {
		t.Errorf("%s %s\n%s", r.State, r.FailureReason, r.log)
	}
}

func TestBackgroundProcessHoldsNothingUp(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	began := time.Now()
	r := s.run(gitlab.JobSpec{Script: []string{"sleep 300 &", "setsid sleep 300 &", "echo done with it"}, AfterScript: []string{"pgrep -c sleep || echo none sleeps"}})
	r.is(t, job.Success, "", 0)
	r.says(t, "done with it")
	if d := time.Since(began); d > 4*time.Minute { // not the five of the sleepers
		t.Errorf("took %s", d)
	}
}

func TestRunnerIsTerminated(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: graceful})
	id := s.submit(gitlab.JobSpec{Script: stubborn})
	s.until(id, "alive")
	s.giveTime()
	if err := s.runner.Stop(); err != nil {
		t.Error(err)
	}
	s.clean()
	_ = theRig.Cancel(t.Context(), id, false)
}

// giveTime lets a runner that is told to end wait longer for its jobs than the
// rig does: one that gives them up on a slow machine calls no cleanup.
func (s *site) giveTime() {
	s.t.Helper()
	file := filepath.Join(s.runner.Dir, "config.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^shutdown_timeout = \d+$`).ReplaceAll(text, []byte("shutdown_timeout = 25"))
	const loaded = "Configuration loaded"
	before := strings.Count(s.runner.Words(), loaded)
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := s.runner.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); strings.Count(s.runner.Words(), loaded) == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatal("the runner does not read its configuration again")
		}
	}
}

// TestDriverIsKilled kills `cleanroom run`: init ends the stage, and the
// runner's cleanup wipes the room.
func TestDriverIsKilled(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: graceful})
	id := s.submit(gitlab.JobSpec{Script: stubborn})
	s.until(id, "alive")
	s.kill("run")
	r := s.wait(id)
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
}

// TestJobIsKilledBetweenPrepareAndRun removes the room under the runner.
func TestJobIsKilledBetweenPrepareAndRun(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	id := s.submit(gitlab.JobSpec{Project: project, Script: []string{"echo never"}, Hooks: []gitlab.Hook{{Name: "pre_get_sources_script", Script: []string{"echo prepared", "sleep 120"}}}})
	s.until(id, "prepared")
	found, err := s.rig.Find(t.Context(), id, "ps")
	if err != nil || len(found) != 2 {
		t.Fatalf("%q %v", found, err)
	}
	if out, err := exec.Command("docker", append([]string{"rm", "--force", "--volumes"}, found...)...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v", out, err)
	}
	r := s.wait(id)
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
	r.hides(t, "never")
}

// TestCancelWhilePreparing cancels while a service is waited for: prepare gets
// TERM and leaves nothing that cleanup does not find.
func TestCancelWhilePreparing(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: "[room]\nservice_timeout = \"5m\"\n"})
	id := s.submit(gitlab.JobSpec{Services: []gitlab.Image{{Name: "cleanroom/service-silent"}}, Script: []string{"echo never"}})
	s.until(id, "Waiting for service cleanroom/service-silent")
	if err := theRig.Cancel(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	if r := s.wait(id); r.State != job.Canceled {
		t.Errorf("%s\n%s", r.State, r.log)
	}
}

// TestRunnerIsKilled: nobody is left to tell the driver, so it notices by
// itself and ends its stage. The room stands until the next prepare or reap
// ends it, with what the runner left of the job.
func TestRunnerIsKilled(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: graceful})
	id := s.submit(gitlab.JobSpec{Script: stubborn})
	s.until(id, "alive")
	if err := s.runner.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = s.runner.Wait()
	room := s.cleanroom("room", "list", "--json")
	name := regexp.MustCompile(`cr-[a-z0-9]+-` + strconv.FormatInt(id, 10) + `-[0-9a-f]+`).FindString(room)
	if name == "" {
		t.Fatalf("the room is not listed: %s", room)
	}
	deadline := time.Now().Add(2 * time.Minute)
	for s.running("cleanroom") || s.running("sleep 0.31") || s.running("grandchild") {
		if time.Now().After(deadline) {
			t.Fatal("the stage goes on without its runner")
		}
		time.Sleep(200 * time.Millisecond)
	}
	if out := s.cleanroom("reap"); !strings.Contains(out, name+": removed ") {
		t.Errorf("reap says %q", out)
	}
	s.runnerLeftNothing()
	if out := s.cleanroom("room", "show", strconv.FormatInt(id, 10)); !strings.Contains(out, "by reap") || !strings.Contains(out, "its runner is gone") ||
		!strings.Contains(out, "yes, nothing is left") || !strings.Contains(out, "container "+name+"-job") || !strings.Contains(out, "runner's folder ") {
		t.Errorf("the evidence is:\n%s", out)
	}
}

// runnerLeftNothing of its jobs: response and scripts, with variables in the
// clear, which a killed one leaves.
func (s *site) runnerLeftNothing() {
	s.t.Helper()
	if left, err := filepath.Glob(filepath.Join(s.runner.TempDir(), "custom-executor*")); err != nil || len(left) > 0 {
		s.t.Errorf("%q, %v", left, err)
	}
	if err := os.RemoveAll(s.runner.TempDir()); err != nil {
		s.t.Error(err)
	}
}

// cleanroom runs the command line as an admin would.
func (s *site) cleanroom(args ...string) string {
	s.t.Helper()
	out, err := s.tryCleanroom(args...)
	if err != nil {
		s.t.Fatalf("cleanroom %s: %v: %s", args, err, out)
	}
	return out
}

func (s *site) tryCleanroom(args ...string) (string, error) {
	out, err := exec.Command(filepath.Join(s.bin, "cleanroom"), append([]string{"--config", s.runner.CleanroomConfig()}, args...)...).CombinedOutput()
	return string(out), err
}

// running tells whether a process with these words is there that was not
// before the test.
func (s *site) running(words string) bool {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range found {
		b, _ := os.ReadFile(p)
		line := strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
		switch words {
		case "cleanroom":
			if strings.Contains(line, s.runner.Dir) && strings.Contains(line, "/cleanroom ") {
				return true
			}
		case "grandchild": // between two of its sleeps, too
			if strings.Contains(line, "echo grandchild is") {
				return true
			}
		case line:
			return true
		}
	}
	return false
}

// kill sends KILL to the running driver's command.
func (s *site) kill(command string) {
	s.t.Helper()
	pid := s.driver(command)
	if pid == 0 {
		s.t.Fatalf("no `cleanroom %s` is running", command)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
}

// driver is the process of a running `cleanroom COMMAND`, or 0.
func (s *site) driver(command string) int {
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range found {
		b, _ := os.ReadFile(p)
		args := strings.Split(string(b), "\x00")
		if filepath.Base(args[0]) == "cleanroom" && strings.Contains(string(b), "\x00"+command+"\x00") && strings.Contains(string(b), s.runner.Dir) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
			return pid
		}
	}
	return 0
}
