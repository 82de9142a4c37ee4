package list

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/record/schema"
)

func init() { record.Check = schema.Check }

var update = flag.Bool("update", false, "write the golden files")

var day = time.Date(2026, 11, 26, 22, 10, 4, 0, time.UTC)

// sample is a log with a record of each kind.
func sample(t testing.TB) Log {
	t.Helper()
	at := day
	var all [][]byte
	add := func(r record.Record) {
		r.ID, r.At, r.Host = record.MakeID(r.Kind, fmt.Sprint(len(all))), at, record.Host{Name: "ci-1", Cleanroom: "0.5.0"}
		if r.By.Command == "" {
			r.By = record.By{Command: "cleanup", UID: 999, User: "gitlab-runner"}
		}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
		at = at.Add(time.Hour)
	}
	add(record.Record{Kind: record.OfBegun, By: record.By{Command: "audit init", User: "root"}, Begun: &record.Begun{Origin: "ci-1", Key: "ci-1+1234abcd+AAAA"}})
	add(record.Record{Kind: record.OfJob, Job: &record.Job{
		Room: "cr-a-4711-00", Job: 4711, Project: "shop/items", Outcome: record.OK,
		Facts:   []record.Fact{{Fact: "ref", Is: "main", Source: "x"}, {Fact: "user_login", Is: "anna", Source: "x"}, {Fact: "user_id", Is: int64(31), Source: "x"}},
		Images:  []record.Image{{Role: "job", Name: "registry.example.com/shop/python:3.12", Digest: "registry.example.com/shop/python@sha256:" + strings.Repeat("3d", 32), ID: "sha256:" + strings.Repeat("2e", 32)}, {Role: "helper", Name: "helper:1"}},
		Secrets: []record.Secret{{Name: "DATABASE_URL", Provider: "vault", Outcome: "failed"}}, End: record.End{Why: "the job is over", Left: []record.Item{{Kind: "network", Name: "cr-a-4711-00"}}},
	}})
	add(record.Record{Kind: record.OfJob, Job: &record.Job{
		Room: "cr-a-4712-00", Job: 4712, Project: "shop/web", Outcome: record.Refused, Stage: "prepare", Facts: []record.Fact{{Fact: "ref", Is: "feature/[x]", Source: "x"}, {Fact: "user_login", Is: "b.okafor", Source: "x"}},
		Decisions: []record.Decision{{Kind: "secret", Name: "PROD_DB", Reason: "no rule grants it"}, {Kind: "image", Name: "evil:1", Reason: "no rule grants it"}},
		Refusals:  []record.Refusal{{Stage: "prepare", Reason: "policy", Says: "secret PROD_DB is denied"}}, Guard: []record.Finding{{Stage: "archive_cache", Path: "x", Name: "NPM_TOKEN", Action: "refused"}},
		End: record.End{Why: "the job is over", Complete: true},
	}})
	add(record.Record{Kind: record.OfReap, By: record.By{Command: "reap", User: "root"}, Reap: &record.Reap{Room: "cr-a-4711-00", Job: 4711, Project: "shop/items",
		Secrets: []record.Secret{{Name: "DATABASE_URL", Provider: "vault", Outcome: "revoked"}}, End: record.End{Why: "its cleanup did not end it", Complete: true}}})
	add(record.Record{Kind: record.OfPolicy, By: record.By{Command: "prepare", User: "gitlab-runner"}, Policy: &record.Policy{After: strings.Repeat("0d", 32), Added: []string{"a", "b", "c", "d", "e", "f", "g", "h"}, Removed: []string{"old"}, Moved: true}})
	add(record.Record{Kind: record.OfConfig, By: record.By{Command: "prepare", User: "gitlab-runner"}, Config: &record.Config{After: strings.Repeat("0d", 32), Sections: []string{"images"}}})
	add(record.Record{Kind: record.OfSecret, By: record.By{Command: "secret rotate", User: "root"}, Secret: &record.Change{Name: "npm", Provider: "store", Action: "rotated", Version: "4"}})
	add(record.Record{Kind: record.OfCache, By: record.By{Command: "cache wipe", UID: 0}, Cache: &record.Cache{Caches: []string{"cleanroom-cache-1"}, Left: []record.Item{{Kind: "volume", Name: "cleanroom-cache-2", Why: "a room uses it"}}}})
	add(record.Record{Kind: record.OfKey, By: record.By{Command: "audit rotate", User: "root"}, Key: &record.Key{Before: "ci-1+1234abcd+AAAA", After: "ci-1+5678abcd+BBBB", Signer: "file"}})
	return of(all...)
}

