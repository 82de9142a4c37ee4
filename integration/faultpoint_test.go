package integration

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/rig"
	"cleanroom/sandbox/fault"
)

// faulty is the folder of a cleanroom that has fault points.
var faulty = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(theRig.Dir, "faulty")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-tags", "faults", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "./cmd/cleanroom", "./cmd/cleanroom-admin", "./cmd/cleanroom-init")
	build.Dir = ".." // a module of its own
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build with fault points: %w: %s", err, out)
	}
	return dir, nil
})

// installFaulty is install with fault points, and with a secret KEY of each
// job's own where the configuration has it.
func installFaulty(t *testing.T, o rig.RunnerOptions) *site {
	t.Helper()
	bin, err := faulty()
	if err != nil {
		t.Fatal(err)
	}
	o.Bin = bin
	s := install(t, o)
	if strings.Contains(o.Config, `name = "KEY"`) {
		s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	}
	s.cleanroom("audit", "init")
	return s
}

// trap is a file that tells one job's driver where to fall, once.
type trap struct {
	*site
	file string
}

func newTrap(s *site) trap { return trap{s, filepath.Join(s.t.TempDir(), "trap")} }

func (p trap) set(what string) {
	p.t.Helper()
	if err := os.WriteFile(p.file+".new", []byte(what), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.file+".new", p.file); err != nil {
		p.t.Fatal(err)
	}
}

// sprung waits until the job's driver has fallen, and its last command is over.
func (p trap) sprung() bool {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(p.file); errors.Is(err, fs.ErrNotExist) && !p.drives() {
			return true
		}
	}
	return os.Remove(p.file) != nil // whatever comes is not to fall into it
}

// drives tells whether a command of this job's driver runs.
func (p trap) drives() bool {
	found, _ := filepath.Glob("/proc/[0-9]*/environ")
	return slices.ContainsFunc(found, func(file string) bool {
		b, err := os.ReadFile(file)
		return err == nil && strings.Contains(string(b), "CUSTOM_ENV_FAULTS_AT="+p.file)
	})
}

// reap as an admin; it falls into the trap, if that is set.
func (p trap) reap() (string, error) {
	c := exec.Command(filepath.Join(p.bin, "cleanroom"), "--config", p.runner.CleanroomConfig(), "reap")
	c.Env = append(os.Environ(), "FAULTS_AT="+p.file)
	out, err := c.CombinedOutput()
	return string(out), err
}

// job gets to every point: it has a service, a secret and artifacts, and a gate.
func (p trap) job(g gate) gitlab.JobSpec {
	return gitlab.JobSpec{Name: "eventful", Image: &gitlab.Image{Name: "cleanroom/busybox"},
		Variables: asking("KEY", gitlab.Variable{Key: "FAULTS_AT", Value: p.file, Public: true}),
		Services:  []gitlab.Image{{Name: "cleanroom/service-pid1"}},
		Script:    []string{"mkdir -p out; echo made >out/a", g.line(), "echo through the gate"},
		Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"out/"}, When: "always"}}}
}

// early are points before which nothing says that the job is over: then the
// runner's end, or an admin, does.
var early = []string{"cleanup.begun", "end.begun"}

// TestKilledAtEachPoint: whichever step of ours is the last, reap finishes what
// was begun.
func TestKilledAtEachPoint(t *testing.T) { atPoints(t, "kill", 1000) }

// TestFailingAtSomePoints: nor does a step that fails leave anything.
func TestFailingAtSomePoints(t *testing.T) { atPoints(t, "error", 14) }

// atOnce is how many jobs fall beside each other: they wait more than they work.
const atOnce = 6

