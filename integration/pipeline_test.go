package integration

import (
	"context"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

func TestSamplePipeline(t *testing.T) {
	b := newBox(t)
	for _, profile := range shuffled(chance(t), []string{"compatible", "hardened", "strict"}) {
		if !b.open(profile) {
			continue
		}
		t.Run(profile, func(t *testing.T) {
			s := install(t, rig.RunnerOptions{Concurrent: 2, Config: "profile = \"" + profile + "\"\n" + images + "[cache]\nenabled = true\n"})
			id, err := theRig.Pipeline(t.Context(), project, "main")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			p, err := theRig.WaitPipeline(ctx, id)
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range p.Jobs {
				r := s.wait(j.ID)
				r.is(t, job.Success, "", 0)
				if j.TraceError != "" {
					t.Errorf("job %s: %s", j.Name, j.TraceError)
				}
			}
			if len(p.Jobs) != 4 {
				t.Errorf("%d jobs, want lint, test, build, verify", len(p.Jobs))
			}
		})
	}
}

func TestTwoJobsOfOneProjectAtOnce(t *testing.T) {
	s := install(t, rig.RunnerOptions{Concurrent: 2})
	both := newGate(t)
	j := gitlab.JobSpec{Project: project, Script: []string{
		"echo $CI_JOB_ID > mine", "echo started", both.line(), "test $(cat mine) = $CI_JOB_ID", "ls /builds/*/*/mine | wc -l"}}
	a, b := s.submit(j), s.submit(j)
	s.until(a, "started")
	s.until(b, "started")
	both.open()
	ra, rb := s.wait(a), s.wait(b)
	ra.is(t, job.Success, "", 0)
	rb.is(t, job.Success, "", 0)
	if ra.HandedAt.After(rb.FinalAt) || rb.HandedAt.After(ra.FinalAt) {
		t.Error("the jobs did not run at once, so this test shows nothing")
	}
}

func TestArtifactsAndDotenv(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	made := s.run(gitlab.JobSpec{Name: "make", Project: project, Script: []string{"mkdir out", "echo brought > out/a.txt", "echo VERSION=7 > build.env"},
		Artifacts: []gitlab.Artifact{
			{Name: "out", Paths: []string{"out/"}, When: "always", Type: "archive", Format: "zip"},
			{Paths: []string{"build.env"}, When: "always", Type: "dotenv", Format: "gzip"},
		}})
	made.is(t, job.Success, "", 0)
	taken := s.run(gitlab.JobSpec{Name: "take", Project: project, Dependencies: []int64{made.ID}, Script: []string{"cat out/a.txt", "echo version $VERSION"}})
	taken.is(t, job.Success, "", 0)
	taken.says(t, "brought", "version 7")
}
