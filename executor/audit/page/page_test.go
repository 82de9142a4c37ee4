package page

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/record/schema"
)

func init() { record.Check = schema.Check }

var update = flag.Bool("update", false, "write the golden files anew")

// The pages of the records that are golden files of package record.
func TestPages(t *testing.T) {
	found, err := filepath.Glob("../record/testdata/*.json")
	if err != nil || len(found) < 9 {
		t.Fatal(found, err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := record.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := Write(&b, r, []string{"entry 17 of the log, which holds it: checkpoint of 18 entries is signed by ci-1"}); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", strings.TrimSuffix(filepath.Base(path), ".json")+".txt")
		if *update {
			if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != string(want) {
			t.Errorf("not as in %s:\n%s", golden, &b)
		}
		plainPage(t, b.String())
	}
}

// plainPage says that a page does nothing but fill lines.
func plainPage(t testing.TB, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := columns(line); n > Width {
			t.Errorf("%d columns: %s", n, line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("what is no plain character: %q", line)
		}
	}
}

// Whatever is in a record, its page is plain.
func FuzzPage(f *testing.F) {
	f.Add("group/pro\nWHO: nobody\x1b[2J", "\u202eabc", int64(4711))
	f.Add(strings.Repeat("漢字", 100), "a \"b\" \\", int64(0))
	f.Add("\"\u202e", "\t`", int64(1))
	f.Fuzz(func(t *testing.T, a, b string, n int64) {
		r := &record.Record{Kind: record.OfJob, Job: &record.Job{
			Room: a, Job: n, Project: b, Outcome: record.Outcome(a), Stage: b, Profile: a,
			Facts: []record.Fact{{Fact: a, Is: b, Source: a}}, Policy: a, Decisions: []record.Decision{{Kind: a, Name: b, Reason: a, Stages: []string{a, b}}},
			Images: []record.Image{{Role: a, Name: b, Digest: a}}, Secrets: []record.Secret{{Name: a, Provider: b, Leases: []record.Lease{{ID: a, Error: b}}}},
			Stages: []record.Stage{{Stage: a, Result: b, Output: &record.Output{Bytes: n, SHA256: a}}}, Guard: []record.Finding{{Path: a, Members: []string{b}}},
			Refusals: []record.Refusal{{Says: b}}, Artifacts: []record.Artifact{{Path: a, SHA256: b}}, Provenance: []record.Provenance{{Stage: a, SHA256: b}}, End: record.End{Why: a, Millis: n, Left: []record.Item{{Kind: a, Name: b}}}, Gaps: []string{a},
		}}
		var page bytes.Buffer
		if err := Write(&page, r, []string{b}); err != nil {
			t.Fatal(err)
		}
		plainPage(t, page.String())
	})
}
