package integration

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// audited is a runner with an audit log, and the log's public key.
func audited(t *testing.T, config string) (s *site, key string) {
	t.Helper()
	s = install(t, rig.RunnerOptions{Config: config})
	out, err := exec.Command(filepath.Join(binDir, "cleanroom"), "--config", s.runner.CleanroomConfig(), "audit", "init", "--origin", "ci.test/cleanroom").Output()
	if err != nil {
		t.Fatal(err)
	}
	return s, strings.TrimSpace(string(out))
}

// refused runs a command that must fail, and say why.
func (s *site) refused(says string, args ...string) {
	s.t.Helper()
	if out, err := s.tryCleanroom(args...); err == nil || !strings.Contains(out, says) {
		s.t.Errorf("cleanroom %s: %v, without %q: %s", args, err, says, out)
	}
}

// has fails the test for each text that is not there.
func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

// TestAudit follows what an auditor does: the record of a job that had a
// secret, of one that failed and one that was refused; the proof of one on
// another machine; the logs of jobs held against the log.
func TestAudit(t *testing.T) {
	const canary = "canary-8f1e6b0d-audit"
	s, key := audited(t, storeConfig)
	value := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(value, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cleanroom("secret", "set", "jwt-key", "--from-file", value)
	asks := asking("JWT_PUBLIC_KEY")
	good := s.run(gitlab.JobSpec{Project: project, Variables: asks, Script: []string{"echo begin", "echo $JWT_PUBLIC_KEY", "mkdir out; echo made >out/a"},
		Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"out/"}}}})
	good.is(t, job.Success, "", 0)
	good.says(t, "Audit log: 4 records", "-----BEGIN CLEANROOM CHECKPOINT-----", "ci.test/cleanroom")
	bad := s.run(gitlab.JobSpec{Project: project, Script: []string{"echo to fail; exit 3"}})
	bad.is(t, job.Failed, "script_failure", 3)
	denied := s.run(gitlab.JobSpec{Project: project, Variables: asking("NO_SUCH"), Script: []string{"true"}})
	denied.is(t, job.Failed, "script_failure", 1)
	denied.says(t, "-----BEGIN CLEANROOM CHECKPOINT-----")

	logs := t.TempDir()
	for _, r := range []result{good, bad, denied} {
		if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("%d.log", r.ID)), []byte(r.Trace), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := func(r result) string { return filepath.Join(logs, fmt.Sprintf("%d.log", r.ID)) }
	id := fmt.Sprint(good.ID)

	has(t, s.cleanroom("audit", "list"), "shop/items", "refused", "failed", "jwt-key")
	list := s.cleanroom("audit", "list", "--secret", "JWT_PUBLIC_KEY", "--kind", "job")
	if has(t, list, id); strings.Contains(list, fmt.Sprint(bad.ID)) {
		t.Error(list)
	}
	has(t, s.cleanroom("audit", "show", id), "shop/items", "JWT_PUBLIC_KEY", "rule items", "build_script", "of the log ci.test/cleanroom")
	has(t, s.cleanroom("audit", "show", fmt.Sprint(denied.ID)), "NO_SUCH", "refused")
	s.cleanroom("audit", "match", "--job", id, "--log", log(good))
	s.cleanroom("audit", "match", "--job", fmt.Sprint(bad.ID), "--log", log(bad))
	forged := filepath.Join(t.TempDir(), "forged.log")
	if err := os.WriteFile(forged, bytes.Replace([]byte(good.Trace), []byte("begin\n"), []byte("began\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	s.refused("CHANGED", "audit", "match", "--job", id, "--log", forged)
	has(t, s.cleanroom("audit", "verify", "--key", key, "--job-logs", logs), "is genuine", "3 read, 3 checkpoints in them agree") // that of the refused one, too
	_, other, err := note.GenerateKey(rand.Reader, "ci.test/cleanroom")
	must(t, err)
	s.refused("but the one that is known is", "audit", "verify", "--key", other)
	s.refused("--key is no public key", "audit", "verify", "--key", strings.Replace(key, "ci.test", "ci.best", 1))

	bundle := filepath.Join(t.TempDir(), "job.proof")
	s.cleanroom("audit", "prove", id, "--out", bundle)
	elsewhere := func(args ...string) (string, error) {
		c := exec.Command(filepath.Join(binDir, "cleanroom"), append([]string{"audit", "verify", "--bundle"}, args...)...)
		c.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := elsewhere(bundle, "--key", key); err != nil || !strings.Contains(out, "JWT_PUBLIC_KEY") {
		t.Errorf("%v: %s", err, out)
	}
	text, err := os.ReadFile(bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(bundle, bytes.Replace(text, []byte(`\"outcome\":\"ok\"`), []byte(`\"outcome\":\"no\"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := elsewhere(bundle, "--key", key); err == nil {
		t.Errorf("a forged record: %s", out)
	}

	page := filepath.Join(t.TempDir(), "report.html")
	for seal, args := range map[string][]string{"Own keys only": nil, "Witnessed": {"--key", key, "--job-logs", logs}} {
		s.cleanroom(append([]string{"audit", "report", "--out", page}, args...)...)
		if html, err := os.ReadFile(page); err != nil {
			t.Error(err)
		} else {
			has(t, string(html), "<title>", "JWT_PUBLIC_KEY", "shop/items", ">"+seal+"</p>")
		}
	}
	s.noSecretBelow(filepath.Join(s.runner.DataDir(), "audit"), canary)
	s.noSecretBelow(filepath.Dir(page), canary)

	// Whoever has the host, and the key, writes another history.
	audit := filepath.Join(s.runner.DataDir(), "audit")
	if err := os.Rename(filepath.Join(audit, "log"), filepath.Join(audit, "true-log")); err != nil {
		t.Fatal(err)
	}
	s.cleanroom("audit", "init", "--origin", "ci.test/cleanroom")
	s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}}).is(t, job.Success, "", 0)
	s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}}).is(t, job.Success, "", 0)
	has(t, s.cleanroom("audit", "verify", "--key", key), "is genuine") // by itself it is
	s.refused("WRONG: ", "audit", "verify", "--key", key, "--job-logs", logs)
	must(t, os.RemoveAll(filepath.Join(audit, "log")))
	must(t, os.Remove(filepath.Join(audit, "key")))
	s.cleanroom("audit", "init", "--origin", "ci.test/cleanroom") // with another key
	s.refused("none of the log's keys signed", "audit", "verify", "--job-logs", logs)
}

// TestAuditForgedBeforePrepare: the runner shows what is wrong with a job's
// variables, line by line, before prepare prints the checkpoint.
func TestAuditForgedBeforePrepare(t *testing.T) {
	s, key := audited(t, storeConfig)
	private, _, err := note.GenerateKey(rand.Reader, "ci.test/cleanroom")
	must(t, err)
	signer, err := note.NewSigner(private)
	must(t, err)
	var blocks strings.Builder
	for size := range 12 {
		msg, err := note.Sign(&note.Note{Text: fmt.Sprintf("ci.test/cleanroom\n%d\n%s\n", size+1, tlog.RecordHash(nil))}, signer)
		must(t, err)
		fmt.Fprintf(&blocks, "\n-----BEGIN CLEANROOM CHECKPOINT-----\n%s-----END CLEANROOM CHECKPOINT-----", msg)
	}
	r := s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}, Variables: []gitlab.Variable{{Key: "FF_USE_FASTZIP", Value: "x" + blocks.String(), Public: true, Raw: true}}})
	r.is(t, job.Success, "", 0)
	r.says(t, "could not parse feature flag", "-----BEGIN CLEANROOM CHECKPOINT-----\nci.test/cleanroom\n12\n")
	logs := t.TempDir()
	put(t, filepath.Join(logs, "forged.log"), []byte(r.Trace))
	has(t, s.cleanroom("audit", "verify", "--key", key, "--job-logs", logs), "is genuine", "1 checkpoints in them agree", "12 checkpoints in job logs are not of this log")
}

// TestAuditKeyIsRotated: who has the first public key verifies what the second
// signed.
func TestAuditKeyIsRotated(t *testing.T) {
	s, key := audited(t, storeConfig)
	s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}}).is(t, job.Success, "", 0)
	logs, before := t.TempDir(), filepath.Join(t.TempDir(), "log")
	must(t, os.CopyFS(before, os.DirFS(filepath.Join(s.runner.DataDir(), "audit", "log"))))
	s.cleanroom("audit", "rotate-key")
	s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}}).is(t, job.Success, "", 0)
	after := s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}})
	after.is(t, job.Success, "", 0)
	has(t, s.cleanroom("audit", "verify", "--key", key), "is genuine")
	bundle := filepath.Join(t.TempDir(), "job.proof")
	s.cleanroom("audit", "prove", fmt.Sprint(after.ID), "--out", bundle)
	s.cleanroom("audit", "verify", "--bundle", bundle, "--key", key)
	put(t, filepath.Join(logs, "after.log"), []byte(after.Trace))
	has(t, s.cleanroom("audit", "verify", "--key", key, "--job-logs", logs), "1 checkpoints in them agree")
	s.refused("none of the log's keys signed", "audit", "verify", "--key", key, "--dir", before, "--job-logs", logs) // rolled back, its keys too
}

// TestAuditThatCannotBeWritten: the room is wiped, and stays on the books until
// its record is in the log.
func TestAuditThatCannotBeWritten(t *testing.T) {
	s, _ := audited(t, storeConfig)
	id := s.submit(gitlab.JobSpec{Project: project, Script: []string{"echo up", "sleep 3"}})
	s.until(id, "up\n")
	key := filepath.Join(s.runner.DataDir(), "audit", "key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	s.wait(id)
	s.ended(id)
	has(t, s.runner.Words(), "the wipe is not finished")
	if out, err := s.tryCleanroom("reap"); err == nil {
		t.Errorf("reap: %s", out)
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	s.cleanroom("reap")
	has(t, s.cleanroom("audit", "show", fmt.Sprint(id)), "shop/items", "build_script")
	has(t, s.cleanroom("audit", "verify"), "is genuine")
}

// noSecretBelow searches files.
func (s *site) noSecretBelow(dir, canary string) {
	s.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if bytes.Contains(text, []byte(canary)) {
			s.t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}

func put(t *testing.T, file string, text []byte) {
	t.Helper()
	must(t, os.WriteFile(file, text, 0o600))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAuditForgedElsewhere: a log of another executor's, in which the job has
// printed a checkpoint, is no alarm; one whose printer nobody knows is said to be
// unclear; and prepare's is known by how the real runner begins a log.
func TestAuditForgedElsewhere(t *testing.T) {
	s, key := audited(t, storeConfig)
	trace := s.run(gitlab.JobSpec{Project: project, Script: []string{"true"}}).Trace
	private, _, err := note.GenerateKey(rand.Reader, "ci.test/cleanroom")
	must(t, err)
	signer, err := note.NewSigner(private)
	must(t, err)
	msg, err := note.Sign(&note.Note{Text: fmt.Sprintf("ci.test/cleanroom\n7\n%s\n", tlog.RecordHash(nil))}, signer)
	must(t, err)
	const begin = "-----BEGIN CLEANROOM CHECKPOINT-----\n"
	block := begin + string(msg) + "-----END CLEANROOM CHECKPOINT-----\n"
	head, _, ok := strings.Cut(string(trace), begin) // ends with the stamp of the block's first line
	if !ok {
		t.Fatal(string(trace))
	}
	for name, c := range map[string]struct {
		log, says string
		code      int
	}{
		"docker":    {strings.Replace(head, `the "custom" executor`, `the "docker" executor`, 1) + block, "is genuine", 0},
		"unclear":   {block, "nothing shows who printed it", 2},
		"made anew": {head + block, "prepare printed into a job's log", 1},
	} {
		logs := t.TempDir()
		put(t, filepath.Join(logs, "ours.log"), []byte(trace)) // so that the log is held against something
		put(t, filepath.Join(logs, "forged.log"), []byte(c.log))
		out, err := s.tryCleanroom("audit", "verify", "--key", key, "--job-logs", logs)
		var exit *exec.ExitError
		code := 0
		if errors.As(err, &exit) {
			code = exit.ExitCode()
		}
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("%s: %d, %v: %s", name, code, err, out)
		}
	}
}
