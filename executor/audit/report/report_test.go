package report

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/record"
)

var update = flag.Bool("update", false, "write the golden file")

var october = list.Period{From: time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}

func head() Head {
	return Head{Period: october, Made: october.To.Add(9 * time.Hour), Version: "0.5.0", Origin: "ci-1.example.com/audit", Size: 4711, Root: "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=",
		Verification: Verification{Checked: true, Pinned: true, Against: []string{"412 job logs with 398 checkpoints, the newest of which covers 4709 of its 4711 records"}, Without: 14}}
}

func write(t testing.TB, h Head, all ...*record.Record) string {
	t.Helper()
	r := New(h)
	for i, rec := range all {
		r.Add(int64(i), raw(t, rec))
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// job is one that was given a secret an hour into October.
func job(change func(*record.Record, *record.Secret)) *record.Record {
	began := october.From.Add(time.Hour)
	r := &record.Record{Kind: record.OfJob, ID: "1", At: began.Add(10 * time.Minute), By: record.By{Command: byCleanup}, Job: &record.Job{
		Room: "cr-a-1-00", Job: 1, Project: "shop/items", Began: began, Outcome: record.OK, End: record.End{Why: "the job is over", Complete: true},
		Stages:  []record.Stage{{Stage: "step_script", Began: began.Add(time.Minute), Millis: 60_000, Result: "ok"}},
		Secrets: []record.Secret{{Name: "DATABASE_URL", Provider: "vault", Issued: began, Outcome: "revoked", Leases: []record.Lease{{ID: "a", Issued: began, Ended: began.Add(9 * time.Minute), Outcome: "revoked"}}}}}}
	change(r, &r.Job.Secrets[0])
	return r
}

func reap(at time.Time, complete bool, secrets ...record.Secret) *record.Record {
	return &record.Record{Kind: record.OfReap, ID: "2", At: at, By: record.By{Command: "reap"}, Reap: &record.Reap{Room: "cr-a-1-00", Job: 1, Project: "shop/items", Secrets: secrets,
		End: record.End{Why: "its cleanup did not end it", Complete: complete, Error: map[bool]string{false: "vault is away"}[complete]}}}
}

func TestGolden(t *testing.T) {
	got := write(t, head(), sampleLog(8, october.From, october.To)...)
	path := filepath.Join("testdata", "report.html")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || got != string(want) {
		t.Errorf("the report is not %s (%v): look at it in a browser, and write it with -update", path, err)
	}
}

// A job that the runner tried again is one job.
func TestTries(t *testing.T) {
	var all []*record.Record
	for i, number := range []int64{1, 2, 2, 2, 3, 3, 3, 0, 0} {
		all = append(all, job(func(r *record.Record, _ *record.Secret) {
			r.Job.Job, r.Job.Room = number, fmt.Sprintf("cr-%d-%d", number, i)
		}))
	}
	got := write(t, head(), all...)
	for _, want := range []string{`<span class="n">5</span> <span class="of">jobs</span> <span class="sub">9 tries`, "Tries of jobs by ", "A row for each try: 9 tries of 5 jobs."} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	if got := write(t, head(), all[0], all[7]); strings.Contains(got, "tries") || !strings.Contains(got, `<span class="n">2</span> <span class="of">jobs</span>`) {
		t.Error("two jobs are not two")
	}
}

// What became of a secret is what the log tells by now.
func TestFates(t *testing.T) {
	lost := func(r *record.Record, s *record.Secret) {
		s.Outcome, s.Leases[0].Outcome, s.Leases[0].Ended = "failed", "failed", time.Time{}
		r.Job.End.Complete = false
	}
	at := october.From.Add(24 * time.Hour)
	gone := record.Secret{Name: "DATABASE_URL", Provider: "vault", Outcome: "revoked", Leases: []record.Lease{{ID: "a", Ended: at, Outcome: "revoked"}}}
	still := record.Secret{Name: "DATABASE_URL", Provider: "vault", Outcome: "failed"}
	for _, c := range []struct {
		name                    string
		log                     []*record.Record
		bad, late, ending, open int64
		median                  string
	}{
		{"revoked with its job", []*record.Record{job(func(*record.Record, *record.Secret) {})}, 0, 0, 0, 0, "9 min"},
		{"never revoked", []*record.Record{job(lost)}, 1, 0, 0, 1, "–"},
		{"tried again in vain", []*record.Record{job(lost), reap(at, false, still)}, 1, 0, 0, 1, "–"},
		{"revoked by a later try", []*record.Record{job(lost), reap(at, false, still), reap(at, true, gone)}, 0, 1, 0, 0, "23 h"},
		{"revoked after the period", []*record.Record{job(lost), reap(october.To.Add(time.Hour), true)}, 0, 1, 0, 0, "31 d"},
		{"another secret was revoked", []*record.Record{job(lost), reap(at, false, record.Secret{Name: "OTHER", Provider: "vault", Outcome: "revoked"})}, 1, 0, 0, 1, "–"},
		{"nobody noted it", []*record.Record{job(func(_ *record.Record, s *record.Secret) { s.Outcome, s.Leases = "unknown", nil })}, 1, 0, 0, 0, "–"},
		{"ends by itself, after the job", []*record.Record{job(func(_ *record.Record, s *record.Secret) { s.Outcome, s.Expires = "expires", s.Issued.Add(time.Hour) })}, 0, 0, 1, 0, "1 h"},
		{"ends by itself, within the job", []*record.Record{job(func(_ *record.Record, s *record.Secret) { s.Outcome, s.Expires = "expires", s.Issued.Add(time.Minute) })}, 0, 0, 0, 0, "1 min"},
		{"ends by itself some time", []*record.Record{job(func(_ *record.Record, s *record.Secret) { s.Outcome = "expires" })}, 0, 0, 1, 0, "–"},
		{"stays good", []*record.Record{job(func(_ *record.Record, s *record.Secret) { s.Outcome = "standing" })}, 0, 0, 0, 0, "–"},
		{"its runner was killed", []*record.Record{job(func(r *record.Record, _ *record.Secret) { r.By.Command = "reap" })}, 0, 1, 0, 0, "9 min"},
	} {
		r := New(head())
		for i, rec := range c.log {
			r.Add(int64(i), raw(t, rec))
		}
		var out bytes.Buffer
		if err := r.Write(&out); err != nil {
			t.Fatal(err)
		}
		if r.bad.Total != c.bad || r.late.Total != c.late || r.expiring.Total != c.ending || int64(len(r.open)) != c.open || r.lanes[laneKey{"vault", "DATABASE_URL"}].Median() != c.median {
			t.Errorf("%s: %d not revoked, %d late, %d ending, %d open, %s", c.name, r.bad.Total, r.late.Total, r.expiring.Total, len(r.open), r.lanes[laneKey{"vault", "DATABASE_URL"}].Median())
		}
		if look := strings.Contains(out.String(), "This needs a look"); look != (c.bad+c.open > 0) {
			t.Errorf("%s: the first sentence is wrong", c.name)
		}
		if strings.Contains(out.String(), `<rect class="b-bad" x=`) != (c.bad > 0) || strings.Contains(out.String(), `<rect class="b-late" x="0.`) != (c.late > 0) {
			t.Errorf("%s: its timeline shows something else", c.name)
		}
	}
}

func TestPeriod(t *testing.T) {
	at := func(t time.Time) *record.Record {
		return job(func(r *record.Record, _ *record.Secret) { r.At = t })
	}
	r := New(head())
	for i, rec := range []*record.Record{at(october.From.Add(-1000)), at(october.From), at(october.To.Add(-1000)), at(october.To)} {
		r.Add(int64(i), raw(t, rec))
	}
	if r.records != 2 || r.slots[0].total() != 1 || r.slots[30].total() != 1 || len(r.slots) != 31 {
		t.Errorf("%d records, %v", r.records, r.slots)
	}
	r.Add(4, []byte(`{"at":"2026-10-05T00:00:00Z","kind":"job"`))
	r.Add(5, []byte(`{"at":"2026-12-05T00:00:00Z","kind":"job"`))
	if r.unreadable.Total != 1 {
		t.Error(r.unreadable.Total)
	}
	for _, c := range []struct {
		length time.Duration
		unit   string
		slots  int
	}{{time.Hour, "hour", 1}, {24 * time.Hour, "hour", 24}, {100 * 24 * time.Hour, "day", 100}, {365 * 24 * time.Hour, "week", 53}, {10 * 365 * 24 * time.Hour, "month", 120}} {
		s := scaleOf(october.From, october.From.Add(c.length))
		if s.unit != c.unit || len(s.starts) != c.slots || s.slot(october.From) != 0 && c.unit != "week" || s.slot(s.ends) != c.slots-1 || s.step(s.ends) != steps-1 || len(s.axis()) > ticks {
			t.Errorf("%s: %s, %d, %v", c.length, s.unit, len(s.starts), s.axis())
		}
	}
	for _, c := range []struct {
		p    list.Period
		want string
	}{
		{october, "2026-10-01 to 2026-10-31"},
		{list.Period{From: october.From, To: october.From.Add(24 * time.Hour)}, "2026-10-01"},
		{list.Period{From: october.From, To: october.From.Add(time.Hour)}, "2026-10-01 00:00 to 2026-10-01 01:00"},
		{list.Period{To: october.To}, "Up to 2026-10-31"},
		{list.Period{From: october.From}, "From 2026-10-01 00:00 to now"},
		{list.Period{}, "The whole log"},
	} {
		if got := title(c.p); got != c.want {
			t.Errorf("%v: %q", c.p, got)
		}
	}
}

// A log that nobody verified, or nobody outside the host bears witness to, or
// not all could be held against, or that is false, cannot be taken for one that
// others vouch for: by its words, without colours, and by how it is drawn.
func TestVerification(t *testing.T) {
	others := []string{"3 job logs with 2 checkpoints"}
	seals := map[string]bool{}
	for want, v := range map[string]Verification{
		"Not verified":                          {},
		"Own keys only":                         {Checked: true},
		"Own keys only, and the first is known": {Checked: true, Pinned: true},
		"Witnessed":                             {Checked: true, Against: others},
		"Verified in part":                      {Checked: true, Against: others, Missing: []string{"2 job logs could not be read"}, Unread: []string{"the log of job 7: 404"}, UnreadTotal: 24},
		"Not genuine":                           {Checked: true, Against: others, Missing: []string{"2 job logs could not be read"}, Wrong: []string{"record 3 is not the one that was appended"}},
	} {
		h := head()
		h.Verification = v
		got := write(t, h)
		word, _, known := strings.Cut(want, ",")
		if seal := v.Seal(); seal.Word != word || !strings.Contains(got, `<section class="seal `+seal.Class+`"`) || !strings.Contains(got, ">"+word+"</p>") || !strings.Contains(css, "."+seal.Class+" {") && v.Checked {
			t.Errorf("%s: %v", want, seal)
		} else {
			seals[seal.Class] = true
		}
		for _, says := range []string{"Not verified", "Own keys only", "Witnessed", "Verified in part", "Not genuine"} {
			if strings.Contains(got, ">"+says+"</p>") != (says == word) {
				t.Errorf("%s: %q", want, says)
			}
		}
		if strings.Contains(got, "others bear witness") != (word == "Witnessed") || known && !strings.Contains(got, "its first public key, as it was kept elsewhere") {
			t.Errorf("%s:\n%s", want, got)
		}
		if strings.Contains(got, "By the log’s own word") != (word == "Not genuine") {
			t.Errorf("%s: what the log says stands there as if it were true, or is doubted", want)
		}
		shown := slices.Concat(v.Against, v.Unread, v.Missing)
		if v.UnreadTotal > 0 {
			shown = append(shown, "and 23 more")
		}
		if len(v.Wrong) > 0 {
			shown = append(v.Wrong, v.Against...)
		}
		for _, says := range shown {
			if !strings.Contains(got, says) {
				t.Errorf("%s: %q is not said", want, says)
			}
		}
	}
	if len(seals) != 5 {
		t.Errorf("%d seals", len(seals))
	}
}

// Of a job with very many findings the first are shown, and all are counted.
func TestManyFindings(t *testing.T) {
	many := func(n int) *record.Record {
		return job(func(r *record.Record, _ *record.Secret) {
			for i := range n {
				r.Job.Guard = append(r.Job.Guard, record.Finding{Stage: "upload_artifacts_on_success", Path: fmt.Sprintf("dist/%03d", i), Name: "DATABASE_URL", Action: "refused"})
			}
		})
	}
	got := write(t, head(), many(200), many(maxFindings))
	for i := range 200 {
		if want := map[bool]int{true: 2}[i < maxFindings]; strings.Count(got, fmt.Sprintf(">dist/%03d<", i)) != want {
			t.Errorf("finding %d is not there %d times", i, want)
		}
	}
	if strings.Index(got, "dist/001") < strings.Index(got, "dist/000") || strings.Count(got, "and 180 more of job 1:") != 1 || strings.Count(got, "<code>cleanroom audit show 1</code>") != 1 {
		t.Error("what is left out is not said, once, behind the first")
	}
	if !strings.Contains(got, `<span class="n">220</span>`) {
		t.Error("not all are counted")
	}
}

// A log of fifty thousand jobs makes a file that opens, and says what it left out.
func TestLarge(t *testing.T) {
	var some [][]byte
	for _, rec := range sampleLog(500, october.From, october.To) {
		some = append(some, raw(t, rec))
	}
	r := New(head())
	for i := range 100 {
		for j, text := range some {
			r.Add(int64(i*len(some)+j), text)
		}
	}
	var out bytes.Buffer
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	if out.Len() > 2<<20 || !strings.Contains(out.String(), `<span class="n">500</span>`) || !strings.Contains(out.String(), "50,000 tries of 500 jobs") || !strings.Contains(out.String(), "The newest 100 of ") {
		t.Errorf("%d bytes", out.Len())
	}
	rows := newest[int]{most: 3}
	for i := range 10 {
		rows.add(i)
	}
	if got := rows.Rows(); !slices.Equal(got, []int{9, 8, 7}) || rows.More() != "The newest 3 of 10 are shown; 7 older ones are in the log." {
		t.Error(got, rows.More())
	}
}

var styleOf = regexp.MustCompile(`(?s)<style>(.*?)</style>`)

func firstDifference(a, b string) string {
	linesOfB := strings.Split(b, "\n")
	for i, line := range strings.Split(a, "\n") {
		if i >= len(linesOfB) || line != linesOfB[i] {
			return line
		}
	}
	return "it is shorter"
}
