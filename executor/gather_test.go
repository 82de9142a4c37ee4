package executor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/match"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/sandbox"
)

// audited is the job's executor, with a log for records.
func (j *job) audited(log *kept) *Executor {
	x := j.executor()
	x.Audit = &Audit{Log: log, Queue: queue.Of(j.config.DataDir), Version: "1.2.3", Report: x.Log}
	return x
}

// script is a stage's.
func (j *job) script() string {
	j.t.Helper()
	script := filepath.Join(j.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("true"), 0o600); err != nil {
		j.t.Fatal(err)
	}
	return script
}

// TestJobRecord: prepare, stages and cleanup, each a process of its own, make
// one record, which has all of it and no value.
func TestJobRecord(t *testing.T) {
	j, _ := withSecrets(t)
	log := &kept{}
	if err := j.audited(log).PrepareStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	j.engine.prints = "the secret is " + canary + "-exec\n"
	var printed []string
	says := func(text string) { fmt.Fprintf(&j.out, "\x1b[0K\x1b[36;1m%s\x1b[0;m\x1b[0;m\n", text) } // as the runner
	for i, stage := range []string{"get_sources", "build_script"} {
		says([]string{"Getting source from Git repository", `Executing "step_script" stage of the job script`}[i])
		before := j.out.Len()
		if err := j.audited(log).RunStage(t.Context(), j.script(), stage); err != nil {
			t.Fatal(err)
		}
		printed = append(printed, j.out.String()[before:])
	}
	says("Running after_script")
	j.engine.result = sandbox.Result{ExitCode: 3, OOM: true}
	var failed stageError
	if err := j.audited(log).RunStage(t.Context(), j.script(), "after_script"); !errors.As(err, &failed) {
		t.Fatal(err)
	}
	says("Cleaning up project directory and file based variables")
	if err := j.audited(log).RunStage(t.Context(), j.script(), "cleanup_file_variables"); err != nil {
		t.Fatal(err)
	}
	j.engine.evidence = sandbox.Evidence{Removed: []sandbox.Item{{Kind: "container", Name: "x"}}}
	if err := j.audited(log).CleanupStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(log.text, canary) {
		t.Errorf("a value is in the record:\n%s", log.text)
	}
	r := log.only(t, record.OfJob)
	job := r.Job
	if job.Outcome != record.OK || job.Room != testRoom || job.Job != 4711 || job.Project != "garden/shed" || job.Profile != "hardened" || len(job.Facts) < 8 || len(job.Policy) != 64 || len(job.Gaps) != 0 || r.By.Command != "cleanup" {
		t.Errorf("%s", log.text)
	}
	var stages []string
	for _, s := range job.Stages {
		stages = append(stages, s.Stage+" "+s.Container+" "+s.Result)
	}
	if !slices.Equal(stages, []string{"prepare  ok", "get_sources helper ok", "build_script job ok", "after_script job failed", "cleanup_file_variables helper ok"}) {
		t.Errorf("stages %q", stages)
	}
	if s := job.Stages[3]; s.Exit == nil || *s.Exit != 3 || !s.OutOfMemory || len(s.Redacted) != 1 || s.Redacted[0].Name != "DATABASE_URL" {
		t.Errorf("%+v", s)
	}
	if s := job.Stages[4]; s.Exit != nil || s.Output.Bytes != 0 {
		t.Errorf("no script was run: %+v", s)
	}
	for i, text := range printed {
		if out := job.Stages[i+1].Output; out.Bytes != int64(len(text)) {
			t.Errorf("%d bytes, want those of %q", out.Bytes, text)
		}
	}
	secrets := map[string]record.Secret{}
	for _, s := range job.Secrets {
		secrets[s.Name] = s
	}
	if s := secrets["DATABASE_URL"]; s.Outcome != "revoked" || s.Rule != "shed" || len(s.Leases) == 0 || s.Issued.IsZero() || s.Leases[0].Ended.Before(s.Issued) {
		t.Errorf("%+v", s)
	}
	if s := secrets["API_KEY"]; s.Outcome != "standing" || s.Provider != "folder" {
		t.Errorf("%+v", s)
	}
	if e := job.End; !e.Complete || e.Why != "the job is over" || !slices.Contains(e.Removed, record.Item{Kind: "container", Name: "x"}) {
		t.Errorf("%+v", e)
	}
	if m, err := match.Match(j.out.Bytes(), job.Stages); err != nil || !m.Holds() {
		t.Errorf("the log of the job: %+v, %v\n%s", m, err, &j.out)
	}
	log.only(t, record.OfConfig)
	log.only(t, record.OfPolicy)
	j.engine.evidence = sandbox.Evidence{}
	if err := j.audited(log).CleanupStage(t.Context()); err != nil { // the runner may call it again
		t.Fatal(err)
	}
	log.only(t, record.OfJob)
}

