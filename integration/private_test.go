package integration

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// neighbour is a project without a login.
const neighbour = "neighbour/items"

// wanting is a job of a project that has a login for the registry, or none.
func (s shelf) wanting(login bool, image, policy string, script ...string) gitlab.JobSpec {
	spec := gitlab.JobSpec{Project: neighbour, Image: &gitlab.Image{Name: image, PullPolicy: []string{policy}}, Script: append([]string{"echo it runs"}, script...)}
	if login {
		spec.Project = project
		spec.Variables = []gitlab.Variable{{Key: "DOCKER_AUTH_CONFIG", Value: s.AuthConfig(s.Address)}}
	}
	return spec
}

// admins has the admin pull, with a login of their own.
func (s shelf) admins(t *testing.T, image string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(s.AuthConfig(s.Address)), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "docker", "--config", dir, "pull", "--quiet", image)
}

// present says whether the engine has an image of that name or ID.
func present(t *testing.T, image string) bool {
	t.Helper()
	return strings.TrimSpace(command(t, "docker", "images", "--quiet", "--no-trunc", "--filter", "reference="+image)) != ""
}

func withNeighbour(t *testing.T) {
	t.Helper()
	if _, err := theRig.AddProject(t.Context(), gitlab.Project{Path: neighbour, Dir: "sample"}); err != nil && !strings.Contains(err.Error(), "already") {
		t.Fatal(err)
	}
}

// TestPrivateImageIsNotGivenAway: what one project's login brought, a project
// without one does not get, under whatever name and policy it asks.
func TestPrivateImageIsNotGivenAway(t *testing.T) {
	reg := stock(t)
	withNeighbour(t)
	app, other := reg.Address+"/"+appName, reg.Address+"/"+otherName
	byDigest, alias := reg.Address+"/shop/app@"+reg.digest, reg.Address+"/alias/app:1"
	config, _ := pulling(t, "")
	s := install(t, rig.RunnerOptions{Config: config})

	reg.admins(t, other) // the very image, and its name is nobody's login's
	r := s.run(reg.wanting(false, other, "never"))
	r.is(t, job.Success, "", 0)
	r = s.run(reg.wanting(true, app, "always"))
	r.is(t, job.Success, "", 0)
	command(t, "docker", "tag", app, alias)

	b := newBox(t)
	for _, policy := range shuffled(chance(t), []string{"if-not-present", "never"}) {
		for name, image := range map[string]string{"tag": app, "digest": byDigest, "tag and digest": app + "@" + reg.digest, "another name": alias} {
			if !b.open(policy + " by " + name) {
				continue
			}
			t.Run(policy+" by "+name, func(t *testing.T) {
				s := *s
				s.t = t
				r := s.run(reg.wanting(false, image, policy))
				r.is(t, job.Failed, "script_failure", 1)
				r.says(t, "image "+image+" is on this runner, but a login brought it", "give the job a login with DOCKER_AUTH_CONFIG")
				r.hides(t, "it runs", "Will be retried", reg.Password)
				if image == alias {
					r.hides(t, "shop/app")
				}
				r = s.run(reg.wanting(true, image, policy))
				r.is(t, job.Success, "", 0)
				r.says(t, "this job may have it: its registry says so", "it runs")
				r.hides(t, "Pulling image")
			})
		}
	}
	r = s.run(reg.wanting(false, app, "always"))
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "pull of image "+app, "no basic auth credentials")
	r = s.run(reg.wanting(false, byDigest, "always")) // which the engine itself asks nobody for
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "a login brought it")
	r.hides(t, "it runs")
	s.run(reg.wanting(true, byDigest, "always")).is(t, job.Success, "", 0)
	spec := reg.wanting(false, "cleanroom/busybox", "never")
	spec.Services = []gitlab.Image{{Name: app, Alias: "app", PullPolicy: []string{"never"}}}
	r = s.run(spec)
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "image "+app+" is on this runner, but a login brought it")
	spec = reg.wanting(false, app, "never")
	spec.Variables = []gitlab.Variable{{Key: "DOCKER_AUTH_CONFIG", Value: (&rig.Registry{User: reg.User, Password: "pw-of-yesterday"}).AuthConfig(reg.Address)}}
	r = s.run(spec)
	r.is(t, job.Failed, "script_failure", 1)
	r.hides(t, "it runs", "pw-of-yesterday")
	s.run(reg.wanting(false, other, "never")).is(t, job.Success, "", 0) // as before

	record, err := os.ReadFile(filepath.Join(s.runner.DataDir(), "images", "pulled.json"))
	if err != nil || !strings.Contains(string(record), reg.digest) {
		t.Errorf("%v: %s", err, record)
	}
	for _, value := range []string{reg.Password, reg.Auth(), reg.User} {
		if strings.Contains(string(record), value) {
			t.Errorf("a login is in the record:\n%s", record)
		}
	}

	// Public after all: asked once, and not again.
	if err := reg.OpenToAll(); err != nil {
		t.Fatal(err)
	}
	s.run(reg.wanting(false, app, "if-not-present")).is(t, job.Success, "", 0)
	reg.Stop()
	s.run(reg.wanting(false, app, "never")).is(t, job.Success, "", 0)
}

