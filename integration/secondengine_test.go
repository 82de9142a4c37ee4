package integration

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// secondEngine is a Docker Engine of the test's own, with the small images.
func secondEngine(t *testing.T, o rig.EngineOptions) *rig.Engine {
	t.Helper()
	e, err := rig.StartEngine(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(e.Words())
		}
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := e.Load(t.Context(), "cleanroom/helper", "cleanroom/busybox", "cleanroom/service-pid1", "cleanroom/user"); err != nil {
		t.Fatal(err)
	}
	return e
}

// installAt is install for rooms on another engine. The configuration goes on
// in its section engine; lines of no section come first.
func installAt(t *testing.T, e *rig.Engine, host, config string, top ...string) *site {
	t.Helper()
	before, err := e.Look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the site's own, which stops the runner
		now, err := e.Look(context.Background())
		if err != nil {
			t.Error(err)
			return
		}
		left := now.Since(before)
		var volumes []string
		for _, v := range left[rig.Volumes] {
			if !strings.HasPrefix(v, "cleanroom-init-") { // the tool of a remote engine
				volumes = append(volumes, v)
			}
		}
		left[rig.Networks] = slices.DeleteFunc(left[rig.Networks], func(n string) bool { return strings.HasSuffix(n, " bridge") }) // new with each start
		if left[rig.Volumes] = volumes; left.Count() > 0 {
			t.Errorf("left on the second engine:\n%s", left)
		}
		rooms := e.Rooms()
		for end := time.Now().Add(30 * time.Second); len(rooms) > 0 && time.Now().Before(end); rooms = e.Rooms() {
			time.Sleep(100 * time.Millisecond)
		}
		for _, p := range rooms {
			t.Errorf("process left: %s", p)
		}
	})
	return install(t, rig.RunnerOptions{Config: fmt.Sprintf("%s\n[engine]\nhost = %q\n%s\n", strings.Join(top, "\n"), host, config)})
}

// everything is a job with a clone, a service, an artifact and time to look.
func everything(name string, looked gate) gitlab.JobSpec {
	return gitlab.JobSpec{Name: name, Project: project, Image: &gitlab.Image{Name: "cleanroom/busybox"},
		Services: []gitlab.Image{mirror, {Name: "cleanroom/service-pid1"}},
		Hooks:    inHelper("echo helper is uid $(id -u)"),
		Script: []string{"test -f pyproject.toml && echo cloned", "wget -qO- http://mirror:8000/env | grep -c PATH", "nc cleanroom-service-pid1 9998 </dev/null",
			"date >made-here", "id -u", "sed 's/^/uid map /' /proc/self/uid_map", "echo look now", looked.line()},
		Artifacts: []gitlab.Artifact{{Name: "made", Paths: []string{"made-here"}, Type: "archive", Format: "zip"}}}
}

func good(t *testing.T, r result) {
	t.Helper()
	r.is(t, job.Success, "", 0)
	r.says(t, "cloned", "hello from process 1", "helper is uid 0", "Uploading artifacts")
	if len(r.Artifacts) != 1 {
		t.Errorf("%d artifacts arrived", len(r.Artifacts))
	}
}

// transport is how the driver reaches the inits of a running room.
func transport(t *testing.T, s *site) string {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(s.runner.StateDir(), "rooms", "*", "room.json"))
	if len(found) != 1 {
		t.Fatalf("%d rooms in the state folder", len(found))
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), `"socket"`) {
		return "socket"
	}
	return "exec"
}

// containersOf asks the engine about each container of a job.
func containersOf(t *testing.T, e *rig.Engine, id int64, format string) []string {
	t.Helper()
	out, err := e.Docker(t.Context(), "ps", "--quiet", "--filter", "label=cleanroom.job="+strconv.FormatInt(id, 10))
	if err != nil || len(strings.Fields(out)) != 4 {
		t.Fatalf("%v, containers %s", err, out)
	}
	out, err = e.Docker(t.Context(), append([]string{"inspect", "--format", format}, strings.Fields(out)...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out), "\n")
}

// TestRemappedUsers has an engine whose containers' root is nobody on the
// host: a room must not step out of that.
func TestRemappedUsers(t *testing.T) {
	e := secondEngine(t, rig.EngineOptions{Userns: true})
	s := installAt(t, e, e.Host, "")
	looked := newGate(t)
	id := s.submit(everything("remapped", looked))
	s.until(id, "look now")
	for _, line := range containersOf(t, e, id, "{{.State.Pid}} {{.Name}} mode={{.HostConfig.UsernsMode}}") {
		pid, rest, _ := strings.Cut(line, " ")
		if !strings.HasSuffix(rest, "mode=") {
			t.Errorf("%s: it chose a user namespace", rest)
		}
		status, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err != nil {
			t.Error(err)
		}
		if !strings.Contains(string(status), "\nUid:\t") || strings.Contains(string(status), "\nUid:\t0\t") {
			t.Errorf("%s runs as the host's root:\n%s", rest, status)
		}
	}
	if by := transport(t, s); by != "socket" {
		t.Errorf("transport %s, and the engine is local", by)
	}
	looked.open()
	r := s.wait(id)
	good(t, r)
	if strings.Contains(r.log, "uid map          0          0") {
		t.Errorf("root is not mapped\n%s", r.log)
	}
	r = s.run(gitlab.JobSpec{Project: project, Image: &gitlab.Image{Name: "cleanroom/user"}, Script: []string{"whoami", "echo x >written", "stat -c %U pyproject.toml"}})
	r.is(t, job.Success, "", 0)
	r.says(t, "$ whoami\napp\n", "pyproject.toml\napp\n")
}

