package verify_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/proof"
	audit "cleanroom/executor/audit/record"
	"cleanroom/executor/audit/record/schema"
	"cleanroom/executor/audit/report"
	"cleanroom/executor/audit/verify"
)

func init() { audit.Check = schema.Check }

// million is how many records the benchmarked log has, of jobs with three
// secrets, one every two seconds.
const million = 1_000_000

// BenchmarkMillion makes a log of a million records and times what is done
// with it. MB-peak is the most memory that the process had meanwhile.
func BenchmarkMillion(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "audit")
	path := filepath.Join(b.TempDir(), "audit.key")
	source := key.File(path)
	l := must(log.Init(b.Context(), dir, must(key.Create(path, origin))(b)))(b)
	one := jobs(b)
	for i := 0; i < million; {
		var list [][]byte
		for range min(2000, million-i) {
			list = append(list, one(i))
			i++
		}
		must(l.Append(b.Context(), source, list...))(b)
	}
	cp := must(l.Checkpoint())(b)
	records := func(yield func(int64, []byte) error) error { return l.Each(cp, 0, yield) }
	first := l.Keys().First
	verified := func(b *testing.B, o verify.Options) {
		r := must(verify.Log(b.Context(), dir, o))(b)
		if r.Err() != nil || r.Records < million {
			b.Fatalf("%d records: %v", r.Records, r.Err())
		}
	}
	listed := func(b *testing.B, f *list.Filter, lines int) {
		n := counter(0)
		if err := list.Print(records, f, list.NewTable(&n)); err != nil {
			b.Fatal(err)
		}
		if int(n) < lines {
			b.Fatalf("%d lines, want %d at least", n, lines)
		}
	}
	// Appending and the checkpoint are as in a process that does it once:
	// nothing is in its memory.
	for _, m := range []struct {
		name string
		do   func(b *testing.B, i int)
	}{
		{"append", func(b *testing.B, i int) {
			must(must(log.Open(dir))(b).Append(b.Context(), source, one(million+i)))(b)
		}},
		{"checkpoint", func(b *testing.B, _ int) { must(must(log.Open(dir))(b).Checkpoint())(b) }},
		{"prove", func(b *testing.B, i int) {
			must(proof.Verify(must(proof.Make(l, int64(1+i*7919%million), nil))(b), first))(b)
		}},
		{"growth", func(b *testing.B, i int) { must(l.ProveGrowth(cp, int64(1+i*7919%million)))(b) }},
		{"read", func(b *testing.B, _ int) {
			if err := records(func(int64, []byte) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}},
		{"list", func(b *testing.B, _ int) { listed(b, &list.Filter{}, million) }},
		{"list-a-day", func(b *testing.B, _ int) {
			day := begun.Add(15 * 24 * time.Hour)
			listed(b, &list.Filter{Period: list.Period{From: day, To: day.Add(24 * time.Hour)}}, 24*60*30)
		}},
		{"report", func(b *testing.B, _ int) {
			r := report.New(report.Head{Made: begun.Add(24 * 24 * time.Hour)})
			if err := records(func(i int64, raw []byte) error { r.Add(i, raw); return nil }); err != nil {
				b.Fatal(err)
			}
			var page bytes.Buffer
			if err := r.Write(&page); err != nil || !strings.Contains(page.String(), "shop/items") {
				b.Fatalf("%d bytes of report: %v", page.Len(), err)
			}
		}},
		{"verify", func(b *testing.B, _ int) { verified(b, verify.Options{First: first}) }},
		{"verify-with-schema", func(b *testing.B, _ int) {
			verified(b, verify.Options{First: first, Record: func(_ int64, text []byte) error { _, err := audit.Decode(text); return err }})
		}},
	} {
		b.Run(m.name, func(b *testing.B) {
			peak := memory(b)
			for i := 0; b.Loop(); i++ {
				m.do(b, i)
			}
			b.ReportMetric(peak(), "MB-peak")
		})
	}
}

// begun is when the first of the jobs was over.
var begun = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// jobs makes records that differ in room, job and time of writing.
func jobs(b *testing.B) func(i int) []byte {
	const job, room = 7_000_000, "cr-bench-7000000-0011223344"
	var secrets []audit.Secret
	for _, name := range []string{"DATABASE_URL", "DEPLOY_KEY", "NPM_TOKEN"} {
		secrets = append(secrets, audit.Secret{Name: name, Provider: "store", Rule: "all", Version: "3", Issued: begun.Add(-time.Minute), Outcome: "standing"})
	}
	r := &audit.Record{Kind: audit.OfJob, ID: audit.MakeID(audit.OfJob, room), At: begun.Add(time.Microsecond),
		Host: audit.Host{Name: "ci-1", Cleanroom: "1.0.0"}, By: audit.By{Command: "cleanup", UID: 999, User: "gitlab-runner"},
		Job: &audit.Job{Room: room, Job: job, Project: "shop/items", Began: begun.Add(-time.Minute), Outcome: audit.OK, Profile: "hardened",
			Facts:   []audit.Fact{{Fact: "ref", Is: "main", Source: "job response (git_info.ref)"}, {Fact: "ref_protected", Is: true, Source: "job response (git_info.protected)"}},
			Images:  []audit.Image{{Role: "job", Name: "alpine:3", ID: "sha256:" + strings.Repeat("2e", 32)}},
			Secrets: secrets,
			Stages:  []audit.Stage{{Stage: "step_script", Container: "job", Began: begun, Millis: 1500, Result: "ok", Output: &audit.Output{Bytes: 700, SHA256: strings.Repeat("6a", 32)}}},
			End:     audit.End{Why: "the job is over", Millis: 350, Complete: true}}}
	text := must(r.Encode())(b)
	at := func(t time.Time) string { return `"at":"` + t.Format("2006-01-02T15:04:05.000000Z") }
	if n := strings.Count(string(text), at(r.At)); n != 1 {
		b.Fatalf("%s: %d times the time of writing", text, n)
	}
	return func(i int) []byte {
		number := fmt.Sprint(job + i)
		return []byte(strings.NewReplacer(
			at(r.At), at(r.At.Add(time.Duration(i)*2*time.Second)),
			r.ID, fmt.Sprintf("%032x", i),
			room, "cr-bench-"+number+"-0011223344",
			fmt.Sprintf(`"job":%d`, job), `"job":`+number,
		).Replace(string(text)))
	}
}

// counter counts lines.
type counter int

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(bytes.Count(p, []byte("\n")))
	return len(p), nil
}

// memory tells the most that the process has had since, in MB (VmHWM, which
// writing 5 to clear_refs sets back: proc_pid_clear_refs(5)).
func memory(b *testing.B) func() float64 {
	debug.FreeOSMemory()
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		b.Fatal(err)
	}
	return func() float64 {
		status := must(os.ReadFile("/proc/self/status"))(b)
		for line := range strings.Lines(string(status)) {
			var kb float64
			if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kb); n == 1 {
				return kb * 1024 / 1e6
			}
		}
		b.Fatalf("no VmHWM in %s", status)
		return 0
	}
}
