package metrics

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/sirupsen/logrus"

	"cleanroom/executor/secret/hostkey/durable"
)

var update = flag.Bool("update", false, "write the golden file anew")

// child makes this test a process of its own that counts in that folder.
const child = "TEST_METRICS_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(child); dir != "" {
		b := Book{Dir: dir, File: filepath.Join(dir, "x.prom"), Log: logrus.NewEntry(logrus.StandardLogger())}
		for range 20 {
			b.Count(Jobs.Add(OK, 1), Stage.Took("job", time.Second), Redactions.Add("", 3))
		}
		return
	}
	os.Exit(m.Run())
}

func newBook(t *testing.T) (Book, *bytes.Buffer) {
	t.Helper()
	var said bytes.Buffer
	log := logrus.New()
	log.SetOutput(&said)
	return Book{Dir: filepath.Join(t.TempDir(), "data"), File: filepath.Join(t.TempDir(), "cleanroom.prom"), Log: logrus.NewEntry(log)}, &said
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestGolden(t *testing.T) {
	b, said := newBook(t)
	b.Count(Jobs.Add(OK, 2), Jobs.Add(Canceled, 1), Prepare.Took("", 250*time.Millisecond))
	b.Count(Stage.Took("job", 70*time.Second), Stage.Took("job", 3*time.Hour), Stage.Took("helper", 0), Cleanup.Took("", 1500*time.Millisecond))
	b.Count(Reaped.Add("", 1), Refusals.Add(Policy, 1), Redactions.Add("", 17), Findings.Add(Warned, 2), Findings.Add(Refused, 0), Leases.Add("revoked", 4))
	if said.Len() > 0 {
		t.Fatal(said)
	}
	text := read(t, b.File)
	const golden = "testdata/cleanroom.prom"
	if *update {
		if err := os.WriteFile(golden, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text != read(t, golden) {
		t.Errorf("not as in %s:\n%s", golden, text)
	}
	for path, mode := range map[string]os.FileMode{b.File: 0o644, b.path(): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
		if _, err := os.Stat(path + ".new"); err == nil {
			t.Errorf("%s.new is left", path)
		}
	}
}

// Prometheus' own parser reads it, and finds what convention wants.
func TestParses(t *testing.T) {
	b, said := newBook(t)
	b.Count(Stage.Took("job", 2*time.Second), Jobs.Add(System, 1))
	parser := expfmt.NewTextParser(model.LegacyValidation)
	found, err := parser.TextToMetricFamilies(strings.NewReader(read(t, b.File)))
	if err != nil || said.Len() > 0 {
		t.Fatal(err, said)
	}
	if len(found) != len(families) {
		t.Errorf("%d families, want %d", len(found), len(families))
	}
	for _, f := range families {
		got := found[f.name]
		if got == nil || got.GetHelp() != f.help || len(got.Metric) != len(f.labels()) {
			t.Errorf("%s: %v", f.name, got)
		}
		if (f.buckets == nil) != strings.HasSuffix(f.name, "_total") || (f.buckets != nil) != strings.HasSuffix(f.name, "_seconds") {
			t.Errorf("%s is no conventional name", f.name)
		}
		if strings.ContainsAny(f.help+strings.Join(f.values, ""), "\\\n\"") {
			t.Errorf("%s: a text of ours needs escaping", f.name)
		}
	}
	h := found["cleanroom_stage_seconds"].Metric[1].GetHistogram()
	if h.GetSampleCount() != 1 || h.GetSampleSum() != 2 || len(h.Bucket) != len(long)+1 || !math.IsInf(h.Bucket[len(long)].GetUpperBound(), 1) ||
		h.Bucket[2].GetCumulativeCount() != 0 || h.Bucket[3].GetCumulativeCount() != 1 || h.Bucket[len(long)].GetCumulativeCount() != 1 {
		t.Errorf("the histogram is %v", h)
	}
}

// Many goroutines and many processes at once lose nothing.
func TestConcurrent(t *testing.T) {
	b, said := newBook(t)
	if err := durable.Folder(b.Dir); err != nil {
		t.Fatal(err)
	}
	b.File = filepath.Join(b.Dir, "x.prom")
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), child+"="+b.Dir)
			if out, err := c.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
		})
		work.Go(func() {
			for range 20 {
				b.Count(Jobs.Add(OK, 1), Stage.Took("job", time.Second), Redactions.Add("", 3))
			}
		})
	}
	work.Wait()
	text := read(t, b.File)
	for _, want := range []string{`cleanroom_jobs_total{result="ok"} 160`, `cleanroom_stage_seconds_count{container="job"} 160`, `cleanroom_stage_seconds_sum{container="job"} 160`, "cleanroom_redactions_total 480"} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if said.Len() > 0 {
		t.Error(said)
	}
}

