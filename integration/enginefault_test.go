package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// faultyAt is a site with rooms on another engine, and a secret for its jobs.
func faultyAt(t *testing.T, e *rig.Engine) *site {
	t.Helper()
	s := installAt(t, e, e.Host, "timeout = \"20s\"\n", faultConfig)
	s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	return s
}

// onEngine is nothingLeft, on that engine.
func (s *site) onEngine(e *rig.Engine, id int64) {
	s.t.Helper()
	for _, what := range [][]string{{"ps", "--all"}, {"volume", "ls"}, {"network", "ls"}} {
		out, err := e.Docker(s.t.Context(), append(what, "--quiet", "--filter", fmt.Sprint("label=cleanroom.job=", id))...)
		if err != nil || strings.TrimSpace(out) != "" {
			s.t.Errorf("%s: %s %v", what, out, err)
		}
	}
	s.nothingLeft(id, true)
}

// booked are the rooms that are on the books.
func (s *site) booked() int {
	found, _ := filepath.Glob(filepath.Join(s.runner.DataDir(), "leases", "*.jsonl"))
	return len(found)
}

// TestEngineIsKilled in the middle of jobs.
func TestEngineIsKilled(t *testing.T) {
	e := secondEngine(t, rig.EngineOptions{})
	s := faultyAt(t, e)
	held := func(s *site) (gate, int64) {
		g := newGate(s.t)
		id := s.submit(trap{s, ""}.job(g))
		s.arrives(g)
		time.Sleep(upTo(s.luck, time.Second))
		return g, id
	}
	t.Run("and is there again", func(t *testing.T) {
		s := s.in(t)
		g, id := held(s)
		e.Down()
		if err := e.Up(t.Context()); err != nil { // it ends what it had run
			t.Fatal(err)
		}
		r := s.wait(id)
		g.open()
		r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
		r.inOneLine(t, "job container", "from outside")
		if out, err := s.tryCleanroom("reap"); err != nil {
			t.Errorf("reap: %v: %s", err, out)
		}
		s.onEngine(e, id)
	})
	t.Run("and stays away", func(t *testing.T) {
		s := s.in(t)
		before := len(s.runner.Words())
		g, id := held(s)
		e.Down()
		g.open()
		r := s.wait(id)
		r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
		r.says(t, "Cannot connect to the Docker daemon at "+e.Host)
		s.driverEnds(id)
		words := s.runner.Words()[before:]
		if !strings.Contains(words, "the wipe is not finished") || s.booked() != 1 {
			t.Errorf("%d rooms are on the books, the runner's log says:\n%s", s.booked(), words)
		}
		if out, err := s.tryCleanroom("reap"); err == nil || strings.Count(out, "\ncleanroom:")+strings.Count("\n"+out, "\ncleanroom:") == 0 {
			t.Errorf("reap without an engine: %v: %s", err, out)
		}
		if err := e.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if out, err := s.tryCleanroom("reap"); err != nil {
			t.Errorf("reap: %v: %s", err, out)
		}
		s.onEngine(e, id)
	})
	for round := range 2 {
		t.Run(fmt.Sprint("at any time ", round), func(t *testing.T) {
			s := s.in(t)
			g := newGate(t)
			g.open()
			id := s.submit(trap{s, ""}.job(g))
			after, away := upTo(s.luck, 4*time.Second), upTo(s.luck, 3*time.Second)
			t.Logf("after %s, for %s", after, away)
			time.Sleep(after)
			e.Down()
			time.Sleep(away)
			if err := e.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			r := s.wait(id)
			s.driverEnds(id)
			t.Logf("the job ended as %s %s", r.State, r.FailureReason)
			if out, err := s.tryCleanroom("reap"); err != nil {
				t.Errorf("reap: %v: %s", err, out)
			}
			s.onEngine(e, id)
		})
	}
}

// driverEnds waits until the runner is through with a job, cleanup and all.
func (s *site) driverEnds(id int64) {
	s.t.Helper()
	word := fmt.Sprint("CUSTOM_ENV_CI_JOB_ID=", id, "\x00")
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		found, _ := filepath.Glob("/proc/[0-9]*/environ")
		there := false
		for _, p := range found {
			b, _ := os.ReadFile(p)
			there = there || strings.Contains(string(b), word)
		}
		left, _ := filepath.Glob(filepath.Join(s.runner.TempDir(), "custom-executor*"))
		if !there && len(left) == 0 {
			return
		}
	}
	s.t.Error("the driver goes on")
}

// TestEngineDiskIsFull: before a room is made, and while a job runs.
func TestEngineDiskIsFull(t *testing.T) {
	e := secondEngine(t, rig.EngineOptions{Disk: "700m"})
	s := faultyAt(t, e)
	fill := func() (free func()) {
		name := filepath.Join(e.Dir, "data", "fill")
		fillUp(t, name)
		return func() {
			if err := os.Remove(name); err != nil {
				t.Error(err)
			}
		}
	}
	free := fill()
	g := newGate(t)
	id := s.submit(trap{s, ""}.job(g))
	r := s.wait(id)
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
	r.says(t, "no space left on device")
	s.driverEnds(id)
	free()
	if out, err := s.tryCleanroom("reap"); err != nil {
		t.Errorf("reap: %v: %s", err, out)
	}
	s.onEngine(e, id)

	id = s.submit(trap{s, ""}.job(g))
	s.arrives(g)
	free = fill()
	g.open()
	r = s.wait(id)
	t.Logf("the job ended as %s %s", r.State, r.FailureReason)
	s.driverEnds(id)
	free()
	if out, err := s.tryCleanroom("reap"); err != nil {
		t.Errorf("reap: %v: %s", err, out)
	}
	s.onEngine(e, id)
}

// fillUp writes a file until the disk is full, to its last byte.
func fillUp(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
}
