package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// TestInspectShowsNoVariable looks at every container of a room, while it
// runs, for a job variable's name or value.
func TestInspectShowsNoVariable(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	const canary = "c4n4ry-in-a-variable"
	looked := newGate(t)
	id := s.submit(gitlab.JobSpec{
		Variables: []gitlab.Variable{{Key: "SHOWN_NOWHERE", Value: canary, Public: true}, {Key: "POSTGRES_PASSWORD", Value: canary, Public: true}},
		Services:  []gitlab.Image{{Name: "cleanroom/postgres", Alias: "db", Variables: []gitlab.Variable{{Key: "POSTGRES_DB", Value: "items"}}}},
		Script:    []string{"echo the value has ${#SHOWN_NOWHERE} bytes", looked.line()}})
	s.until(id, "the value has 20 bytes")
	ids, err := s.rig.Find(t.Context(), id, "ps", "--all")
	if err != nil || len(ids) != 3 {
		t.Fatalf("%d containers, want helper, job and service: %v", len(ids), err)
	}
	out, err := exec.Command("docker", append([]string{"inspect"}, ids...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	looked.open()
	for _, word := range []string{canary, "SHOWN_NOWHERE", "POSTGRES_", "CI_JOB_TOKEN", "CI_PROJECT"} {
		if bytes.Contains(out, []byte(word)) {
			t.Errorf("docker inspect shows %q", word)
		}
	}
	if !bytes.Contains(out, []byte(`"Type": "none"`)) {
		t.Error("no container says that it has no log driver")
	}
	s.wait(id).is(t, job.Success, "", 0)
}

func TestServiceWithVariablesAndHealthcheck(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	r := s.run(gitlab.JobSpec{
		Services: []gitlab.Image{{Name: "cleanroom/postgres", Alias: "db, database", Variables: []gitlab.Variable{
			{Key: "POSTGRES_PASSWORD", Value: "p"}, {Key: "POSTGRES_USER", Value: "u"}, {Key: "POSTGRES_DB", Value: "d"}}},
			{Name: "cleanroom/service-pid1"}},
		Script: []string{
			`python3 -c "import psycopg2; [print('connected as', psycopg2.connect(host=h, user='u', password='p', dbname='d').info.user) for h in ('db', 'database', 'cleanroom-postgres', 'cleanroom__postgres')]"`,
			"getent hosts cleanroom-service-pid1"}})
	r.is(t, job.Success, "", 0)
	r.says(t, "connected as u", "Service cleanroom/postgres is ready as")
}

func TestHundredMegabytesOfOutput(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	const lines = 1 << 20
	r := s.run(gitlab.JobSpec{Script: []string{"yes 'a line of a hundred bytes, as a chatty test would print it, and then some more of it, to the end..' 2>/dev/null | head -n 1048576 || true", "echo the end of it"}})
	r.is(t, job.Success, "", 0)
	if n := strings.Count(r.log, "a line of a hundred bytes"); n < lines {
		t.Errorf("%d lines arrived of %d", n, lines)
	}
	r.says(t, "the end of it")
}

func TestFullBuildsVolume(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: "[room]\nsize = \"64m\"\n"})
	r := s.run(gitlab.JobSpec{Project: project, Script: []string{"df -h . | tail -1", "head -c 200m /dev/zero > big"}})
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "No space left on device")
}

func TestForkBomb(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: "[limits]\npids = 200\n"})
	r := s.run(gitlab.JobSpec{Script: []string{"for i in $(seq 1000); do sleep 60 & done; wait -n; echo survived"}})
	if r.State != job.Failed || r.FailureReason != "script_failure" {
		t.Errorf("%s %s\n%s", r.State, r.FailureReason, r.log)
	}
	r.says(t, "Resource temporarily unavailable")
}

func TestMemoryLimit(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: "[limits]\nmemory = \"64m\"\n[room]\nsize = \"64m\"\n"})
	r := s.run(gitlab.JobSpec{Script: []string{`python3 -c "x = bytearray(1 << 30); print(len(x))"`}})
	if r.State != job.Failed || r.FailureReason != "script_failure" {
		t.Errorf("%s %s\n%s", r.State, r.FailureReason, r.log)
	}
	r.says(t, "out of memory")
}

func TestJobDoesNotReachTheEngineOrTheHost(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	r := s.run(gitlab.JobSpec{Script: []string{
		"ls -l /var/run/docker.sock 2>&1 || true",
		"grep ' /builds ' /proc/mounts", "grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status", "ls /dev/sda /dev/vda /dev/kmsg 2>&1 || true",
		"while read -r _ at _ how _; do if [ $at = /.cleanroom/init ]; then echo init is mounted $how; fi; done < /proc/mounts"}})
	r.is(t, job.Success, "", 0)
	r.says(t, "docker.sock': No such file", "tmpfs /builds tmpfs", "CapEff:\t00000000000000cb", "NoNewPrivs:\t1", "Seccomp:\t2", "init is mounted ro,",
		"'/dev/sda': No such file", "'/dev/kmsg': No such file")
}

// TestDriverLogHoldsNoPrivateValue: what a service printed, and what a job's
// variables hold, is for the job's log.
func TestDriverLogHoldsNoPrivateValue(t *testing.T) {
	const canary = "c4n4ry-of-the-driver-log"
	file := filepath.Join(t.TempDir(), "driver.log")
	s := install(t, rig.RunnerOptions{Config: fmt.Sprintf("[log]\nfile = %q\nlevel = \"debug\"\n", file)})
	private := []gitlab.Variable{{Key: "SEKRIT", Value: canary, Masked: true}}
	// A port that it waits for: without one a service is watched for a tenth of a second only, and this one is to be seen to end.
	waited := append([]gitlab.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "9999"}}, private...)
	s.run(gitlab.JobSpec{Variables: private, Script: []string{"true"}, Services: []gitlab.Image{{
		Name: "cleanroom/busybox", Entrypoint: []string{"/bin/busybox", "sh", "-c", "echo password is $SEKRIT; exit 3"}, Variables: waited}}}).
		says(t, "exited with code 3", "password is")
	s.run(gitlab.JobSpec{Variables: private, Script: []string{"true"}, Image: &gitlab.Image{Name: "cleanroom/$SEKRIT", PullPolicy: []string{"if-not-present"}}})
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(b, []byte(canary)) {
		t.Errorf("the driver's log holds a private value:\n%s", b)
	}
	for _, word := range []string{"exited with code 3", "job=", "room=cr-"} {
		if !bytes.Contains(b, []byte(word)) {
			t.Errorf("the driver's log does not say %q:\n%s", word, b)
		}
	}
}
