package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/record"
)

// smallLog is a log of two jobs and more records, with what the first job's log
// has of it.
func smallLog(t *testing.T, more ...string) (dir, first, block string, l *log.Log) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "audit")
	signer, err := key.Create(filepath.Join(t.TempDir(), "key"), "ci.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	if l, err = log.Init(t.Context(), dir, signer); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		r := record.Record{Kind: record.OfJob, ID: record.MakeID(record.OfJob, fmt.Sprint(i)), At: time.Date(2026, 10, 5, 12, i, 0, 0, time.UTC),
			Job: &record.Job{Room: "cr-a-4711-00", Job: 4711, Project: "shop/items", Outcome: record.OK, End: record.End{Why: "the job is over", Complete: true}}}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		a, err := l.Append(t.Context(), func(string) (*key.Signer, error) { return signer, nil }, text)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			block = a.Checkpoint.Block()
		}
	}
	for _, text := range more {
		if _, err := l.Append(t.Context(), func(string) (*key.Signer, error) { return signer, nil }, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return dir, signer.VKey(), block, l
}

// The exit code tells right, wrong and not known.
func TestAuditVerify(t *testing.T) {
	dir, first, block, l := smallLog(t)
	logs := t.TempDir()
	put := func(name, text string) string {
		path := filepath.Join(logs, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	put("good/1.log", block)
	put("good/2.log", "hello\n")
	put("part/1.log", block)
	for i := range 30 {
		if err := os.Symlink("1.log", filepath.Join(logs, "part", fmt.Sprintf("%03d.log", i+100))); err != nil {
			t.Fatal(err)
		}
	}
	put("none/1.log", "hello\n")
	bundle, err := proof.Make(l, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := put("job.proof", string(bundle))
	loose := put("loose.proof", strings.Replace(string(bundle), `"record"`, `"RECORD"`, 1))
	other, err := key.Create(filepath.Join(t.TempDir(), "key"), "ci.test/audit")
	if err != nil {
		t.Fatal(err)
	}
	laterDir, laterFirst, _, later := smallLog(t, `{"kind":"dream","version":99}`) // of a newer cleanroom
	lateBundle, err := proof.Make(later, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	lateFile := put("late.proof", string(lateBundle))
	verify := func(args ...string) (string, error) {
		c := root("/usr/bin/cleanroom")
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetArgs(append([]string{"audit", "verify"}, args...))
		err := c.Execute()
		return out.String(), err
	}
	for name, c := range map[string]struct {
		args []string
		exit int
		says []string
	}{
		"genuine":      {[]string{"--dir", dir, "--key", first}, 0, []string{"ci.test/audit is genuine: 2 records"}},
		"whose":        {[]string{"--dir", dir}, 0, []string{"give --key"}},
		"job logs":     {[]string{"--dir", dir, "--job-logs", filepath.Join(logs, "good")}, 0, []string{"is genuine", "2 read, 1 checkpoints in them agree", "without a checkpoint of this log: 1: " + filepath.Join(logs, "good", "2.log"), "covers 1 of its 2 records"}},
		"some":         {[]string{"--dir", dir, "--job-logs", filepath.Join(logs, "part")}, exitOpen, []string{"could not be read: 30", "NOT READ: " + filepath.Join(logs, "part", "100.log") + ": it is no plain file", "NOT READ: and 10 more", "nothing wrong in what could be looked at"}},
		"no evidence":  {[]string{"--dir", dir, "--job-logs", filepath.Join(logs, "none")}, exitOpen, []string{"nothing wrong in what"}},
		"wrong":        {[]string{"--dir", dir, "--key", other.VKey(), "--job-logs", filepath.Join(logs, "part")}, exitWrong, []string{"WRONG: the log begins with", "NOT READ: "}},
		"no log":       {[]string{"--dir", logs}, exitOpen, nil},
		"no folder":    {[]string{"--dir", dir, "--job-logs", filepath.Join(logs, "x")}, exitOpen, nil},
		"bundle":       {[]string{"--bundle", file, "--key", first}, 0, []string{"shop/items"}},
		"no bundle":    {[]string{"--bundle", file + "x"}, exitOpen, nil},
		"no key":       {[]string{"--dir", dir, "--key", " "}, exitOpen, nil}, // "$(cat FILE)", and there is no such file
		"no job logs":  {[]string{"--dir", dir, "--job-logs", ""}, exitOpen, nil},
		"garbage":      {[]string{"--dir", dir, "--key", strings.Replace(first, "ci.test", "ci.best", 1)}, exitOpen, nil},
		"garbage, too": {[]string{"--bundle", file, "--key", "junk\nand more"}, exitOpen, nil},
		"newer":        {[]string{"--dir", laterDir, "--key", laterFirst}, exitOpen, []string{"nothing wrong in what"}},
		"newer, wrong": {[]string{"--dir", laterDir, "--key", other.VKey()}, exitWrong, []string{"WRONG: the log begins with"}},
		"newer bundle": {[]string{"--bundle", lateFile, "--key", laterFirst}, exitOpen, nil},
		"no GitLab":    {[]string{"--dir", dir, "--runner", "7"}, exitOpen, nil},
		"bundle, logs": {[]string{"--bundle", file, "--key", first, "--job-logs", filepath.Join(logs, "good")}, exitOpen, nil},
		"bundle, key":  {[]string{"--bundle", file, "--key", ""}, exitOpen, nil},
		"loose bundle": {[]string{"--bundle", loose, "--key", first}, exitWrong, nil},
	} {
		out, err := verify(c.args...)
		if exit(err) != c.exit {
			t.Errorf("%s: %d, %v\n%s", name, exit(err), err, out)
		}
		for _, says := range c.says {
			if !strings.Contains(out, says) {
				t.Errorf("%s: not %q:\n%s", name, says, out)
			}
		}
		if c.exit != 0 && strings.Contains(out, "is genuine") {
			t.Errorf("%s: %s", name, out)
		}
	}
}
