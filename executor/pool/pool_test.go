package pool

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func made(t *testing.T, p Pool, key string) Entry {
	t.Helper()
	f, err := p.Fill(key, Kind{Image: "x", Helper: "h", Profile: "hardened"}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if p.Count(key, time.Time{}, time.Time{}) > 0 {
		t.Fatal("a room that is being made waits")
	}
	if ok, err := f.Done("print"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return f.Entry
}

func TestClaim(t *testing.T) {
	p := Of(t.TempDir())
	now := time.Now()
	if ok, err := p.Claim(crowdKey, now, now, ClaimFor(1, "")); ok || err != nil {
		t.Fatalf("of no pool: %t, %v", ok, err)
	}
	e := made(t, p, crowdKey)
	if !Named(e.Room) || Named("cr-pool-1-0011223344") || Named("cr-pool-"+strings.Repeat("g", 20)) {
		t.Error(e.Room)
	}
	for why, claim := range map[string]func() (bool, error){
		"another key": func() (bool, error) {
			return p.Claim(strings.Repeat("f", 32), now.Add(-time.Hour), now, ClaimFor(1, ""))
		},
		"too old": func() (bool, error) { return p.Claim(crowdKey, now.Add(time.Minute), now, ClaimFor(1, "")) },
		"future":  func() (bool, error) { return claimAt(p, now.Add(time.Hour)) },
		"too long": func() (bool, error) {
			return p.Claim(crowdKey, now.Add(-time.Hour), now.Add(2*time.Hour), ClaimFor(1, ""))
		},
	} {
		if ok, err := claim(); ok || err != nil || p.Count(crowdKey, now.Add(-time.Hour), now) != 1 {
			t.Errorf("%s: %t, %v", why, ok, err)
		}
	}
	c := ClaimFor(4711, "")
	if ok, err := p.Claim(crowdKey, now.Add(-time.Hour), now, c); !ok || err != nil || c.Room != e.Room {
		t.Fatalf("%t, %v, %+v", ok, err, c)
	}
	again := ClaimFor(4712, "")
	if ok, _ := p.Claim(crowdKey, now.Add(-time.Hour), now, again); ok || again.Room != "" {
		t.Fatal("claimed twice")
	}
	if ok, err := p.Expire(e); ok || err != nil {
		t.Errorf("a room that is taken expires: %t, %v", ok, err)
	}
	if err := p.Withdraw(e.Room); err != nil {
		t.Error(err)
	}
	h, err := p.Hold(e.Room, 0)
	if err != nil || h.Claimant.Job != 4711 || h.Claimant.PID != os.Getpid() || h.Print != "print" || h.Late() {
		t.Fatalf("%+v, %v", h, err)
	}
	if _, err := p.Hold(e.Room, 20*time.Millisecond); !errors.Is(err, ErrLocked) {
		t.Errorf("held twice: %v", err)
	}
	h.Release()
	if known, err := p.Known(e.Room); !known || err != nil {
		t.Error(known, err)
	}
	for range 2 {
		if err := p.Forget(e.Room); err != nil {
			t.Error(err)
		}
	}
	if h, err := p.Hold(e.Room, 0); h != nil || err != nil {
		t.Error(h, err)
	}
	if known, _ := p.Known(e.Room); known {
		t.Error("still on the books")
	}
}

// TestFor: only a room that a job could claim counts.
func TestFor(t *testing.T) {
	now := time.Now()
	since, until := now.Add(-time.Hour), now.Add(time.Hour)
	e := Entry{Key: crowdKey, Print: "print", Made: since, Until: until}
	if !e.For(crowdKey, since, until) {
		t.Error("the very room")
	}
	for why, change := range map[string]func(*Entry){
		"another key":       func(e *Entry) { e.Key = "other" },
		"unknown":           func(e *Entry) { e.Print = "" },
		"too old":           func(e *Entry) { e.Made = since.Add(-1) },
		"ends too early":    func(e *Entry) { e.Until = until.Add(-1) },
		"a clock, set back": func(e *Entry) { e.Made = now.Add(time.Minute) },
	} {
		other := e
		if change(&other); other.For(crowdKey, since, until) {
			t.Error(why)
		}
	}
}

// TestWant: what is known of a kind is kept when a job has it again, and its time
// does not go back.
func TestWant(t *testing.T) {
	p, now := Of(t.TempDir()), time.Now().Round(0)
	for _, w := range []Wish{{Memory: 5}, {At: now, Timeout: time.Hour}, {At: now.Add(-time.Hour)}, {Timeout: time.Minute, Failed: now}, {At: now.Add(time.Hour)}, {At: now}} {
		w.Key = crowdKey
		if err := p.Want(w); err != nil {
			t.Fatal(err)
		}
	}
	all, err := p.Wishes()
	if err != nil || len(all) != 1 || !all[0].At.Equal(now) || all[0].Memory != 5 || all[0].Timeout != time.Hour || !all[0].Failed.Equal(now) {
		t.Errorf("%+v, %v", all, err)
	}
	for n := range maxWishes {
		if err := p.Want(Wish{Key: fmt.Sprintf("%032x", n), At: now.Add(time.Duration(n+1) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	all, err = p.Wishes()
	if err != nil || len(all) != maxWishes || !all[0].At.After(all[1].At) || p.Wished(crowdKey) {
		t.Errorf("%d, %v: the oldest is not forgotten", len(all), err)
	}
}

// TestBrokenEntry: what nobody can read no job is given.
func TestBrokenEntry(t *testing.T) {
	for _, text := range []string{"", "{", `{"room":"cr-pool-00000000000000000000"}`} {
		p := Of(t.TempDir())
		e := made(t, p, crowdKey)
		if err := os.WriteFile(p.path(ready, e.Key+"."+e.Room), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if ok, err := p.Claim(crowdKey, time.Time{}, time.Time{}, ClaimFor(1, "")); ok || err != nil {
			t.Errorf("%q: %t, %v", text, ok, err)
		}
		all, err := p.Ready()
		if err != nil || len(all) != 1 || all[0].Room != e.Room || all[0].Print != "" {
			t.Errorf("%q: %+v, %v", text, all, err)
		}
		if ok, err := p.Expire(all[0]); !ok || err != nil { // but it is thrown away
			t.Error(ok, err)
		}
	}
}

func TestAbandoned(t *testing.T) {
	p := Of(t.TempDir())
	f, err := p.Fill(crowdKey, Kind{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Abandoned(); err != nil {
		t.Fatal(err)
	}
	if gone, _ := p.Gone(); len(gone) > 0 {
		t.Fatal("its maker lives")
	}
	f.f.Close() // as the kernel does for the dead
	if err := p.Abandoned(); err != nil {
		t.Fatal(err)
	}
	if gone, _ := p.Gone(); len(gone) != 1 || gone[0] != f.Room {
		t.Errorf("%q", gone)
	}
}

// TestWithdrawnWhileMade: whoever makes a room that is no longer wanted hears of
// it, and no job gets it.
func TestWithdrawnWhileMade(t *testing.T) {
	p := Of(t.TempDir())
	f, err := p.Fill(crowdKey, Kind{}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Withdraw(f.Room); err != nil {
		t.Fatal(err)
	}
	if ok, err := f.Done("print"); ok || err != nil || p.Count(crowdKey, time.Time{}, time.Time{}) > 0 {
		t.Errorf("%t, %v", ok, err)
	}
}

// TestLateClaim: one that won nothing goes, one that may yet win stays.
func TestLateClaim(t *testing.T) {
	p := Of(t.TempDir())
	e := made(t, p, crowdKey)
	for _, room := range []string{e.Room, "cr-pool-00000000000000000000"} {
		if err := write(p.path(claims, room+".0123456789abcdef"), ClaimFor(1, "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Tidy(); err != nil {
		t.Fatal(err)
	}
	if left, _ := p.list(claims); len(left) != 1 || !strings.HasPrefix(left[0], e.Room) {
		t.Errorf("%q", left)
	}
}

// claimAt is a claim of a room that says it was made then.
func claimAt(p Pool, then time.Time) (bool, error) {
	all, err := p.Ready()
	if err != nil || len(all) != 1 {
		return false, fmt.Errorf("%d rooms: %w", len(all), err)
	}
	e := all[0]
	file := p.path(ready, e.Key+"."+e.Room)
	was := e.Made
	e.Made = then
	if err := write(file, e); err != nil {
		return false, err
	}
	ok, err := p.Claim(e.Key, then.Add(-time.Hour), then.Add(-time.Hour), ClaimFor(1, ""))
	e.Made = was
	return ok, errors.Join(err, write(file, e))
}

// TestIDThatIsAPipe: nobody waits for its writer.
func TestIDThatIsAPipe(t *testing.T) {
	p := Of(t.TempDir())
	if _, err := p.ID(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(p.path("id")), unix.Mkfifo(p.path("id"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if id, err := p.ID(); err == nil {
		t.Errorf("%q", id)
	}
}

func TestID(t *testing.T) {
	p := Of(t.TempDir())
	var ids [20]string
	var work sync.WaitGroup
	for i := range ids {
		work.Go(func() {
			var err error
			if ids[i], err = p.ID(); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	for _, id := range ids {
		if id != ids[0] || !keyRE.MatchString(id) {
			t.Fatalf("%q", ids)
		}
	}
}