// A state that is torn, or not ours, is put aside; counting begins anew.
func TestForeignState(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "torn": `{"format":"cleanroom metrics 1","series":{"cleanroom_jo`, "other": `{"format":"cleanroom metrics 2","series":{}}`,
		"foreign": `{"a":1}`, "list": `[]`, "negative": `{"format":"cleanroom metrics 1","series":{"cleanroom_jobs_total":{"ok":{"count":-1}}}}`,
		"two": `{"format":"cleanroom metrics 1","series":{}}{}`, "null": "null", "huge": strings.Repeat(" ", maxState+1),
	} {
		t.Run(name, func(t *testing.T) {
			b, said := newBook(t)
			b.Count(Jobs.Add(OK, 7))
			if err := os.WriteFile(b.path(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			b.Count(Jobs.Add(OK, 1))
			if got := read(t, b.File); !strings.Contains(got, `cleanroom_jobs_total{result="ok"} 1`+"\n") {
				t.Error(got)
			}
			if read(t, b.path()+".broken") != text || strings.Count(said.String(), "put aside") != 1 {
				t.Errorf("said %s", said)
			}
			b.Count(Jobs.Add(OK, 1))
			if strings.Count(said.String(), "\n") != 1 {
				t.Errorf("said %s", said)
			}
		})
	}
	b, said := newBook(t)
	b.Count(Jobs.Add(OK, 7))
	if err := os.Chmod(b.path(), 0o666); err != nil {
		t.Fatal(err)
	}
	if b.Count(Jobs.Add(OK, 1)); !strings.Contains(read(t, b.File), `{result="ok"} 1`+"\n") || !strings.Contains(said.String(), "put aside") {
		t.Errorf("anyone may have changed it: %s", said)
	}
}

// What another version counted stays, as far as it is the same.
func TestOtherVersion(t *testing.T) {
	b, said := newBook(t)
	s := fresh()
	s.Series["cleanroom_jobs_total"] = map[string]series{OK: {Count: 5}, "gone": {Count: 3}}
	s.Series["cleanroom_no_more_total"] = map[string]series{"": {Count: 1}}
	s.Series["cleanroom_cleanup_seconds"] = map[string]series{"": {Count: 9, Sum: 9, Bounds: []float64{1, 2}, Buckets: []uint64{4, 4, 1}}}
	s.Series["cleanroom_prepare_seconds"] = map[string]series{"": {Count: 9, Sum: 9, Bounds: short, Buckets: []uint64{9}}}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(b.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.Count(Jobs.Add(OK, 1), Cleanup.Took("", time.Second), Prepare.Took("", time.Second))
	got := read(t, b.File)
	for _, want := range []string{`cleanroom_jobs_total{result="ok"} 6`, "cleanroom_cleanup_seconds_count 1", "cleanroom_prepare_seconds_count 1"} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, `"gone"`) || strings.Contains(got, "no_more") || said.Len() > 0 {
		t.Errorf("%s\n%s", got, said)
	}
}

// What goes wrong is said, and nothing else happens.
func TestTrouble(t *testing.T) {
	b, said := newBook(t)
	b.File = ""
	b.Count(Jobs.Add(OK, 1))
	if _, err := os.Stat(b.Dir); err == nil || said.Len() > 0 {
		t.Error("something is counted for nobody")
	}
	for what, spoil := range map[string]func(*Book){
		"no folder for the textfile": func(b *Book) { b.File = "/nowhere/x.prom" },
		"a folder in its place":      func(b *Book) { b.File = filepath.Dir(b.File) },
		"no data_dir":                func(b *Book) { b.Dir = "/proc/nowhere" },
		"data_dir is anybody's": func(b *Book) {
			b.Dir = t.TempDir()
			if err := os.Chmod(b.Dir, 0o777); err != nil {
				t.Fatal(err)
			}
		},
	} {
		b, said := newBook(t)
		spoil(&b)
		if b.Count(Jobs.Add(OK, 1)); strings.Count(said.String(), "level=warning") != 1 {
			t.Errorf("%s: %q", what, said)
		}
	}
	for _, c := range []Change{Jobs.Add("a job's own", 1), Jobs.Add("", 1), Reaped.Add(OK, 1), Jobs.Add(OK, -1), Stage.Took("job", -1), {Cleanup, "", math.NaN()}} {
		b, said := newBook(t)
		if b.Count(c); !strings.Contains(said.String(), "not counted") {
			t.Errorf("%v: %q", c, said)
		}
		if _, err := os.Stat(b.File); err == nil {
			t.Errorf("%v is counted", c)
		}
	}
}

// A command that hangs with the lock holds nobody up for long.
func TestLocked(t *testing.T) {
	b, said := newBook(t)
	if err := durable.Folder(b.Dir); err != nil {
		t.Fatal(err)
	}
	lock, err := durable.Lock(t.Context(), b.path()+".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	start := time.Now()
	if b.Count(Jobs.Add(OK, 1)); time.Since(start) > 2*lockTime || !strings.Contains(said.String(), "waited") {
		t.Errorf("%s: %s", time.Since(start), said)
	}
}

func BenchmarkCount(b *testing.B) {
	book := Book{Dir: filepath.Join(b.TempDir(), "data"), File: filepath.Join(b.TempDir(), "x.prom"), Log: logrus.NewEntry(logrus.New())}
	for b.Loop() {
		book.Count(Jobs.Add(OK, 1), Stage.Took("job", time.Second))
	}
	if _, err := os.Stat(book.File); err != nil {
		b.Fatal(fmt.Errorf("nothing was counted: %w", err))
	}
}
