package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/report"
)

// fewRecords is a log of a job and a change, that ends with an error.
type fewRecords struct {
	t       *testing.T
	wrong   []string
	missing []string
	ends    error
}

func (l fewRecords) Records(yield func(int64, []byte) error) error {
	for i, r := range []record.Record{
		{Kind: record.OfJob, At: time.Date(2026, 10, 5, 12, 0, 0, 0, time.UTC), Job: &record.Job{Room: "cr-a-4711-00", Job: 4711, Project: "shop/items", Outcome: record.OK, End: record.End{Why: "the job is over", Complete: true}}},
		{Kind: record.OfSecret, At: time.Date(2026, 10, 6, 12, 0, 0, 0, time.UTC), Secret: &record.Change{Name: "npm", Provider: "store", Action: "set"}},
	} {
		r.ID = record.MakeID(r.Kind, "x")
		text, err := r.Encode()
		if err != nil {
			l.t.Fatal(err)
		}
		if err := yield(int64(i), text); err != nil {
			return err
		}
	}
	return l.ends
}

func (l fewRecords) Verify(against) (report.Head, error) {
	return report.Head{Origin: "ci-1", Size: 2, Root: "AAAA", Verification: report.Verification{Checked: true, Wrong: l.wrong, Missing: l.missing}}, nil
}

func readAudit(t *testing.T, l fewRecords, args ...string) (string, error) {
	t.Helper()
	l.t = t
	open := func(*cobra.Command) (auditLog, error) { return l, nil }
	c := &cobra.Command{Use: "audit", SilenceErrors: true, SilenceUsage: true}
	c.AddCommand(auditList(open), auditReport(open))
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func TestAuditList(t *testing.T) {
	for _, c := range []struct {
		args  string
		lines int
		fails error
	}{
		{"list", 3, nil},
		{"list --json", 2, nil},
		{"list --json --project shop/*", 1, nil},
		{"list --json --from 2026-10-06", 1, nil},
		{"list --json --from 2026-10-05 --to 2026-10-05 --outcome ok --kind job", 1, nil},
		{"list --json --outcome refused --outcome failed", 0, nil},
		{"list --outcome good", 0, list.ErrFilter},
		{"list --project {", 0, list.ErrFilter},
		{"list --from monday", 0, list.ErrPeriod},
	} {
		out, err := readAudit(t, fewRecords{}, strings.Fields(c.args)...)
		if !errors.Is(err, c.fails) || err == nil != (c.fails == nil) || strings.Count(out, "\n") != c.lines {
			t.Errorf("%s: %v\n%s", c.args, err, out)
		}
	}
}

func TestAuditReport(t *testing.T) {
	out, err := readAudit(t, fewRecords{}, "report", "--from", "2026-10-05", "--to", "2026-10-05")
	if err != nil || !strings.HasPrefix(out, "<!DOCTYPE html>") || !strings.Contains(out, "shop/items") || strings.Contains(out, "npm") {
		t.Errorf("%v\n%.300s", err, out)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "report.html")
	if err := os.WriteFile(path, []byte("an older one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := readAudit(t, fewRecords{}, "report", "--out", path); err != nil || out != "" {
		t.Error(out, err)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte("npm")) || !bytes.HasSuffix(text, []byte("</html>\n")) {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Error(left, err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{pipe, dir, filepath.Join(dir, "none", "report.html")} {
		if _, err := readAudit(t, fewRecords{}, "report", "--out", bad); err == nil {
			t.Errorf("%s was written", bad)
		}
	}
}

// exit is the exit code of an error.
func exit(err error) int {
	var e stages.Exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	}
	return -1
}

// A log that is not genuine is a failure, and so, another one, is one that not
// all was looked at of; the report shows what is in it.
func TestAuditReportOfABadLog(t *testing.T) {
	torn := errors.New("tile 3 is missing")
	out, err := readAudit(t, fewRecords{wrong: []string{"record 1 was changed\x1b"}, missing: []string{"2 job logs could not be read"}, ends: torn}, "report")
	if exit(err) != exitWrong || err.Error() != `the audit log is not genuine: record 1 was changed\u{1b}` || !strings.Contains(out, "tile 3 is missing") || !strings.Contains(out, "shop/items") {
		t.Errorf("%v\n%.300s", err, out)
	}
	if out, err := readAudit(t, fewRecords{missing: []string{"2 job logs could not be read"}}, "report"); exit(err) != exitOpen || !errors.Is(err, errIncomplete) || !strings.Contains(out, "2 job logs could not be read") || !strings.Contains(out, "shop/items") {
		t.Errorf("%v\n%.300s", err, out)
	}
	if _, err := readAudit(t, fewRecords{ends: torn}, "report"); !errors.Is(err, torn) || exit(err) != exitOpen {
		t.Error(err)
	}
	if _, err := readAudit(t, fewRecords{ends: torn}, "list"); !errors.Is(err, torn) {
		t.Error(err)
	}
}
