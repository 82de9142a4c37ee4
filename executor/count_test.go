package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/executor/metrics"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// counting is a job whose driver counts.
func counting(t *testing.T) (j *job, has func(lines ...string)) {
	t.Helper()
	j, _ = withSecrets(t)
	j.config.Metrics.File = filepath.Join(t.TempDir(), "cleanroom.prom")
	return j, func(lines ...string) {
		t.Helper()
		text, err := os.ReadFile(j.config.Metrics.File)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range lines {
			if !strings.Contains(string(text), "\n"+want+"\n") {
				name, _, _ := strings.Cut(want, " ")
				for line := range strings.Lines(string(text)) {
					if strings.HasPrefix(line, name+" ") {
						t.Errorf("want %s, it is %s", want, line)
					}
				}
			}
		}
	}
}

// run runs a stage that ends so.
func (j *job) run(ctx context.Context, stage string, code int) error {
	j.t.Helper()
	script := filepath.Join(j.t.TempDir(), "script")
	if err := os.WriteFile(script, nil, 0o600); err != nil {
		j.t.Fatal(err)
	}
	j.engine.result = sandbox.Result{ExitCode: code, Canceled: ctx.Err() != nil}
	return j.executor().RunStage(ctx, script, stage)
}

func (j *job) cleanup() {
	j.t.Helper()
	if err := j.executor().CleanupStage(j.t.Context()); err != nil {
		j.t.Fatal(err)
	}
}

// A whole job, as metrics show it.
func TestCounts(t *testing.T) {
	j, has := counting(t)
	j.spec()
	has("cleanroom_prepare_seconds_count 1", `cleanroom_jobs_total{result="ok"} 0`)
	j.engine.prints = canary + "-exec and " + canary + "-exec\n"
	j.engine.during = func(s sandbox.Stage) {
		if s.Store != nil {
			_ = s.Store.Check(t.Context(), heap{"a": canary + "-exec"})
		}
	}
	for _, stage := range []string{"get_sources", "build_script", "after_script"} {
		if err := j.run(t.Context(), stage, 0); err != nil {
			t.Fatal(err)
		}
	}
	has(`cleanroom_stage_seconds_count{container="helper"} 1`, `cleanroom_stage_seconds_count{container="job"} 2`, "cleanroom_redactions_total 6")
	j.engine.err = ErrFound // as the guard, called by a real engine, has it
	if err := j.run(t.Context(), "upload_artifacts_on_success", 0); !errors.Is(err, ErrFound) {
		t.Fatal(err)
	}
	j.engine.err = nil
	has(`cleanroom_guard_findings_total{action="refused"} 1`, `cleanroom_refusals_total{reason="guard"} 1`)
	j.cleanup()
	j.cleanup() // it is counted once
	has(`cleanroom_jobs_total{result="ok"} 0`, `cleanroom_jobs_total{result="failed"} 1`, "cleanroom_cleanup_seconds_count 1", "cleanroom_rooms_reaped_total 0",
		`cleanroom_leases_total{outcome="revoked"} 2`, `cleanroom_leases_total{outcome="failed"} 0`, `cleanroom_refusals_total{reason="policy"} 0`)
	if found, _ := os.ReadDir(notesDir(j.config.StateDir)); len(found) > 0 {
		t.Errorf("left: %v", found)
	}
	unseen(t, j)
}

// The job's result, from what its stages did.
func TestResult(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	type stage struct {
		name string
		code int
	}
	const canceled, lost = -1, -2
	for _, test := range []struct {
		want   string
		stages []stage
	}{
		{metrics.OK, []stage{{"get_sources", 0}, {"build_script", 0}, {"after_script", 0}, {"upload_artifacts_on_success", 0}}},
		{metrics.OK, []stage{{"step_a", 0}, {"step_b", 0}, {"after_script", 1}}},
		{metrics.OK, []stage{{"get_sources", 1}, {"clear_worktree", 0}, {"get_sources", 0}, {"build_script", 0}}},
		{metrics.Failed, []stage{{"get_sources", 0}, {"build_script", 1}, {"after_script", 0}, {"archive_cache_on_failure", 0}}},
		{metrics.Failed, []stage{{"step_a", 1}, {"step_b", 0}}},
		{metrics.Failed, []stage{{"get_sources", 1}, {"get_sources", 1}}},
		{metrics.Failed, []stage{{"build_script", 0}, {"upload_artifacts_on_success", 1}, {"cleanup_file_variables", 0}}},
		{metrics.Canceled, []stage{{"build_script", canceled}, {"after_script", 0}}},
		{metrics.Canceled, []stage{{"get_sources", canceled}}},
		{metrics.System, []stage{{"build_script", lost}}},
		{metrics.System, []stage{{"get_sources", 0}}},
		{metrics.System, []stage{{"get_sources", 1}, {"get_sources", 0}}},
		{metrics.System, nil},
	} {
		j, has := counting(t)
		j.spec()
		for _, s := range test.stages {
			ctx, code := t.Context(), s.code
			switch code {
			case canceled:
				ctx, code = gone, 143
			case lost:
				j.engine.err = errors.New("the engine is away")
			}
			_ = j.run(ctx, s.name, code)
			j.engine.err = nil
		}
		j.cleanup()
		for _, result := range []string{metrics.OK, metrics.Failed, metrics.Canceled, metrics.System} {
			n := 0
			if result == test.want {
				n = 1
			}
			has(fmt.Sprintf("cleanroom_jobs_total{result=%q} %d", result, n))
		}
		if t.Failed() {
			t.Fatalf("%v", test)
		}
	}
}

