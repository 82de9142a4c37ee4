package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/record/schema"
	"cleanroom/executor/secret/hostkey/durable"
)

func init() { record.Check = schema.Check }

// memory is a log that can be asked, and that fails when it is told to.
type memory struct {
	all []*record.Record
	err error
	// looked is from where the last search began.
	looked int64
}

func (m *memory) Append(text []byte) (int64, error) {
	if m.err != nil {
		return 0, m.err
	}
	r, err := record.Decode(text)
	if err != nil {
		return 0, err
	}
	m.all = append(m.all, r)
	return int64(len(m.all)) - 1, nil
}

func (m *memory) Size() (int64, error) { return int64(len(m.all)), nil }

func (m *memory) Find(id string, from int64) (int64, bool, error) {
	m.looked = from
	i := slices.IndexFunc(m.all[from:], func(r *record.Record) bool { return r.ID == id })
	return from + int64(i), i >= 0, nil
}

func (m *memory) names() (names []string) {
	for _, r := range m.all {
		names = append(names, r.Secret.Name+strings.TrimPrefix(r.By.Command, "secret set"))
	}
	return names
}

// change is a record of a secret that was set.
func change(t *testing.T, name string) (id, text string) {
	t.Helper()
	r := &record.Record{Kind: record.OfSecret, ID: record.MakeID(record.OfSecret, name), At: time.Now(), By: record.By{Command: "secret set"},
		Secret: &record.Change{Name: name, Provider: "store", Action: "set"}}
	b, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return r.ID, string(b)
}

