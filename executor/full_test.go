package executor

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// small is the job's executor in a program without Full.
func (j *job) small() *Executor {
	x := j.executor()
	x.Full = nil
	return x
}

// What an ordinary job needs, a program without Full does, and as one with it.
func TestWithoutFull(t *testing.T) {
	j := newJob(t, "19.3")
	x := j.small()
	if err := x.Ready("config", nil); err != nil {
		t.Error(err)
	}
	if err := errors.Join(x.Ready("prepare", nil), x.PrepareStage(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"get_sources", "build_script", "upload_artifacts_on_success"} {
		x = j.small()
		if err := errors.Join(x.Ready("run", []string{"s", stage}), x.RunStage(t.Context(), j.script(), stage)); err != nil {
			t.Errorf("%s: %v", stage, err)
		}
	}
	x = j.small()
	if err := errors.Join(x.Ready("cleanup", nil), x.CleanupStage(t.Context())); err != nil {
		t.Error(err)
	}
	if _, err := secret.Find(j.config.DataDir, testRoom, 0); err == nil {
		t.Error("the journal stays")
	}
	if full := newJob(t, "19.3"); full.spec().Profile != j.engine.made[0].Profile || len(j.engine.wiped) != 1 {
		t.Errorf("%+v, %d wiped", j.engine.made, len(j.engine.wiped))
	}
}

// What such a program cannot do it says before it has done anything.
func TestReadyToPrepare(t *testing.T) {
	begin := func(j *job, head secret.Head) {
		t.Helper()
		head.Deadline = time.Now().Add(time.Hour)
		journal, err := secret.Begin(j.config.DataDir, nil, head)
		if err == nil {
			err = journal.Keep()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const other = "cr-x-1-0123456789"
	gone := contract.Runner()
	gone.Start++
	for name, test := range map[string]struct {
		prepare func(*job, *Executor)
		full    bool
	}{
		"nothing":        {func(*job, *Executor) {}, false},
		"rules":          {func(_ *job, x *Executor) { x.Config.Policy.Rules = []config.Rule{{}} }, true},
		"rules' file":    {func(_ *job, x *Executor) { x.Config.Policy.File = "/x" }, true},
		"secrets":        {func(_ *job, x *Executor) { x.Call.Variables[SecretsVariable] = " KEY" }, true},
		"no secrets":     {func(_ *job, x *Executor) { x.Call.Variables[SecretsVariable] = " , " }, false},
		"identity":       {func(_ *job, x *Executor) { x.Call.Variables[IdentityVariable] = "production" }, true},
		"again":          {func(j *job, _ *Executor) { begin(j, secret.Head{Room: testRoom}) }, true},
		"another's":      {func(j *job, _ *Executor) { begin(j, secret.Head{Room: other, Runner: contract.Runner()}) }, false},
		"one to reap":    {func(j *job, _ *Executor) { begin(j, secret.Head{Room: other, Runner: gone}) }, true},
		"a foreign file": {func(j *job, _ *Executor) { begin(j, secret.Head{Room: "x"}) }, true},
		"one that nobody could end": {func(j *job, _ *Executor) {
			begin(j, secret.Head{Room: other, Runner: gone})
			if err := (Ending{Room: other}).keep(j.config.DataDir); err != nil {
				t.Fatal(err)
			}
		}, false},
		"a damaged one": {func(j *job, _ *Executor) {
			begin(j, secret.Head{Room: other})
			if err := os.WriteFile(filepath.Join(j.config.DataDir, "leases", other+".jsonl"), []byte("no head\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, true},
		"a log that knows nothing": {func(_ *job, x *Executor) { x.Audit = &Audit{} }, true},
		"a log that knows": {func(j *job, x *Executor) {
			x.Audit = &Audit{Log: &kept{}}
			if err := x.Audit.Notice(t.Context(), "prepare", x.Config, verdict.None{}); err != nil {
				t.Fatal(err)
			}
		}, false},
		"a log that knew": {func(j *job, x *Executor) {
			x.Audit = &Audit{Log: &kept{}}
			if err := x.Audit.Notice(t.Context(), "prepare", x.Config, verdict.None{}); err != nil {
				t.Fatal(err)
			}
			x.Config.Limits.Pids++
		}, true},
	} {
		j := newJob(t, "19.3")
		x := j.small()
		test.prepare(j, x)
		if err := x.Ready("prepare", nil); errors.Is(err, ErrFull) != test.full || err != nil && !test.full {
			t.Errorf("%s: %v", name, err)
		}
		x.Full = full
		if err := x.Ready("prepare", nil); err != nil {
			t.Errorf("%s, with Full: %v", name, err)
		}
	}
}

func TestReadyToRun(t *testing.T) {
	j := newJob(t, "19.3")
	j.config.Audit.Provenance = true
	j.response["artifacts"] = []map[string]any{{"paths": []string{"dist/"}, "when": "on_success"}}
	ready := func(stage string, audit *Audit) error {
		x := j.small()
		x.Audit = audit
		return x.Ready("run", []string{"s", stage})
	}
	for _, stage := range []string{"build_script", "upload_artifacts_on_success", "upload_artifacts_on_failure"} {
		if err := ready(stage, nil); err != nil {
			t.Errorf("%s: %v", stage, err)
		}
	}
	if err := errors.Join(ready("build_script", &Audit{}), ready("upload_artifacts_on_failure", &Audit{})); err != nil { // that stores none of them
		t.Error(err)
	}
	if err := ready("upload_artifacts_on_success", &Audit{}); !errors.Is(err, ErrFull) {
		t.Errorf("provenance: %v", err)
	}
	j.config.Audit.Provenance = false
	if err := ready("upload_artifacts_on_success", &Audit{}); err != nil {
		t.Errorf("no provenance: %v", err)
	}
	var key [32]byte
	if _, err := hex.Decode(key[:], []byte(testKey)); err != nil {
		t.Fatal(err)
	}
	sealed := secret.Sealed{Renewals: []secret.Renewal{{Secret: "S", Lease: secret.Lease{ID: "x"}}}}
	if err := sealed.Save(j.config.StateDir, testRoom, key); err != nil {
		t.Fatal(err)
	}
	if err := ready("build_script", nil); !errors.Is(err, ErrFull) {
		t.Errorf("a lease to renew: %v", err)
	}
	if err := ready("cleanup_file_variables", nil); err != nil {
		t.Errorf("a lease, and nothing that runs: %v", err)
	}
}

// A room whose leases it cannot revoke is left as it was.
func TestCleanupWithoutFull(t *testing.T) {
	j, ledger := withSecrets(t)
	j.spec()
	if err := j.small().Ready("cleanup", nil); err != nil {
		t.Error(err)
	}
	j.engine.evidence = sandbox.Evidence{Removed: []sandbox.Item{{Kind: "container", Name: "x"}}}
	if err := j.small().CleanupStage(t.Context()); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if len(j.engine.wiped) > 0 || leases(t, ledger) == 0 || len(endings(t, j)) > 0 {
		t.Errorf("%q wiped, %d leases", j.engine.wiped, leases(t, ledger))
	}
	if err := j.executor().CleanupStage(t.Context()); err != nil || leases(t, ledger) != 0 || len(endings(t, j)) != 1 {
		t.Errorf("%v, %d leases", err, leases(t, ledger))
	}
	x := j.small()
	x.Audit = &Audit{}
	if err := x.Ready("cleanup", nil); !errors.Is(err, ErrFull) {
		t.Errorf("with a log: %v", err)
	}
}

func endings(t *testing.T, j *job) []Ending {
	t.Helper()
	all, err := Endings(j.config.DataDir, testRoom)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return all
}
