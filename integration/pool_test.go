package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// waiting is a room as `pool list --json` has it.
type waiting struct{ Room, Image, Profile string }

func (s *site) waiting() (all []waiting) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.cleanroom("pool", "list", "--json")), &all); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// filled waits until a cleanup's own process has made rooms.
func (s *site) filled(n int) []waiting {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if all := s.waiting(); len(all) >= n {
			return all
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d rooms are not made ahead: %+v", n, s.waiting())
		}
	}
}

var busybox = &gitlab.Image{Name: "cleanroom/busybox"}

const madeAhead = "Room was made ahead"

// TestPool: a job gets a room that was made after another's, and a room that
// waits knows nothing of any job.
func TestPool(t *testing.T) {
	s, _ := audited(t, faultConfig+"\n[pool]\nsize = 1\n")
	s.cleanroom("secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	const canary = "c4n4ry-of-the-first-job"
	first := s.run(gitlab.JobSpec{Project: project, Image: busybox, Variables: asking("KEY", gitlab.Variable{Key: "PUBLIC_ONE", Value: canary, Public: true}, gitlab.Variable{Key: "MASKED_ONE", Value: canary + "-masked", Masked: true}),
		Script: []string{"test -n \"$KEY\"", "echo " + canary + " >/tmp/used", "touch /builds/used"}})
	first.is(t, job.Success, "", 0)
	first.hides(t, madeAhead)
	s.driverEnds(first.ID)
	room := s.filled(1)[0]
	if room.Image != busybox.Name || room.Profile != "hardened" {
		t.Errorf("%+v", room)
	}

	ids := strings.Fields(command(t, "docker", "ps", "--quiet", "--no-trunc", "--filter", "label=cleanroom.room="+room.Room))
	if len(ids) != 2 {
		t.Fatalf("%d containers", len(ids))
	}
	seen := command(t, "docker", append([]string{"inspect"}, ids...)...)
	for _, id := range ids {
		pid := strings.TrimSpace(command(t, "docker", "inspect", "--format", "{{.State.Pid}}", id))
		environ, err := os.ReadFile(filepath.Join("/proc", pid, "environ"))
		must(t, err)
		seen += string(environ)
		if n := len(strings.Fields(command(t, "docker", "top", id, "-o", "pid"))); n != 2 { // the heading, and init
			t.Errorf("something runs in a room that waits: %d lines", n)
		}
	}
	for _, folder := range []string{filepath.Join(s.runner.StateDir(), "pool"), filepath.Join(s.runner.StateDir(), "rooms", room.Room)} {
		must(t, filepath.WalkDir(folder, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			seen += path + string(text)
			return err
		}))
	}
	for _, word := range []string{canary, "PUBLIC_ONE", "MASKED_ONE", "CI_", project, fmt.Sprint(first.ID), "http_proxy"} {
		if strings.Contains(seen, word) {
			t.Errorf("a room that waits has %q", word)
		}
	}

	second := s.run(gitlab.JobSpec{Project: project, Image: busybox, Variables: asking("KEY"), Script: []string{"test -n \"$KEY\"", "test ! -e /tmp/used", "test ! -e /builds/used", "test -d .git"}})
	second.is(t, job.Success, "", 0)
	second.says(t, madeAhead, "Room "+room.Room+", profile hardened")
	s.driverEnds(second.ID)
	s.nothingLeft(second.ID, true)
	has(t, s.cleanroom("audit", "show", fmt.Sprint(second.ID), "--json"), `"pooled":"`, room.Room)
	has(t, s.cleanroom("audit", "show", fmt.Sprint(second.ID)), "made ahead")
	if strings.Contains(s.cleanroom("audit", "show", fmt.Sprint(first.ID), "--json"), `"pooled"`) {
		t.Error("the first job's record says that its room was made ahead")
	}
}