// TestGVisor has rooms whose containers have a kernel of their own.
func TestGVisor(t *testing.T) {
	runsc := os.Getenv("RUNSC")
	if runsc == "" {
		t.Fatal("RUNSC is not set: run `make integration`, which builds gVisor's runsc")
	}
	e := secondEngine(t, rig.EngineOptions{Runsc: runsc})
	server := answerEverything(t, theRig.Address, netip.MustParseAddr("192.0.2.53"))
	network := fmt.Sprintf("runtime = \"runsc\"\n[network]\ndns = [%q]\nextra_hosts = [\"build.example:192.0.2.7\"]\n", server)
	t.Run("hardened", func(t *testing.T) {
		inGVisor(t, installAt(t, e, e.Host, network+"[room]\nstage_grace = \"2s\"\n"+keepCaches), e)
	})
	t.Run("strict", func(t *testing.T) { // its network leads nowhere, and names are found all the same
		s := installAt(t, e, e.Host, "runtime = \"runsc\"\n[room]\nuser = \"1000:1000\"\n"+keepCaches, "profile = \"strict\"")
		r := s.run(gitlab.JobSpec{Project: project, Image: &gitlab.Image{Name: "cleanroom/busybox"}, Services: []gitlab.Image{mirror},
			Script: []string{"test -f pyproject.toml && echo cloned", "id -u", "wget -qO- http://mirror:8000/hosts", "timeout 3 wget -qO- $CI_SERVER_URL || echo closed"}})
		r.is(t, job.Success, "", 0)
		r.says(t, "cloned", "$ id -u\n1000\n", "\tmirror\n", "echo closed\n", "\nclosed\n")
		keepsCaches(s, "cleanroom/busybox")
	})
}

// inGVisor has jobs that end well, badly and early.
func inGVisor(t *testing.T, s *site, e *rig.Engine) {
	looked := newGate(t)
	spec := everything("gvisor", looked)
	spec.Hooks = inHelper("echo helper is uid $(id -u)", "getent hosts cleanroom-service-pid1 build.example", "getent ahostsv4 anything.example | head -1")
	spec.Script = append([]string{"uname -r", "nslookup other.example | tail -2"}, spec.Script...)
	id := s.submit(spec)
	s.until(id, "look now")
	for _, line := range containersOf(t, e, id, "{{.HostConfig.Runtime}} {{.Name}}") {
		if !strings.HasPrefix(line, "runsc ") {
			t.Errorf("runtime of a container: %s", line)
		}
	}
	if by := transport(t, s); by != "exec" {
		t.Errorf("transport %s", by)
	}
	looked.open()
	r := s.wait(id)
	good(t, r)
	r.says(t, "gvisor\n", "192.0.2.53", "192.0.2.7")
	keepsCaches(s, spec.Image.Name)

	r = s.run(gitlab.JobSpec{Image: spec.Image, Script: []string{"exit 42"}, AfterScript: []string{"echo after, status $CI_JOB_STATUS"}})
	r.is(t, job.Failed, "script_failure", 42)
	r.says(t, "after, status failed")

	id = s.submit(gitlab.JobSpec{Image: spec.Image, Script: []string{`setsid sh -c 'trap "" TERM; while :; do echo alive; sleep 0.3; done' &`, `trap "" TERM`, "while :; do sleep 0.3; done"}})
	s.until(id, "alive")
	if err := theRig.Cancel(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	if r = s.wait(id); r.State != job.Canceled {
		t.Errorf("%s\n%s", r.State, r.log)
	}
}

// TestEngineOverTCP has an engine that is taken for another machine's: no
// bind mount, no socket.
func TestEngineOverTCP(t *testing.T) {
	e := secondEngine(t, rig.EngineOptions{TCP: true})
	s := installAt(t, e, e.TCP, keepCaches)
	looked := newGate(t)
	id := s.submit(everything("remote", looked))
	s.until(id, "look now")
	for _, line := range containersOf(t, e, id, `{{.Name}}{{range .Mounts}} {{.Type}}{{end}}`) {
		if strings.Contains(line, "bind") {
			t.Errorf("a bind mount on another machine: %s", line)
		}
	}
	if by := transport(t, s); by != "exec" {
		t.Errorf("transport %s", by)
	}
	looked.open()
	good(t, s.wait(id))
	keepsCaches(s, "cleanroom/busybox")
	out, err := e.Docker(t.Context(), "volume", "ls", "--quiet", "--filter", "label=cleanroom.tool")
	if err != nil || len(strings.Fields(out)) != 1 {
		t.Errorf("tool volumes: %q %v", out, err)
	}
}
