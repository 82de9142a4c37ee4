package integration

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// small has one of our folders on a disk of its own, which fill fills and free
// empties again.
func small(t *testing.T, dir, size string) (fill func(), free func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0700,size="+size); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "fill")
	free = func() { _ = os.Remove(name) }
	return func() { fillUp(t, name) }, free
}

// inFull is a site whose state folder or data folder is small.
func inFull(t *testing.T, which func(*rig.Runner) string, size string) (s *site, fill, free func()) {
	s = install(t, rig.RunnerOptions{Config: faultConfig})
	dir := which(s.runner)
	fill, free = small(t, dir, size)
	t.Cleanup(func() { // before the site's own, which looks for mounts, too
		free()
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	return s, fill, free
}

// inOneLine: what is wrong is one line of the job's log.
func (r result) inOneLine(t *testing.T, what ...string) {
	t.Helper()
	for line := range strings.Lines(r.log) {
		all := strings.HasPrefix(line, "cleanroom: ")
		for _, w := range what {
			all = all && strings.Contains(line, w)
		}
		if all {
			return
		}
	}
	t.Errorf("no line says %q:\n%s", what, r.log)
}

const noSpace = "no space left on device"

func TestStateFolderIsFull(t *testing.T) {
	s, fill, free := inFull(t, (*rig.Runner).StateDir, "64k")
	g := newGate(t)
	fill() // before
	id := s.submit(trap{s, ""}.job(g))
	r := s.wait(id)
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
	r.inOneLine(t, noSpace)
	s.driverEnds(id)
	s.nothingLeft(id, true)
	free()

	j := trap{s, ""}.job(g) // between its stages: it needs no more of it, unless the job has a value hidden
	j.Script = append(j.Script, "printf another-value-of-its-own | cleanroom-mask || echo not hidden")
	id = s.submit(j)
	s.arrives(g)
	fill()
	g.open()
	r = s.wait(id)
	r.is(t, job.Success, "", 0)
	r.says(t, "could not be kept for them", "echo not hidden\n")
	s.driverEnds(id)
	s.nothingLeft(id, true)
}

func TestDataFolderIsFull(t *testing.T) {
	s, fill, free := inFull(t, (*rig.Runner).DataDir, "256k")
	g := newGate(t)
	fill() // before
	id := s.submit(trap{s, ""}.job(g))
	r := s.wait(id)
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
	r.inOneLine(t, noSpace)
	s.driverEnds(id)
	s.nothingLeft(id, false)
	free()

	words := len(s.runner.Words())
	id = s.submit(trap{s, ""}.job(g))
	s.arrives(g)
	fill()
	g.open()
	s.wait(id).is(t, job.Success, "", 0)
	s.driverEnds(id)
	said := s.runner.Words()[words:]
	if !strings.Contains(said, noSpace) || !strings.Contains(said, "the wipe is not finished") || s.booked() != 1 {
		t.Errorf("%d rooms are on the books, the runner's log says:\n%s", s.booked(), said)
	}
	free()
	s.cleanroom("reap") // the runner lives, and the deadline is far
	s.nothingLeft(id, true)
}