// TestPoolIsNotForEveryJob: a room that is not just as it would be made now is
// thrown away, and the job gets its own.
func TestPoolIsNotForEveryJob(t *testing.T) {
	other := "cleanroom/pool-" + strings.ToLower(fmt.Sprint(time.Now().UnixNano()))
	command(t, "docker", "tag", busybox.Name, other)
	t.Cleanup(func() { command(t, "docker", "rmi", other) })
	s := install(t, rig.RunnerOptions{Config: "[pool]\nsize = 1\n"})
	run := func(what string, ahead bool, j gitlab.JobSpec) {
		t.Helper()
		if j.Image == nil {
			j.Image = &gitlab.Image{Name: other}
		}
		if j.Script == nil {
			j.Script = []string{"test ! -e /tmp/used && touch /tmp/used"}
		}
		r := s.run(j)
		r.is(t, job.Success, "", 0)
		if got := strings.Contains(r.log, madeAhead); got != ahead {
			t.Errorf("%s: made ahead: %v\n%s", what, got, r.log)
		}
		s.driverEnds(r.ID)
		s.nothingLeft(r.ID, true)
	}
	run("the first", false, gitlab.JobSpec{})
	s.filled(1)
	run("the second", true, gitlab.JobSpec{})
	s.filled(1)
	run("with a service", false, gitlab.JobSpec{Services: []gitlab.Image{{Name: "cleanroom/service-pid1"}}})
	run("harder", false, gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/user"}, Variables: []gitlab.Variable{{Key: "CLEANROOM_PROFILE", Value: "strict", Public: true}}})
	s.filled(2)
	command(t, "docker", "tag", "cleanroom/user", other) // the name is another image's now
	run("of another image", false, gitlab.JobSpec{})
	s.filled(2)
	run("of that image", true, gitlab.JobSpec{})
	s.filled(2)
	config := s.runner.CleanroomConfig()
	text, err := os.ReadFile(config)
	must(t, err)
	must(t, os.WriteFile(config, append(text, "\n[limits]\npids = 500\n"...), 0o600))
	run("by another configuration", false, gitlab.JobSpec{})
	s.filled(1)
	old := s.waiting()
	must(t, os.WriteFile(config, text, 0o600))
	s.cleanroom("pool", "fill")
	for _, room := range s.waiting() {
		for _, o := range old {
			if o.Room == room.Room {
				t.Errorf("%s is of another configuration, and waits", o.Room)
			}
		}
	}
}

// TestPoolIsClaimedOnce: fifty jobs at once take rooms, while rooms are made,
// grow too old, are reaped and thrown away. Each room has one job, none is left.
// Where rooms grow too old before a job comes, fifty more are tried.
func TestPoolIsClaimedOnce(t *testing.T) {
	const jobs = 50
	s := install(t, rig.RunnerOptions{Concurrent: jobs, Config: "[pool]\nsize = 8\nmax = 16\nmemory = \"4g\"\nage = \"8s\"\n"})
	first := s.run(gitlab.JobSpec{Image: busybox, Script: []string{"true"}})
	first.is(t, job.Success, "", 0)
	s.driverEnds(first.ID)
	s.filled(8)
	over := make(chan struct{})
	var beside sync.WaitGroup
	var mu sync.Mutex
	for _, args := range [][]string{{"pool", "fill"}, {"reap"}, {"pool", "drain"}} {
		pause := time.Second + upTo(s.luck, 3*time.Second)
		beside.Go(func() {
			for {
				select {
				case <-over:
					return
				case <-time.After(pause):
				}
				c := exec.Command(filepath.Join(s.bin, "cleanroom"), append([]string{"--config", s.runner.CleanroomConfig()}, args...)...)
				if out, err := c.CombinedOutput(); err != nil {
					mu.Lock()
					t.Errorf("%q: %v: %s", args, err, out)
					mu.Unlock()
				}
			}
		})
	}
	rooms, ahead := map[string]int64{}, 0
	name := regexp.MustCompile(`Room (cr-[a-z0-9-]+), profile`)
	var ids []int64
	for round := 0; round < 4 && ahead < 3; round++ {
		for range jobs {
			ids = append(ids, s.submit(gitlab.JobSpec{Image: busybox, Script: []string{"test ! -e /tmp/used", "test ! -e /builds/used", "touch /tmp/used /builds/used"}}))
		}
		for _, id := range ids[round*jobs:] {
			r := s.wait(id)
			r.is(t, job.Success, "", 0)
			m := name.FindStringSubmatch(r.log)
			if m == nil {
				t.Errorf("job %d names no room:\n%s", id, r.log)
				continue
			}
			if other, ok := rooms[m[1]]; ok {
				t.Errorf("jobs %d and %d had %s", other, id, m[1])
			}
			rooms[m[1]] = id
			if strings.Contains(r.log, madeAhead) {
				ahead++
			}
		}
	}
	close(over)
	beside.Wait()
	t.Logf("%d of %d jobs had a room that was made ahead", ahead, len(ids))
	if ahead < 3 {
		t.Errorf("only %d jobs had a room that was made ahead", ahead)
	}
	for _, id := range ids {
		s.driverEnds(id)
		s.nothingLeft(id, true)
	}
}

// TestPoolWhoseProcessesDie: whichever step with the pool is the last, reap
// finishes what was begun, and the books are in order.
func TestPoolWhoseProcessesDie(t *testing.T) {
	s := installFaulty(t, rig.RunnerOptions{Config: faultConfig + "\n[pool]\nsize = 1\n"})
	b := newBox(t)
	t.Run("jobs", func(t *testing.T) {
		for _, point := range shuffled(s.luck, []string{"claim.noted", "claim.taken", "room.fits", "room.adopted", "room.taken"}) {
			if !b.open(point) {
				continue
			}
			t.Run(point, func(t *testing.T) {
				s := s.in(t)
				p, g := newTrap(s), newGate(t)
				j := p.job(g)
				j.Services = nil
				g.open()
				s.run(j)
				s.driversEnd()
				s.filled(1)
				p.set(point + "=kill")
				id := s.submit(j)
				s.wait(id)
				if !p.sprung() {
					t.Fatalf("%s was not reached", point)
				}
				s.late()
				if out, err := p.reap(); err != nil {
					t.Errorf("reap: %v: %s", err, out)
				}
				s.nothingLeft(id, !strings.HasPrefix(point, "claim."))
				s.onTheBooks()
			})
		}
	})
	t.Run("fill", func(t *testing.T) {
		for _, point := range shuffled(s.luck, []string{"fill.begun", "room.marked", "room.container.created", "room.container.plugged", "room.state.written", "fill.made", "fill.written", "fill.ready"}) {
			if !b.open(point) {
				continue
			}
			t.Run(point, func(t *testing.T) {
				s := s.in(t)
				p := newTrap(s)
				s.cleanroom("pool", "drain")
				p.set(point + "=kill")
				s.poolFalls(p, "fill", point)
			})
		}
		for _, point := range shuffled(s.luck, []string{"expire.moved", "expire.wiped"}) {
			if !b.open(point) {
				continue
			}
			t.Run(point, func(t *testing.T) {
				s := s.in(t)
				p := newTrap(s)
				s.cleanroom("pool", "fill")
				p.set(point + "=kill")
				s.poolFalls(p, "drain", point)
			})
		}
	})
}

// poolFalls has a command of an admin's fall, and reap find what it left.
func (s *site) poolFalls(p trap, command, point string) {
	s.t.Helper()
	c := exec.Command(filepath.Join(s.bin, "cleanroom"), "--config", s.runner.CleanroomConfig(), "pool", command)
	c.Env = append(os.Environ(), "FAULTS_AT="+p.file)
	if out, err := c.CombinedOutput(); err == nil {
		s.t.Fatalf("%s was not reached: %s", point, out)
	}
	if out, err := p.reap(); err != nil {
		s.t.Errorf("reap: %v: %s", err, out)
	}
	s.onTheBooks()
}

// late makes all claims as old as those of which no prepare comes any more.
func (s *site) late() {
	files, _ := filepath.Glob(filepath.Join(s.runner.StateDir(), "pool", "claims", "*"))
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(s.t, err)
		var claim map[string]any
		must(s.t, json.Unmarshal(text, &claim))
		delete(claim, "late")
		claim["at"] = time.Now().Add(-time.Hour)
		text, err = json.Marshal(claim)
		must(s.t, err)
		must(s.t, os.WriteFile(file, text, 0o600))
	}
}

// onTheBooks: the engine has just the rooms that wait, and nobody has others.
func (s *site) onTheBooks() {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); called(s.runner.CleanroomConfig()) && time.Now().Before(end); { // a cleanup's process makes rooms
		time.Sleep(20 * time.Millisecond)
	}
	want, found := map[string]bool{}, map[string]bool{}
	for _, w := range s.waiting() {
		want[w.Room] = true
	}
	for _, line := range strings.Fields(command(s.t, "docker", "ps", "--all", "--format", `{{.Label "cleanroom.room"}}`, "--filter", "label=cleanroom.pool")) {
		if !want[line] {
			s.t.Errorf("%s is on the engine, and does not wait", line)
		}
		found[line] = true
	}
	for room := range want {
		if !found[room] {
			s.t.Errorf("%s waits, and is not on the engine", room)
		}
	}
	for _, folder := range []string{"making", "taken", "claims", "gone"} {
		if left, _ := filepath.Glob(filepath.Join(s.runner.StateDir(), "pool", folder, "*")); len(left) > 0 {
			s.t.Errorf("left on the books: %q", left)
		}
	}
}
