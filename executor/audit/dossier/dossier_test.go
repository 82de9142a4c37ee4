package dossier

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/record/schema"
)

func init() { record.Check = schema.Check }

const room = "cr-runner-4711-0011223344"

var began = time.Date(2026, 11, 26, 21, 0, 0, 0, time.UTC)

// list is a log in memory, whose writer may be killed.
type list struct {
	mu      sync.Mutex
	records [][]byte
	fail    func(n int) error // before the n-th append
	died    func(n int) error // after it, when it is in the log
}

func (l *list) Append(text []byte) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.records)
	if l.fail != nil {
		if err := l.fail(n); err != nil {
			return 0, err
		}
	}
	l.records = append(l.records, bytes.Clone(text))
	if l.died != nil {
		if err := l.died(n); err != nil {
			return 0, err
		}
	}
	return int64(n), nil
}

func (l *list) Size() (int64, error) { return int64(len(l.records)), nil }

func (l *list) Find(id string, from int64) (int64, bool, error) {
	for i := from; i < int64(len(l.records)); i++ {
		if r, err := record.Decode(l.records[i]); err == nil && r.ID == id {
			return i, true, nil
		}
	}
	return 0, false, nil
}

// ending makes records as the executor does.
func ending(complete bool) func(State) *record.Record {
	return func(s State) *record.Record {
		r := &record.Record{Kind: record.OfJob, At: began.Add(time.Minute), Host: record.Host{Name: "ci", Cleanroom: "1"}, By: record.By{Command: "cleanup"}}
		end := record.End{Why: "the job is over", Complete: complete}
		if id, ok := s.Recorded(); ok {
			r.Kind, r.Reap = record.OfReap, &record.Reap{Room: room, Record: id, End: end}
			return r
		}
		job := s.Job
		job.Outcome, job.End, job.Gaps = record.OK, end, s.Gaps
		r.Job = &job
		return r
	}
}

