package integration

import (
	"path/filepath"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

func TestExitCodeReachesGitLab(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	r := s.run(gitlab.JobSpec{Script: []string{"exit 42"}, AfterScript: []string{"echo after, status $CI_JOB_STATUS"}})
	r.is(t, job.Failed, "script_failure", 42)
	r.says(t, "exit status 42", "after, status failed")

	r = s.run(gitlab.JobSpec{Script: []string{"exit 42"}, AllowFailure: gitlab.AllowFailure{ExitCodes: []int{42}}})
	if !r.Allowed {
		t.Error("allow_failure:exit_codes does not see 42")
	}
	r = s.run(gitlab.JobSpec{Script: []string{"kill -9 $$"}})
	r.is(t, job.Failed, "script_failure", 137)
	r = s.run(gitlab.JobSpec{Script: []string{"true"}, AfterScript: []string{"exit 3"}})
	r.is(t, job.Success, "", 0)
}

func TestMistakesOfTheAuthorFailAtOnce(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: `
[images]
helper = "cleanroom/helper"
pull_policies = ["never"]
allowed = ["cleanroom/*"]
allowed_services = ["cleanroom/service-*"]
[room]
service_timeout = "5s"
entrypoint_timeout = "20s"
`})
	true_ := []string{"echo the script ran"}
	service := func(i gitlab.Image) []gitlab.Image { return []gitlab.Image{i} }
	b := newBox(t)
	for name, c := range map[string]struct {
		job  gitlab.JobSpec
		says []string
	}{
		"denied image":   {gitlab.JobSpec{Image: &gitlab.Image{Name: "alpine:3"}}, []string{`image "alpine:3" is not allowed`, "cleanroom/*"}},
		"denied service": {gitlab.JobSpec{Services: service(gitlab.Image{Name: "cleanroom/postgres"})}, []string{`service "cleanroom/postgres" is not allowed`}},
		"denied policy":  {gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/busybox", PullPolicy: []string{"always"}}}, []string{`pull policy "always" is not allowed`}},
		"missing image":  {gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/nowhere:1"}}, []string{"cleanroom/nowhere:1 is not on this runner"}},
		"no shell":       {gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/scratch"}}, []string{"no shell"}},
		"dash alone":     {gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/dash"}}, []string{"install bash"}},
		"entrypoint that stays": {gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/entrypoint-never"}},
			[]string{"did not run its command", `entrypoint: [""]`}},
		"entrypoint that is not there": {gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/busybox", Entrypoint: []string{"/nowhere"}}}, []string{"/nowhere"}},
		"service that never gets ready": {gitlab.JobSpec{Services: service(gitlab.Image{Name: "cleanroom/service-silent"})},
			[]string{"is not ready after 5s", "TCP port 9999", "please wait"}},
		"bad port": {gitlab.JobSpec{Services: service(gitlab.Image{Name: "cleanroom/service-silent",
			Variables: []gitlab.Variable{{Key: "HEALTHCHECK_TCP_PORT", Value: "many"}}})}, []string{"HEALTHCHECK_TCP_PORT"}},
	} {
		if !b.open(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			c.job.Script = true_
			r := s.run(c.job)
			r.is(t, job.Failed, "script_failure", 1)
			r.says(t, c.says...)
			r.hides(t, "the script ran")
			s.clean()
		})
	}
}

func TestEngineThatIsAwayIsTheRunnersTrouble(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: "[engine]\nhost = \"unix:///nowhere/docker.sock\"\n"})
	r := s.run(gitlab.JobSpec{Script: []string{"true"}})
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
	r.says(t, "docker.sock")
	// No cleanup could look: the rooms stay on the books until reap can.
	journals := func() int {
		found, _ := filepath.Glob(filepath.Join(s.runner.DataDir(), "leases", "*.jsonl"))
		return len(found)
	}
	if n := journals(); n != 3 {
		t.Errorf("%d rooms are on the books, the runner tried three times", n)
	}
	if out, err := s.tryCleanroom("reap"); err == nil {
		t.Errorf("reap without an engine says that all is well: %s", out)
	}
	t.Setenv("CLEANROOM_ENGINE_HOST", "unix:///var/run/docker.sock")
	if out := s.cleanroom("reap"); journals() > 0 {
		t.Errorf("reap left %d rooms on the books: %s", journals(), out)
	}
}

func TestImagesWithAnEntrypoint(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	for _, image := range []gitlab.Image{
		{Name: "cleanroom/entrypoint"}, {Name: "cleanroom/entrypoint-fork"},
		{Name: "cleanroom/entrypoint-never", Entrypoint: []string{""}},
		{Name: "cleanroom/fastapi", Entrypoint: []string{"/bin/sh", "-c"}},
		{Name: "cleanroom/fastapi", Entrypoint: []string{"/usr/bin/env", "FROM_ENTRYPOINT=yes"}},
	} {
		r := s.run(gitlab.JobSpec{Image: &image, Script: []string{"echo from entrypoint: ${FROM_ENTRYPOINT-nothing}"}, AfterScript: []string{"echo after: ${FROM_ENTRYPOINT-nothing}"}})
		r.is(t, job.Success, "", 0)
		if image.Entrypoint == nil || image.Entrypoint[0] == "/usr/bin/env" {
			r.says(t, "from entrypoint: yes", "after: yes")
		} else {
			r.says(t, "from entrypoint: nothing")
		}
	}
}

func TestImageWithoutBash(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	r := s.run(gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/busybox"}, Script: []string{`echo "ran in ${BASH_VERSION-sh}"`, "exit 5"}})
	r.is(t, job.Failed, "script_failure", 5)
	r.says(t, "ran in sh")
}

func TestUserOfTheImage(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	r := s.run(gitlab.JobSpec{Project: project, Image: &gitlab.Image{Name: "cleanroom/user"}, Script: []string{"whoami", "echo x > written", "stat -c %U .git items pyproject.toml | sort -u"},
		Artifacts: []gitlab.Artifact{{Name: "w", Paths: []string{"written"}, Type: "archive", Format: "zip"}}})
	r.is(t, job.Success, "", 0)
	r.says(t, "app\n")
	r = s.run(gitlab.JobSpec{Image: &gitlab.Image{Name: "cleanroom/fastapi", ExecutorOpts: gitlab.ExecutorOpts{Docker: &gitlab.DockerOpts{User: "1000:1000"}}}, Script: []string{"id -u"}})
	r.is(t, job.Success, "", 0)
	r.says(t, "1000")
}
