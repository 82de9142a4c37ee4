package executor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/policy"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// kept is a log of records in memory.
type kept struct {
	mu   sync.Mutex
	all  []*record.Record
	text string
	err  error
}

func (k *kept) Append(text []byte) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return 0, k.err
	}
	r, err := record.Decode(text)
	if err != nil {
		return 0, err
	}
	k.all = append(k.all, r)
	k.text += string(text) + "\n"
	return int64(len(k.all)) - 1, nil
}

func (k *kept) only(t *testing.T, kind record.Kind) *record.Record {
	t.Helper()
	var found []*record.Record
	for _, r := range k.all {
		if r.Kind == kind {
			found = append(found, r)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d records of kind %s:\n%s", len(found), kind, k.text)
	}
	return found[0]
}

// An ending that fails gives the job's record, and the one that gets further
// the reap's; one that gets no further gives none.
func TestAuditEnd(t *testing.T) {
	dir, log := t.TempDir(), &kept{}
	a := &Audit{Log: log, Version: "1"}
	if err := dossier.Begin(dir, dossier.Head{Room: testRoom, Job: 4711, Project: "g/p", Began: time.Now()}); err != nil {
		t.Fatal(err)
	}
	given := record.Secret{Name: "deploy", Provider: "vault", Revocable: true, Issued: time.Now()}
	if err := dossier.Add(dir, testRoom, dossier.Line{Secrets: []record.Secret{given}, Ended: &record.Stage{Stage: "build_script", Container: "job", Result: "ok"}}, false); err != nil {
		t.Fatal(err)
	}
	lease := func(outcome secret.Outcome, err error) []secret.Ending {
		return []secret.Ending{{Entry: secret.Entry{Number: 1, Secret: "deploy", Provider: "vault", ID: "lease/1", Issued: time.Now()}, Outcome: outcome, Err: err}}
	}
	away := errors.New("vault is away")
	end := func(by string, ended Ended, err error) {
		t.Helper()
		if wrong := a.end(dir, roomEnd{room: testRoom, by: by, why: "x", began: time.Now(), ended: ended, err: err}); wrong != nil {
			t.Fatal(wrong)
		}
	}
	end("cleanup", Ended{Leases: lease(secret.Failed, away), Evidence: sandbox.Evidence{Removed: []sandbox.Item{{Kind: "volume", Name: "v"}}}}, away)
	end(byReap, Ended{Leases: lease(secret.Failed, away)}, away)
	end(byReap, Ended{Leases: lease(secret.Revoked, nil)}, nil)
	job, reap := log.all[0], log.all[1]
	if job.Job == nil || job.Job.Outcome != record.OK || job.Job.End.Complete || job.Job.Secrets[0].Outcome != "failed" || job.By.Command != "cleanup" {
		t.Errorf("%s", log.text)
	}
	if reap.Reap == nil || reap.Reap.Record != job.ID || reap.Reap.Secrets[0].Outcome != "revoked" || !reap.Reap.End.Complete || reap.Reap.Job != 4711 {
		t.Errorf("%s", log.text)
	}
	if rooms, err := dossier.Rooms(dir, time.Now().Add(time.Hour)); len(rooms) > 0 || err != nil {
		t.Errorf("left: %v, %v", rooms, err)
	}
	log.err = errors.New("disk full")
	if err := a.end(dir, roomEnd{room: testRoom, by: "cleanup", began: time.Now()}); !errors.Is(err, log.err) {
		t.Errorf("a log that takes nothing: %v", err)
	}
}

func TestRecordOutcome(t *testing.T) {
	exit := func(results ...string) (j record.Job) {
		for _, r := range results {
			stage, result, _ := strings.Cut(r, " ")
			j.Stages = append(j.Stages, record.Stage{Stage: stage, Result: result})
		}
		return j
	}
	refused := exit("prepare failed")
	refused.Refusals = []record.Refusal{{Stage: "prepare"}}
	for want, j := range map[string]record.Job{
		"ok ":                     exit("prepare ok", "build_script ok", "after_script failed"),
		"failed build_script":     exit("prepare ok", "build_script failed", "upload_artifacts_on_failure ok"),
		"canceled step_script":    exit("prepare ok", "step_script canceled"),
		"system ":                 exit("prepare ok"),
		"system build_script":     exit("prepare ok", "build_script unknown"),
		"refused prepare":         refused,
		"failed download_objects": exit("prepare ok", "download_objects failed"),
	} {
		if outcome, in := recordOutcome(j); string(outcome)+" "+in != want {
			t.Errorf("%s %s, want %s", outcome, in, want)
		}
	}
}

// What the author wrote has no masked value in it; what the server wrote is
// whole, so that no author can hide who the job is.
func TestUnmasked(t *testing.T) {
	j := newJob(t, "19.3")
	x := j.executor()
	masked := x.Call.Masked()
	if len(masked) == 0 {
		t.Fatal("the job has no masked variable")
	}
	value := masked[0].Value
	d := recordDecision(x.Call, policy.Image, "registry/"+value+"/x", policy.Decision{Reason: "image " + value + " is not listed"})
	no, ok := recordRefusal(x.Call, "prepare", fmt.Errorf("%w: %s\nand more", ErrDenied, value))
	if !ok || strings.Contains(d.Name+d.Reason+no.Says, value) || !strings.Contains(no.Says, "[masked]") || strings.Contains(no.Says, "more") {
		t.Errorf("%+v, %+v", d, no)
	}
	if _, ok := recordRefusal(x.Call, "build_script", stageError{1}); ok {
		t.Error("a script that failed is no refusal")
	}
}

func TestNotice(t *testing.T) {
	log := &kept{}
	c := config.Default()
	c.DataDir = t.TempDir()
	a := &Audit{Log: log, Queue: queue.Of(c.DataDir), Version: "1"}
	c.Secrets = []config.Secret{{Name: "a", Provider: "p"}, {Name: "b", Provider: "p"}}
	notice := func() []*record.Record {
		t.Helper()
		rules, err := policy.FromConfig(c)
		if err != nil {
			t.Fatal(err)
		}
		log.all = nil
		if err := a.Notice(t.Context(), "prepare", c, rules); err != nil {
			t.Fatal(err)
		}
		return log.all
	}
	rule := func(name, secret string) config.Rule {
		return config.Rule{Name: name, When: "ref_protected", Secrets: []string{secret}}
	}
	c.Policy.Rules = []config.Rule{rule("one", "a"), rule("two", "a"), rule("three", "a")}
	if all := notice(); len(all) != 2 || all[0].Config.Before != "" || len(all[1].Policy.Added) != 3 {
		t.Errorf("the first: %s", log.text)
	}
	if all := notice(); len(all) != 0 {
		t.Errorf("nothing changed: %s", log.text)
	}
	c.Policy.Rules = []config.Rule{rule("three", "a"), rule("two", "b"), rule("four", "a")}
	all := notice()
	if len(all) != 1 {
		t.Fatalf("rules: %s", log.text)
	}
	p := all[0].Policy
	if fmt.Sprint(p.Added, p.Removed, p.Changed, p.Moved) != "[four] [one] [two] true" || p.Before == "" || p.Before == p.After {
		t.Errorf("%+v", p)
	}
	c.Cache.Enabled, c.Limits.Pids = !c.Cache.Enabled, 17
	if all := notice(); len(all) != 1 || fmt.Sprint(all[0].Config.Sections) != "[cache limits]" {
		t.Errorf("configuration: %s", log.text)
	}
	// Who knows all else of a configuration could find a short password by its hash.
	c.Images.AuthConfig = `{"auths":{"r":{"auth":"dTpodW50ZXIyMg=="}}}`
	c.Network.HTTPProxy, c.Network.HTTPSProxy = "", ""
	if all := notice(); len(all) != 0 {
		t.Errorf("a password: %s", log.text)
	}
	c.Network.HTTPProxy = "http://proxy:3128"
	if all := notice(); len(all) != 1 {
		t.Errorf("a proxy: %s", log.text)
	}
	c.Network.HTTPProxy = "http://user:hunter22@proxy:3128"
	if all := notice(); len(all) != 0 {
		t.Errorf("a proxy's password: %s", log.text)
	}
	if err := os.WriteFile(filepath.Join(c.DataDir, "audit", "seen.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := notice(); len(all) != 2 {
		t.Errorf("what was known is lost: %s", log.text)
	}
	var none *Audit
	if err := none.Notice(t.Context(), "prepare", c, nil); err != nil {
		t.Error(err)
	}
}

// asked is a log that says what is in it.
type asked struct{ *kept }

func (a asked) Size() (int64, error) { return int64(len(a.all)), nil }

func (a asked) Find(id string, from int64) (int64, bool, error) {
	i := slices.IndexFunc(a.all[from:], func(r *record.Record) bool { return r.ID == id })
	return from + int64(i), i >= 0, nil
}

// A change of the configuration is told once, by whoever comes next, when
// neither log nor queue could be written, or when he who saw it was killed.
func TestNoticeIsCutShort(t *testing.T) {
	log := asked{&kept{}}
	c := config.Default()
	c.DataDir = t.TempDir()
	a := &Audit{Log: log, Queue: queue.Of(c.DataDir), Version: "1", Report: logrus.NewEntry(logrus.New())}
	rules, err := policy.FromConfig(c)
	if err != nil {
		t.Fatal(err)
	}
	notice := func() error { return a.Notice(t.Context(), "prepare", c, rules) }
	if err := notice(); err != nil {
		t.Fatal(err)
	}
	known := len(log.all)
	c.Limits.Pids = 17
	log.err = errors.New("no space")
	if err := os.RemoveAll(a.Queue.Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.Queue.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := notice(); !errors.Is(err, log.err) || strings.Contains(err.Error(), "\n") {
		t.Errorf("nothing can be written: %v", err)
	}
	seen := filepath.Join(c.DataDir, "audit", "seen.json")
	untold, err := os.ReadFile(seen)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(a.Queue.Dir)
	c.Limits.Pids = 18
	if err := notice(); err != nil { // the log takes nothing, but the queue does
		t.Error(err)
	}
	log.err = nil
	if err := errors.Join(a.Drain(t.Context()), notice()); err != nil {
		t.Error(err)
	}
	told := log.all[known:]
	if len(told) != 2 || told[0].Config == nil || told[1].Config == nil || told[0].Config.After != told[1].Config.Before {
		t.Fatalf("%s", log.text)
	}
	// As if he who told the first of them had been killed then.
	if err := os.WriteFile(seen, untold, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Limits.Pids = 17
	if err := notice(); err != nil || len(log.all) != known+2 {
		t.Errorf("%v: %s", err, log.text)
	}
}

// Every text that may hold a password is left out of what is hashed, also when
// somebody adds one to the configuration.
func TestWithoutPasswords(t *testing.T) {
	c := config.Default()
	const password = "hunter22"
	c.Images.AuthConfig = password
	c.Engine.Host = "tcp://u:" + password + "@e"
	c.Providers = []config.Provider{{Name: "x", Exec: config.Exec{Command: []string{"/bin/x", password}, Revoke: []string{"/bin/y", password}, Env: []string{"A=" + password}},
		Vault: config.Vault{Address: "https://u:" + password + "@v"}}}
	c.Secrets = []config.Secret{{Name: "s", Parameters: []string{"key=" + password}, Deliver: []config.Deliver{{Value: "postgres://u:" + password + "@h/{{.db}}"}}}}
	clean := withoutPasswords(c)
	if text := fmt.Sprintf("%+v", clean); strings.Contains(text, password) || !strings.Contains(text, "{{.db}}") || !strings.Contains(text, "/bin/x") {
		t.Error(text)
	}
	if !strings.Contains(c.Secrets[0].Deliver[0].Value, password) || c.Providers[0].Exec.Env == nil {
		t.Error("the configuration itself was changed")
	}
}