func atPoints(t *testing.T, how string, most int) {
	s := installFaulty(t, rig.RunnerOptions{Config: faultConfig, Concurrent: atOnce})
	var tasks []task
	for _, command := range []string{"config", "prepare", "run", "cleanup"} { // what others reach is tested beside them
		for _, point := range fault.Points[command] {
			tasks = append(tasks, task{command, point})
		}
	}
	slices.SortFunc(tasks, func(a, b task) int { return strings.Compare(a.point, b.point) })
	s.luck.Shuffle(len(tasks), func(i, j int) { tasks[i], tasks[j] = tasks[j], tasks[i] })
	tasks = tasks[:min(len(tasks), most)]
	b, queue := newBox(t), make(chan func(), len(tasks))
	for _, one := range tasks {
		at := fall{task: one, how: how, nth: 1 + s.luck.IntN(2)} // helper, job
		if strings.HasPrefix(one.point, "room.network") || s.luck.IntN(4) == 0 {
			at.served, at.nth = true, 1+s.luck.IntN(3) // and service
		}
		if one.point == "room.container.plugged" { // only without services are containers connected by us
			at.served, at.nth = false, min(at.nth, 2)
		}
		queue <- func() {
			if !b.open(one.point) {
				return
			}
			t.Run(one.point, func(t *testing.T) { s.in(t).falls(at) })
		}
	}
	close(queue)
	var work sync.WaitGroup
	for range atOnce { // beside each other: no reap touches another's job
		work.Go(func() {
			for one := range queue {
				one()
			}
		})
	}
	work.Wait()
	for _, point := range fault.Points["reap"] {
		if point != "end.runner.gone" {
			t.Run(point, func(t *testing.T) { s.in(t).reapFalls(point, how) })
		}
	}
	t.Run("end.runner.gone", func(t *testing.T) { s.in(t).runnerDies(how) })
}

func (s *site) in(t *testing.T) *site {
	one := *s
	one.t = t
	return &one
}

// task is a point, and the command that reaches it.
type task struct{ command, point string }

// fall is what is to happen at a point, the nth time, in a job with a service or
// without: that takes half as long.
type fall struct {
	task
	how    string
	nth    int
	served bool
}

// falls has one job's driver fall, and looks at what becomes of the room.
func (s *site) falls(at fall) {
	p, g, command, point := newTrap(s), newGate(s.t), at.command, at.point
	job := p.job(g)
	if !at.served {
		job.Services = nil
	}
	what := point + "=" + at.how
	if strings.HasPrefix(point, "room.container.") {
		what += "@" + strconv.Itoa(at.nth)
	}
	if command != "cleanup" {
		p.set(what)
		g.open()
	}
	id := s.submit(job)
	if command == "cleanup" { // prepare passes some of its points, too
		s.arrives(g)
		p.set(what)
		g.open()
	}
	r := s.wait(id)
	if !p.sprung() {
		s.t.Fatalf("%s was not reached; the job ended as %s\n%s", what, r.State, r.log)
	}
	if slices.Contains(early, point) {
		return // for runnerDies
	}
	if out, err := p.reap(); err != nil {
		s.t.Errorf("reap: %v: %s", err, out)
	}
	s.nothingLeft(id, command != "config")
}

func (s *site) arrives(g gate) {
	s.t.Helper()
	select {
	case <-g.arrived:
	case <-time.After(2 * time.Minute):
		s.t.Fatal("the job does not come to its gate")
	}
}

// reapFalls on its way through a room whose cleanup died.
func (s *site) reapFalls(point, how string) {
	p, g := newTrap(s), newGate(s.t)
	id := s.submit(p.job(g))
	s.arrives(g)
	p.set("end.over.noted=kill")
	g.open()
	s.wait(id)
	if !p.sprung() {
		s.t.Fatal("cleanup lives")
	}
	p.set(point + "=" + how)
	if out, err := p.reap(); err == nil {
		s.t.Errorf("reap says that all is well: %s", out)
	}
	if out, err := p.reap(); err != nil {
		s.t.Errorf("reap: %v: %s", err, out)
	}
	s.nothingLeft(id, true)
}

// runnerIsKilled, and its driver has noticed.
func (s *site) runnerIsKilled() {
	s.t.Helper()
	if err := s.runner.Signal(syscall.SIGKILL); err != nil {
		s.t.Fatal(err)
	}
	_ = s.runner.Wait()
	s.driversEnd()
}

// runnerDies is the end of all jobs, also of those of which nobody knew.
func (s *site) runnerDies(how string) {
	p, g := newTrap(s), newGate(s.t)
	id := s.submit(p.job(g))
	s.arrives(g)
	s.runnerIsKilled()
	p.set("end.runner.gone=" + how)
	if out, err := p.reap(); err == nil {
		s.t.Errorf("reap says that all is well: %s", out)
	}
	if out, err := p.reap(); err != nil {
		s.t.Errorf("reap: %v: %s", err, out)
	}
	s.runnerLeftNothing()
	s.nothingLeft(id, true)
}