func TestRefusals(t *testing.T) {
	j, has := counting(t)
	j.variables[SecretsVariable] = "NOBODYS"
	j.refused(55, "NOBODYS")
	j.cleanup()
	has(`cleanroom_refusals_total{reason="policy"} 1`, `cleanroom_jobs_total{result="failed"} 1`, "cleanroom_prepare_seconds_count 0")
	for want, errs := range map[string][]error{
		"":               {nil, errors.New("x"), sandbox.ErrUser, stageError{1}},
		metrics.Identity: {identity.ErrToken, identity.ErrDisagree},
		metrics.Secret:   {secret.ErrRefused},
		metrics.Policy:   {ErrDenied},
		metrics.Request:  {contract.ErrService},
		metrics.Guard:    {sandbox.ErrChanged, ErrFound},
	} {
		for _, err := range errs {
			if got := refusal(err); got != want {
				t.Errorf("%v: %q, want %q", err, got, want)
			}
		}
	}
	for _, o := range []secret.Outcome{secret.Revoked, secret.Expires, secret.Failed} {
		book(j.config, j.executor().Log).Count(leaseChanges([]secret.Ending{{Outcome: o}})...)
		has(fmt.Sprintf("cleanroom_leases_total{outcome=%q} 1", o))
	}
}

// Rooms that reap ends, with and without the state folder, and jobs of which
// only a note is left.
func TestReapCounts(t *testing.T) {
	j, has := counting(t)
	j.spec()
	if err := j.run(t.Context(), "build_script", 0); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r := &Reaper{Config: j.config, Engine: j.engine, Log: j.executor().Log, Out: &out, Full: full}
	over := func(h *secret.Head) { h.Runner = contract.Runner(); h.Runner.Start++ }
	aged(t, j, over)
	if err := r.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	has("cleanroom_rooms_reaped_total 1", `cleanroom_jobs_total{result="ok"} 1`, "cleanroom_cleanup_seconds_count 1")
	j.engine.made = nil
	j.spec()
	aged(t, j, over)
	if err := os.RemoveAll(j.config.StateDir); err != nil { // the machine was started anew
		t.Fatal(err)
	}
	if err := r.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	has("cleanroom_rooms_reaped_total 2", `cleanroom_jobs_total{result="system"} 1`)

	j.variables[SecretsVariable] = "NOBODYS"
	j.engine.made = nil
	j.refused(55, "NOBODYS")
	if err := r.Reap(t.Context()); err != nil { // its cleanup may still come
		t.Fatal(err)
	}
	has(`cleanroom_jobs_total{result="failed"} 0`)
	old := time.Now().Add(-noteTime - time.Second)
	if err := os.Chtimes(notePath(j.config.StateDir, testRoom), old, old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Reap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	has(`cleanroom_jobs_total{result="failed"} 1`, "cleanroom_rooms_reaped_total 2")
}

// Metrics that cannot be written fail no job.
func TestMetricsFailNoJob(t *testing.T) {
	j, _ := counting(t)
	j.config.Metrics.File = "/nowhere/cleanroom.prom"
	j.spec()
	if err := j.run(t.Context(), "build_script", 0); err != nil {
		t.Error(err)
	}
	j.cleanup()
	if n := strings.Count(j.log.String(), "level=warning msg=\"metrics: "); n != 3 {
		t.Errorf("%d warnings:\n%s", n, &j.log)
	}
}