// TestPullThatWasKilled: an image that the engine has although nobody was left
// to see it come is as private as one that was seen.
func TestPullThatWasKilled(t *testing.T) {
	reg := stock(t)
	withNeighbour(t)
	app := reg.Address + "/" + appName
	config, _ := pulling(t, "")
	s := install(t, rig.RunnerOptions{Config: config})
	id := s.submit(reg.wanting(true, app, "always"))
	killed := 0
	for { // as often as the runner tries
		text, _ := os.ReadFile(filepath.Join(s.runner.DataDir(), "images", "pulled.json"))
		if pid := s.driver("prepare"); pid != 0 && strings.Contains(string(text), `"image": "`+app) && syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
		if st, err := theRig.Job(t.Context(), id); err != nil {
			t.Fatal(err)
		} else if st.State.Final() {
			break
		}
	}
	if r := s.wait(id); killed == 0 || r.State == job.Success {
		t.Fatalf("killed %d times, and the job ended as %s\n%s", killed, r.State, r.log)
	}
	s.cleanroom("reap")
	reg.admins(t, app) // whatever the kill left of the pull: now the engine has the image
	r := s.run(reg.wanting(false, app, "never"))
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "a login brought it")
	s.run(reg.wanting(true, app, "never")).is(t, job.Success, "", 0)
}

// TestPrivateImagesAreRemoved with the last room that uses them, and only
// those that a login brought.
func TestPrivateImagesAreRemoved(t *testing.T) {
	reg := stock(t)
	app, other := reg.Address+"/"+appName, reg.Address+"/"+otherName
	config, _ := pulling(t, `private = "remove"`)
	s := install(t, rig.RunnerOptions{Config: config, Concurrent: 2})

	one, two := newGate(t), newGate(t)
	first := s.submit(reg.wanting(true, app, "always", "echo one waits", one.line()))
	s.until(first, "one waits")
	second := s.submit(reg.wanting(true, app, "if-not-present", "echo two waits", two.line()))
	s.until(second, "two waits")
	one.open()
	s.wait(first).is(t, job.Success, "", 0)
	s.ended(first)
	if !present(t, app) {
		t.Fatal("the image of a room that is there was removed")
	}
	two.open()
	r := s.wait(second)
	r.is(t, job.Success, "", 0)
	r.hides(t, "Pulling image")
	s.ended(second)
	if present(t, app) {
		t.Error("the image is left")
	}
	if shown := s.cleanroom("room", "show", strconv.FormatInt(second, 10)); !strings.Contains(shown, "image "+app) {
		t.Errorf("no evidence of it: %s", shown)
	}

	t.Run("both end at once", func(t *testing.T) {
		g := newGate(t)
		var both []int64
		for range 2 {
			both = append(both, s.submit(reg.wanting(true, app, "always", "echo it waits", g.line())))
		}
		for _, id := range both {
			s.until(id, "it waits")
		}
		g.open()
		for _, id := range both {
			s.wait(id).is(t, job.Success, "", 0)
			s.ended(id)
		}
		if present(t, app) {
			t.Error("the image is left")
		}
	})
	t.Run("cleanup is killed", func(t *testing.T) {
		g := newGate(t)
		id := s.submit(reg.wanting(true, app, "always", "echo it waits", g.line()))
		s.until(id, "it waits")
		lock, err := durable.Lock(t.Context(), filepath.Join(s.runner.DataDir(), "images", "pulled.json.lock"))
		if err != nil {
			t.Fatal(err)
		}
		g.open()
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if left, err := theRig.LeftOf(t.Context(), id); err == nil && left == "0 0 0" && s.driver("cleanup") != 0 {
				break
			} else if time.Now().After(end) {
				t.Fatal(left, err)
			}
		}
		s.kill("cleanup")
		s.wait(id)
		if !present(t, app) {
			t.Fatal("it was removed already, so this test shows nothing")
		}
		if err := lock.Unlock(); err != nil {
			t.Fatal(err)
		}
		if said := s.cleanroom("reap"); present(t, app) {
			t.Errorf("the image is left: %s", said)
		}
	})
	t.Run("not the admin's", func(t *testing.T) {
		reg.admins(t, other)
		s.ended(s.wait(s.submit(reg.wanting(true, app, "always"))).JobStatus.ID)
		if !present(t, other) {
			t.Error("the admin's image is gone")
		}
	})
	t.Run("not what everybody may have", func(t *testing.T) {
		forget(t, reg.Address)
		if err := reg.OpenToAll(); err != nil {
			t.Fatal(err)
		}
		s.ended(s.wait(s.submit(reg.wanting(true, app, "always"))).JobStatus.ID)
		if !present(t, app) {
			t.Error("an image that everybody may have was removed")
		}
	})
}

// ended waits until the job's cleanup is over.
func (s *site) ended(id int64) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left, err := s.rig.LeftOf(context.Background(), id); err == nil && left == "0 0 0" && s.driver("cleanup") == 0 {
			return
		}
	}
	s.t.Fatalf("the room of job %d is still there", id)
}