func begin(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := Begin(dir, Head{Room: room, Job: 4711, Project: "group/project", Began: began}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mustAdd(t *testing.T, dir string, lines ...Line) {
	t.Helper()
	for _, l := range lines {
		if err := Add(dir, room, l, false); err != nil {
			t.Fatal(err)
		}
	}
}

func one(t *testing.T, l *list, i int) *record.Record {
	t.Helper()
	if i >= len(l.records) {
		t.Fatalf("the log has %d records", len(l.records))
	}
	r, err := record.Decode(l.records[i])
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestJob(t *testing.T) {
	dir := begin(t)
	zero := 0
	mustAdd(t, dir,
		Line{Facts: []record.Fact{{Fact: "ref", Is: "main", Source: "s"}}, Policy: strings.Repeat("ab", 32), Profile: "hardened"},
		Line{Secrets: []record.Secret{{Name: "a", Provider: "p", Issued: began, Revocable: true}}},
		Line{Began: &record.Stage{Stage: "get_sources", Container: "helper", Began: began}},
		Line{Ended: &record.Stage{Stage: "get_sources", Container: "helper", Began: began, Exit: &zero, Result: "ok"}},
		Line{Began: &record.Stage{Stage: "step_script", Container: "job", Began: began}},
		Line{Leases: []record.Secret{{Name: "a", Provider: "p", Leases: []record.Lease{{ID: "1", Outcome: "revoked"}}}}},
	)
	l := &list{}
	index, err := Close(dir, room, l, ending(true), true)
	if err != nil || index != 0 {
		t.Fatal(index, err)
	}
	j := one(t, l, 0).Job
	if j.Job != 4711 || !j.Began.Equal(began) || j.Facts[0].Is != "main" || j.Profile != "hardened" || j.Tries != 0 || len(j.Gaps) != 0 {
		t.Errorf("%+v", j)
	}
	if len(j.Stages) != 2 || j.Stages[0].Result != "ok" || j.Stages[1].Result != "unknown" {
		t.Errorf("stages %+v", j.Stages)
	}
	if len(j.Secrets) != 1 || j.Secrets[0].Outcome != "revoked" {
		t.Errorf("secrets %+v", j.Secrets)
	}
	if rooms, err := Rooms(dir, time.Now().Add(time.Hour)); len(rooms) != 0 || err != nil {
		t.Errorf("left: %v, %v", rooms, err)
	}
	if err := Add(dir, room, Line{Policy: "x"}, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stage that is late: %v", err)
	}
}

// A second prepare in the room begins anew, but what the first ran and gave
// did happen.
func TestSecondPrepare(t *testing.T) {
	dir := begin(t)
	mustAdd(t, dir, Line{Facts: []record.Fact{{Fact: "ref", Is: "old", Source: "s"}}, Secrets: []record.Secret{{Name: "a", Provider: "p", Revocable: true, Issued: began}}},
		Line{Began: &record.Stage{Stage: "prepare"}})
	if err := Begin(dir, Head{Room: room, Job: 4711, Began: began}); err != nil {
		t.Fatal(err)
	}
	mustAdd(t, dir, Line{Facts: []record.Fact{{Fact: "ref", Is: "new", Source: "s"}}, Began: &record.Stage{Stage: "prepare"}}, Line{Ended: &record.Stage{Stage: "prepare", Result: "ok"}})
	j := Read(dir, room).Job
	if j.Tries != 2 || len(j.Facts) != 1 || j.Facts[0].Is != "new" || len(j.Secrets) != 1 || j.Secrets[0].Outcome != "unknown" {
		t.Errorf("%+v", j)
	}
	if len(j.Stages) != 2 || j.Stages[0].Result != "unknown" || j.Stages[1].Result != "ok" {
		t.Errorf("%+v", j.Stages)
	}
}

// Wherever the closer dies, the log has one record of each ending in the end.
func TestCrashes(t *testing.T) {
	crash := errors.New("killed")
	once := func(at int) func(int) error {
		died := false
		return func(n int) error {
			if n == at && !died {
				died = true
				return crash
			}
			return nil
		}
	}
	for name, l := range map[string]*list{
		"never":             {},
		"before the append": {fail: once(0)},
		"after the append":  {died: once(0)},
		"after the reap's":  {died: once(1)},
	} {
		dir := begin(t)
		for n, complete := range []bool{false, true} {
			_, err := Close(dir, room, l, ending(complete), complete)
			if errors.Is(err, crash) {
				_, err = Close(dir, room, l, ending(complete), complete)
			}
			if err != nil {
				t.Fatalf("%s, ending %d: %v", name, n, err)
			}
		}
		if len(l.records) != 2 {
			t.Fatalf("%s: %d records", name, len(l.records))
		}
		job, reap := one(t, l, 0), one(t, l, 1)
		if job.Kind != record.OfJob || reap.Kind != record.OfReap || reap.Reap.Record != job.ID || reap.ID == job.ID {
			t.Errorf("%s: %+v, %+v", name, job, reap)
		}
	}
}

// Whoever had the record and died before the room was off the books: what
// comes next is a later ending, not the job once more.
func TestEndedAgain(t *testing.T) {
	dir, l := begin(t), &list{}
	for range 3 {
		if _, err := Close(dir, room, l, ending(true), true); err != nil {
			t.Fatal(err)
		}
	}
	if len(l.records) != 3 || one(t, l, 0).Kind != record.OfJob || one(t, l, 1).Kind != record.OfReap || one(t, l, 1).ID == one(t, l, 2).ID {
		t.Errorf("%s", l.records)
	}
}

// A dossier that is missing, damaged or hostile gives a record that says so.
func TestDamaged(t *testing.T) {
	good := func(t *testing.T, dir string) []byte {
		mustAdd(t, dir, Line{Policy: strings.Repeat("ab", 32)}, Line{Profile: "strict"})
		text, err := os.ReadFile(pathOf(dir, room))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	write := func(t *testing.T, dir string, text []byte) {
		if err := os.WriteFile(pathOf(dir, room), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, dir string)
		gap    string
		knows  bool // whose job it was
	}{
		"missing":          {func(t *testing.T, dir string) { os.Remove(pathOf(dir, room)) }, missing, false},
		"empty":            {func(t *testing.T, dir string) { write(t, dir, nil) }, "no beginning", false},
		"torn at its end":  {func(t *testing.T, dir string) { b := good(t, dir); write(t, dir, b[:len(b)-4]) }, torn, true},
		"torn and goes on": {func(t *testing.T, dir string) { b := good(t, dir); write(t, dir, b[:len(b)-4]); good(t, dir) }, torn, true},
		"zeros":            {func(t *testing.T, dir string) { write(t, dir, append(good(t, dir), make([]byte, 5000)...)) }, torn, true},
		"a line too long": {func(t *testing.T, dir string) {
			write(t, dir, append(bytes.Repeat([]byte("x"), maxLine*2+7), good(t, dir)...))
		}, torn, true},
		"many bad lines": {func(t *testing.T, dir string) { write(t, dir, append([]byte("{}x\nnull y\n[\n"), good(t, dir)...)) }, "3 lines", true},
		"an unknown field": {func(t *testing.T, dir string) {
			write(t, dir, append([]byte(`{"password":"x"}`+"\n"), good(t, dir)...))
		}, torn, true},
		"another room's": {func(t *testing.T, dir string) {
			write(t, dir, bytes.ReplaceAll(good(t, dir), []byte("4711-00"), []byte("4711-01")))
		}, foreign, false},
		"what fits no schema": {func(t *testing.T, dir string) { mustAdd(t, dir, Line{Policy: "no hash"}) }, "was damaged", false},
		"a link": {func(t *testing.T, dir string) {
			os.Remove(pathOf(dir, room))
			os.Symlink("/etc/passwd", pathOf(dir, room))
		}, unusable, false},
		"a folder":        {func(t *testing.T, dir string) { os.Remove(pathOf(dir, room)); os.Mkdir(pathOf(dir, room), 0o700) }, unusable, false},
		"others' to read": {func(t *testing.T, dir string) { os.Chmod(pathOf(dir, room), 0o644) }, unusable, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := begin(t)
			c.damage(t, dir)
			l := &list{}
			if _, err := Close(dir, room, l, ending(true), true); err != nil {
				t.Fatal(err)
			}
			j := one(t, l, 0).Job
			if len(j.Gaps) == 0 || !strings.Contains(strings.Join(j.Gaps, "\n"), c.gap) || j.Room != room || j.End.Why == "" || (j.Job == 4711) != c.knows {
				t.Errorf("%+v", j)
			}
		})
	}
}

func TestFull(t *testing.T) {
	dir := begin(t)
	var big Line
	for range 200 {
		big.Guard = append(big.Guard, record.Finding{Stage: "a", Path: strings.Repeat("\x01", 300), Action: "warned"})
	}
	var err error
	for n := 0; err == nil; n++ {
		if n > 100 {
			t.Fatal("no bound")
		}
		err = Add(dir, room, big, false)
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	l := &list{}
	for _, complete := range []bool{false, true} {
		if _, err := Close(dir, room, l, ending(complete), complete); err != nil {
			t.Fatal(err)
		}
	}
	if one(t, l, 0).Kind != record.OfJob || one(t, l, 1).Kind != record.OfReap || !strings.Contains(fmt.Sprint(one(t, l, 0).Job.Gaps), "was full") {
		t.Errorf("%s", l.records)
	}
}

// What a job can have at most fits, however its author names things; what is
// more is said to be left out.
func TestLarge(t *testing.T) {
	dir := begin(t)
	long := strings.Repeat("\x01", 2000)
	var l Line
	for range 450 {
		l.Decisions = append(l.Decisions, record.Decision{Kind: "secret", Name: long, Reason: long, Stages: []string{long}})
	}
	ended := record.Stage{Stage: "a", Result: "ok"}
	for i := range 10_000 {
		ended.Redacted = append(ended.Redacted, record.Count{Name: fmt.Sprint(i, long), Times: 1})
	}
	mustAdd(t, dir, l, Line{Began: &ended}, Line{Ended: &ended, Profile: "strict"})
	s := Read(dir, room)
	if len(s.Job.Decisions) != 400 || len(s.Job.Stages) != 1 || len(s.Job.Stages[0].Redacted) != 50 || s.Job.Profile != "strict" || len(s.Gaps) != 2 {
		t.Errorf("%d decisions, %d stages, %q", len(s.Job.Decisions), len(s.Job.Stages), s.Gaps)
	}
}

// Two that end a room at once give two records, of which one is the job's.
func TestTwoClosers(t *testing.T) {
	dir := begin(t)
	l := &list{}
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			if _, err := Close(dir, room, l, ending(false), false); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	ids := map[string]bool{}
	jobs := 0
	for i := range l.records {
		r := one(t, l, i)
		ids[r.ID] = true
		if r.Kind == record.OfJob {
			jobs++
		}
	}
	if jobs != 1 || len(ids) != 8 {
		t.Errorf("%d records, %d ids, %d of jobs", len(l.records), len(ids), jobs)
	}
}

func TestOutcome(t *testing.T) {
	lease := func(outcomes ...string) (all []record.Lease) {
		for i, o := range outcomes {
			all = append(all, record.Lease{ID: fmt.Sprint(i), Outcome: o})
		}
		return all
	}
	for want, s := range map[string]record.Secret{
		"revoked":  {Revocable: true, Issued: began, Leases: lease("revoked", "revoked")},
		"failed":   {Revocable: true, Issued: began, Leases: lease("revoked", "failed")},
		"unknown":  {Revocable: true, Issued: began, Leases: lease("revoked", "unknown")},
		"expires":  {Issued: began, Expires: began.Add(time.Hour), Leases: lease("revoked")},
		"standing": {Issued: began, Leases: lease("revoked")}, // only the login is gone
	} {
		if got := Outcome(s); got != want {
			t.Errorf("%+v: %s, want %s", s, got, want)
		}
	}
	for name, s := range map[string]record.Secret{"no lease noted": {Revocable: true, Issued: began}} {
		if got := Outcome(s); got != "unknown" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func FuzzGather(f *testing.F) {
	dir := f.TempDir()
	Begin(dir, Head{Room: room, Job: 1, Began: began})
	Add(dir, room, Line{Ended: &record.Stage{Stage: "a", Result: "ok"}, Mark: &mark{ID: "x", Recorded: true}}, false)
	text, err := os.ReadFile(filepath.Join(folder(dir), room+ext))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte("\n{\"secrets\":[{\"name\":\"a\"}]}\n{\"leases\":[{\"name\":\"a\",\"leases\":[{\"id\":\"1\"}]}]}\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := gather(room, bytes.NewReader(text))
		if again := gather(room, bytes.NewReader(text)); !reflect.DeepEqual(s, again) {
			t.Error("read in two ways")
		}
		r := ending(true)(s)
		r.ID = record.MakeID(record.OfJob, room)
		if encoded, err := r.Encode(); err != nil {
			if _, err := salvage(r, err).Encode(); err != nil {
				t.Error(err)
			}
		} else if _, err := record.Decode(encoded); err != nil {
			t.Error(err)
		}
	})
}