// TestRefusedRecord: a job that is refused has a record, too.
func TestRefusedRecord(t *testing.T) {
	j, _ := withSecrets(t)
	j.variables[SecretsVariable] = "API_KEY, NO_SUCH"
	log := &kept{}
	if err := j.audited(log).PrepareStage(t.Context()); !errors.Is(err, ErrDenied) {
		t.Fatal(err)
	}
	if err := j.audited(log).CleanupStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	job := log.only(t, record.OfJob).Job
	if m, err := match.Match(j.out.Bytes(), job.Stages); err != nil || !m.Holds() || !strings.HasPrefix(j.out.String(), "cleanroom: denied: ") || job.Stages[0].Output.Bytes != int64(j.out.Len()) {
		t.Errorf("the log of the job: %+v, %v\n%s", m, err, &j.out)
	}
	if job.Outcome != record.Refused || job.Stage != "prepare" || len(job.Refusals) != 1 || job.Refusals[0].Reason != "policy" || !strings.Contains(job.Refusals[0].Says, "NO_SUCH") || len(job.Secrets) != 0 {
		t.Errorf("%s", log.text)
	}

	// Whose cleanup never came, reap finds.
	if err := j.audited(log).PrepareStage(t.Context()); !errors.Is(err, ErrDenied) {
		t.Fatal(err)
	}
	var out bytes.Buffer
	x := j.audited(log)
	r := &Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: &out, Audit: x.Audit, Full: full}
	if err := r.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rooms, _ := dossier.Rooms(j.config.DataDir, time.Now().Add(time.Hour)); len(rooms) != 1 {
		t.Errorf("it may just have begun: %q", rooms)
	}
	old := time.Now().Add(-2 * noteTime)
	if err := os.Chtimes(filepath.Join(j.config.DataDir, "audit", "open", testRoom+".jsonl"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := r.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if rooms, _ := dossier.Rooms(j.config.DataDir, time.Now().Add(time.Hour)); len(rooms) != 0 || log.all[len(log.all)-1].By.Command != byReap {
		t.Errorf("%q\n%s", rooms, log.text)
	}
}

// TestFailedRecord: what keeps a stage from being run at all, and what it
// fails of, stand in the job's log without a value, and the record has it.
func TestFailedRecord(t *testing.T) {
	j, _ := withSecrets(t)
	log := &kept{}
	if err := j.audited(log).PrepareStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := j.out.Len()
	for range 2 { // the runner tries some of its own again
		if err := j.audited(log).Failed(t.Context(), "get_sources", errors.New("bad configuration:\nmade-up-masked-value")); !Told(err) || ofAuthor(err) {
			t.Error(err)
		}
	}
	j.engine.err = errors.New("the engine is away")
	if err := j.audited(log).RunStage(t.Context(), j.script(), "build_script"); !Told(err) || !errors.Is(err, j.engine.err) {
		t.Error(err)
	}
	j.engine.err = nil
	if err := j.audited(log).CleanupStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	told := j.out.String()[before:]
	if strings.Count(told, "cleanroom: bad configuration:\n") != 2 || !strings.HasSuffix(told, "cleanroom: the engine is away\n") || strings.Contains(told, "made-up-masked-value") {
		t.Errorf("%q", told)
	}
	size := int64(0)
	for _, s := range log.only(t, record.OfJob).Job.Stages[1:] {
		size += s.Output.Bytes
		if s.Result != "system" {
			t.Errorf("%+v", s)
		}
	}
	if size != int64(len(told)) {
		t.Errorf("%d bytes are in the record, of %q", size, told)
	}
}

// TestLogAway: a room whose record cannot be kept stays on the books.
func TestLogAway(t *testing.T) {
	j, ledger := withSecrets(t)
	log := &kept{}
	if err := j.audited(log).PrepareStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	log.err = errors.New("the log is away")
	if err := j.audited(log).CleanupStage(t.Context()); !errors.Is(err, log.err) {
		t.Fatal(err)
	}
	if n := leases(t, ledger); n != 0 {
		t.Errorf("%d leases: the log keeps nobody from revoking", n)
	}
	log.err = nil
	x := j.audited(log)
	r := &Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: &bytes.Buffer{}, Audit: x.Audit, Full: full}
	if err := r.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if job := log.only(t, record.OfJob); job.By.Command != byReap || job.Job.Secrets[0].Outcome == "" {
		t.Errorf("%s", log.text)
	}
}

// TestNoAudit: nothing is kept where nobody asked for it.
func TestNoAudit(t *testing.T) {
	j, _ := withSecrets(t)
	if err := j.executor().PrepareStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := j.executor().CleanupStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dossier.Has(j.config.DataDir, testRoom) {
		t.Error("a dossier")
	}
}

// TestPhrases: what the runner masks in our own words is masked before we
// measure them.
func TestPhrases(t *testing.T) {
	j := newJob(t, "19.3")
	j.config.Secrets = []config.Secret{{Name: "deploy-key"}}
	j.response["variables"] = append(j.response["variables"].([]any),
		map[string]any{"key": "A", "value": "cleanroom", "masked": true}, map[string]any{"key": "B", "value": "xyz", "masked": true},
		map[string]any{"key": "C", "value": "deploy-key", "masked": true}, map[string]any{"key": "D", "value": "hunter22", "masked": true})
	for name, value := range map[string]string{"A": "cleanroom", "B": "xyz", "C": "deploy-key", "D": "hunter22"} {
		j.variables[name] = value
	}
	got := j.executor().phrases()
	slices.Sort(got)
	if !slices.Equal(got, []string{"cleanroom", "deploy-key", "xyz"}) {
		t.Errorf("%q", got)
	}
}