// put has an entry be kept, or be no more than a draft; it is somebody's still
// until it is closed.
func put(t *testing.T, q queue.Queue, name string, draft bool, from int64) *queue.Place {
	t.Helper()
	id, text := change(t, name)
	p := must(q.Take(t.Context(), q.Name(id)))(t)
	e := queue.Entry{From: from, Record: text}
	err := p.Draft(e)
	if !draft {
		err = errors.Join(err, p.Keep(e))
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestDrain(t *testing.T) {
	q, log := queue.Of(t.TempDir()), &memory{err: errors.New("no space")}
	if err := q.Drain(t.Context(), log); err != nil {
		t.Errorf("none was made: %v", err)
	}
	for i := range 12 {
		if err := put(t, q, fmt.Sprint(i), false, 0).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Drain(t.Context(), log); !errors.Is(err, queue.ErrLog) || !errors.Is(err, log.err) || strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("a log that takes nothing: %v", err)
	}
	if n, _, err := q.Waiting(); n != 12 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
	log.err = nil
	if err := errors.Join(q.Drain(t.Context(), log), q.Drain(t.Context(), log)); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(log.names()); got != "[0 1 2 3 4 5 6 7 8 9 10 11]" {
		t.Error(got)
	}
	if n, bad, err := q.Waiting(); n+bad != 0 || err != nil {
		t.Errorf("%d wait, %v", n, err)
	}
}

// An entry that is in the log already is not put there again; nor is it looked
// for where it cannot be.
func TestOnce(t *testing.T) {
	q, log := queue.Of(t.TempDir()), &memory{}
	_, other := change(t, "other")
	_, text := change(t, "x")
	for _, one := range []string{other, text} {
		must(log.Append([]byte(one)))(t)
	}
	p := put(t, q, "x", false, 1)
	if err := errors.Join(p.Close(), q.Drain(t.Context(), log)); err != nil || len(log.all) != 2 || log.looked != 1 {
		t.Errorf("%v: %q, from %d", err, log.names(), log.looked)
	}
	log.all = nil // another log
	p = put(t, q, "x", false, 1)
	if err := errors.Join(p.Close(), q.Drain(t.Context(), log)); err != nil || len(log.all) != 1 {
		t.Errorf("%v: %q", err, log.names())
	}
}

// What somebody works on is left to him, and what he left undone when he died
// is told as that.
func TestDraft(t *testing.T) {
	q, log := queue.Of(t.TempDir()), &memory{}
	begun := put(t, q, "begun", true, 0)
	done := put(t, q, "done", false, 0)
	if err := done.Close(); err != nil {
		t.Fatal(err)
	}
	undone := put(t, q, "undone", true, 0)
	if err := errors.Join(undone.Drop(), q.Drain(t.Context(), log)); err != nil || fmt.Sprint(log.names()) != "[done]" {
		t.Errorf("%v: %q", err, log.names())
	}
	if err := errors.Join(begun.Close(), q.Drain(t.Context(), log)); err != nil || fmt.Sprint(log.names()) != "[done begun (cut short: it may be done)]" {
		t.Errorf("%v: %q", err, log.names())
	}
	if left := must(os.ReadDir(q.Dir))(t); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// Of a change whose end was kept, but whose draft is there still, the end
// counts.
func TestKeptAndDraft(t *testing.T) {
	q, log := queue.Of(t.TempDir()), &memory{}
	p := put(t, q, "x", true, 0)
	name := must(filepath.Glob(filepath.Join(q.Dir, "*.draft")))(t)[0]
	text := must(os.ReadFile(name))(t)
	if err := errors.Join(durable.Write(strings.TrimSuffix(name, ".draft")+".record", text), p.Close(), q.Drain(t.Context(), log)); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(log.names()); got != "[x]" {
		t.Error(got)
	}
	if left := must(os.ReadDir(q.Dir))(t); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// An entry that somebody damaged is in nobody's way, and not forgotten.
func TestDamaged(t *testing.T) {
	for what, damage := range map[string]func(path string) error{
		"empty":           func(path string) error { return os.Truncate(path, 0) },
		"another's":       func(path string) error { return os.Chmod(path, 0o666) },
		"a strange entry": func(path string) error { return os.WriteFile(path, []byte(`{"record":"{}"}`), 0o600) },
	} {
		q, log := queue.Of(t.TempDir()), &memory{}
		for _, name := range []string{"bad", "good"} {
			if err := put(t, q, name, false, 0).Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := damage(must(filepath.Glob(filepath.Join(q.Dir, "*.record")))(t)[0]); err != nil {
			t.Fatal(err)
		}
		if err := q.Drain(t.Context(), log); !errors.Is(err, queue.ErrUnusable) || fmt.Sprint(log.names()) != "[good]" {
			t.Errorf("%s: %v, %q", what, err, log.names())
		}
		if n, bad, err := q.Waiting(); n != 0 || bad != 1 || err != nil {
			t.Errorf("%s: %d wait, %d cannot be used, %v", what, n, bad, err)
		}
		if err := q.Drain(t.Context(), log); err != nil || len(log.all) != 1 {
			t.Errorf("%s, once more: %v", what, err)
		}
	}
}

// While one drains, another waits, or leaves it to him.
func TestOneDrains(t *testing.T) {
	q, log := queue.Of(t.TempDir()), &memory{}
	if err := put(t, q, "x", false, 0).Close(); err != nil {
		t.Fatal(err)
	}
	held := must(durable.Try(filepath.Join(q.Dir, "lock")))(t)
	if err := q.TryDrain(log); err != nil || len(log.all) > 0 {
		t.Errorf("%v: %q", err, log.names())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := q.Drain(ctx, log); !errors.Is(err, context.DeadlineExceeded) || len(log.all) > 0 {
		t.Errorf("%v: %q", err, log.names())
	}
	if err := held.Unlock(); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(10 * time.Second); len(log.all) == 0; time.Sleep(time.Millisecond) { // the wait given up gets its turn first
		if err := q.TryDrain(log); err != nil || time.Now().After(end) {
			t.Fatalf("%v: %q", err, log.names())
		}
	}
	if len(log.all) != 1 {
		t.Errorf("%q", log.names())
	}
}

// Names are in the order in which they were given, whatever the clock says.
func TestName(t *testing.T) {
	q := queue.Of(t.TempDir())
	later := fmt.Sprintf("%020d-%s", time.Now().Add(time.Hour).UnixNano(), "00")
	p := must(q.Take(t.Context(), later))(t)
	defer p.Close()
	if next := q.Name("00"); next <= later {
		t.Errorf("%s comes before %s", next, later)
	}
}