func of(all ...[]byte) Log {
	return func(yield func(int64, []byte) error) error {
		for i, text := range all {
			if err := yield(int64(i), text); err != nil {
				return err
			}
		}
		return nil
	}
}

// found are the indexes that a printer was given.
type found []int64

func (f *found) Print(index int64, _ *record.Record, _ []byte) error {
	*f = append(*f, index)
	return nil
}
func (f *found) Flush() error { return nil }

func TestFilter(t *testing.T) {
	log := sample(t)
	for _, c := range []struct {
		name string
		f    Filter
		want []int64
	}{
		{"nothing asked", Filter{}, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8}},
		{"project", Filter{Project: "shop/items"}, []int64{1, 3}},
		{"project, glob", Filter{Project: "shop/*"}, []int64{1, 2, 3}},
		{"project, glob that stops at a slash", Filter{Project: "*"}, nil},
		{"ref", Filter{Ref: "main"}, []int64{1}},
		{"ref that looks like a glob", Filter{Ref: "feature/[x]"}, []int64{2}},
		{"user", Filter{User: "b.okafor"}, []int64{2}},
		{"user, number", Filter{User: "31"}, []int64{1}},
		{"user who changed something", Filter{User: "root"}, []int64{0, 6, 8}},
		{"secret given", Filter{Secret: "DATABASE_URL"}, []int64{1, 3}},
		{"secret asked for", Filter{Secret: "PROD_*"}, []int64{2}},
		{"secret found", Filter{Secret: "NPM_TOKEN"}, []int64{2}},
		{"secret changed", Filter{Secret: "npm"}, []int64{6}},
		{"image", Filter{Image: "registry.example.com/**"}, []int64{1}},
		{"image, digest", Filter{Image: "sha256:" + strings.Repeat("3d", 32)}, []int64{1}},
		{"image, ID", Filter{Image: "sha256:" + strings.Repeat("2e", 32)}, []int64{1}},
		{"image denied", Filter{Image: "evil:1"}, []int64{2}},
		{"outcome", Filter{Outcomes: []string{"refused"}}, []int64{2}},
		{"outcome, unfinished", Filter{Outcomes: []string{Unfinished}}, []int64{1}},
		{"outcomes", Filter{Outcomes: []string{"ok", "refused"}}, []int64{1, 2}},
		{"kinds", Filter{Kinds: []string{"key", "begun"}}, []int64{0, 8}},
		{"from", Filter{Period: Period{From: day.Add(6 * time.Hour)}}, []int64{6, 7, 8}},
		{"to", Filter{Period: Period{To: day.Add(2 * time.Hour)}}, []int64{0, 1}},
		{"all together", Filter{Project: "shop/*", Ref: "main", User: "anna", Outcomes: []string{"ok"}}, []int64{1}},
		{"none", Filter{Project: "shop/items", Ref: "other"}, nil},
	} {
		var got found
		if err := c.f.Check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if err := Print(log, &c.f, &got); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
	for _, f := range []Filter{{Kinds: []string{"jobs"}}, {Outcomes: []string{"OK"}}, {Project: "{a"}, {Image: "[a"}} {
		if err := f.Check(); !errors.Is(err, ErrFilter) {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// What cannot be read is said, whatever was asked for, and the rest is shown.
func TestUnreadable(t *testing.T) {
	var good [][]byte
	sample(t)(func(_ int64, text []byte) error { good = append(good, text); return nil })
	for name, bad := range map[string]string{
		"torn":    string(good[1][:len(good[1])/2]),
		"newer":   strings.Replace(string(good[1]), `"version":2}`, `"version":3}`, 1),
		"no kind": `{"at":"2026-11-26T23:10:04Z","kind":"what","version":2}`,
		"no body": `{"at":"2026-11-26T23:10:04Z","kind":"job","version":2}`,
		"empty":   "",
	} {
		var got found
		err := Print(of(good[0], []byte(bad), good[2], []byte(bad)), &Filter{Kinds: []string{"begun", "job"}}, &got)
		if !errors.Is(err, ErrUnreadable) || !strings.HasPrefix(err.Error(), "2 records are not shown, the first is 1: ") || !slices.Equal(got, []int64{0, 2}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestStops(t *testing.T) {
	broken := errors.New("disk")
	log := func(yield func(int64, []byte) error) error { return broken }
	if err := Print(log, &Filter{}, &found{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := Print(sample(t), &Filter{}, NewLines(full{})); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := Print(sample(t), &Filter{}, NewTable(full{})); !errors.Is(err, errFull) {
		t.Error(err)
	}
}

var errFull = errors.New("full")

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestTable(t *testing.T) {
	var out bytes.Buffer
	if err := Print(sample(t), &Filter{}, NewTable(&out)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "table.txt")
	if *update {
		if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || out.String() != string(want) {
		t.Errorf("%v\n%s", err, &out)
	}
}

// A table of many rows is not kept, and its columns stay in line.
func TestLongTable(t *testing.T) {
	var one []byte
	sample(t)(func(i int64, text []byte) error {
		if i == 1 {
			one = bytes.Clone(text)
		}
		return nil
	})
	var out bytes.Buffer
	table := NewTable(&out)
	r, err := Read(one)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3 * block) {
		table.Print(i, r, one)
		if i == block && out.Len() == 0 {
			t.Error("nothing was written after a block")
		}
	}
	table.Flush()
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3*block+1 {
		t.Fatal(len(lines))
	}
	for _, line := range lines[2*block:] {
		if strings.Index(line, "shop/items") != strings.Index(lines[2*block], "shop/items") {
			t.Errorf("%q", line)
		}
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	if err := Print(sample(t), &Filter{}, NewLines(&out)); err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	sample(t)(func(_ int64, text []byte) error { want = append(want, text); return nil })
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var got struct {
			Index  int64
			Record json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Index != int64(i) || string(got.Record) != string(want[i]) {
			t.Errorf("%d: %v\n%s", i, err, line)
		}
	}
}

// Whatever a record holds, a terminal gets lines of text.
func FuzzTerminal(f *testing.F) {
	for _, s := range []string{"a", "\x1b[2J", "\u202e\u009b31m", "\xff\xfe", "a\tb\nc\r", "\U000e0001", `\u001b`, `"}`, "e\u0301\u0301\u0301\u0301\u0301"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, project, ref string) {
		r := &record.Record{Kind: record.OfJob, ID: record.MakeID("x"), At: day, Host: record.Host{Name: ref}, By: record.By{Command: ref, User: project},
			Job: &record.Job{Room: "r", Project: project, Outcome: record.OK, Facts: []record.Fact{{Fact: "ref", Is: ref, Source: ref}, {Fact: "user_login", Is: project}},
				Images: []record.Image{{Role: "job", Name: ref}}, Secrets: []record.Secret{{Name: project, Outcome: "revoked"}}, Refusals: []record.Refusal{{Reason: "policy", Says: ref}},
				End: record.End{Why: ref, Error: project, Left: []record.Item{{Kind: ref, Name: project}}}}}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err) // a record takes whatever a job's author named things
		}
		for _, newPrinter := range []func(*bytes.Buffer) Printer{func(b *bytes.Buffer) Printer { return NewTable(b) }, func(b *bytes.Buffer) Printer { return NewLines(b) }} {
			var out bytes.Buffer
			if err := Print(of(text, text), &Filter{}, newPrinter(&out)); err != nil {
				t.Fatal(err)
			}
			got, ended := strings.CutSuffix(out.String(), "\n")
			if strings.ContainsFunc(strings.ReplaceAll(got, "\n", ""), func(r rune) bool { return !unicode.IsPrint(r) }) || !ended || strings.Count(got, "\n") > 2 {
				t.Errorf("%q", got)
			}
		}
	})
}
