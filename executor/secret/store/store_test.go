package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// patience is a timeout that no loaded machine reaches.
const patience = 5 * time.Minute

var epoch = time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)

// clock is moved by hand.
type clock struct{ time.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

// in opens the store of that folder, with a clock of its own.
func in(t testing.TB, dir string) (*Store, *clock) {
	t.Helper()
	s, err := New(config.Provider{Name: "own", Kind: "store", Timeout: patience}, dir)
	if err != nil {
		t.Fatal(err)
	}
	c := &clock{epoch}
	s.now = func() time.Time { return c.Time }
	return s, c
}

func set(t testing.TB, s *Store, name string, c Change) int {
	t.Helper()
	n, err := s.Set(t.Context(), name, c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func plain(text string) Change { return Change{Fields: map[string]string{"value": text}} }

func rotating(t testing.TB, g *Generator, rotate string, grace time.Duration) Change {
	t.Helper()
	r, err := ParseRotation(rotate)
	if err != nil {
		t.Fatal(err)
	}
	return Change{Generator: g, Rotate: &r, Grace: &grace}
}

func random() *Generator {
	return &Generator{Kind: Random, Alphabet: "base64url", Length: DefaultLength}
}

// request of a job for a secret; leases collects what it journals.
func request(name, room string, leases *[]secret.Lease) secret.Request {
	return secret.Request{
		Secret: config.Secret{Name: name},
		Job:    secret.Job{ID: 7, Project: "group/app", Room: room},
		Until:  epoch.Add(2 * time.Hour),
		Journal: func(l secret.Lease) error {
			if leases != nil {
				*leases = append(*leases, l)
			}
			return nil
		},
	}
}

func fetch(t testing.TB, s *Store, r secret.Request) secret.Issued {
	t.Helper()
	got, err := s.Fetch(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// states are a secret's versions, as list shows them.
func states(t testing.TB, s *Store, name string) (all []State) {
	t.Helper()
	infos, err := s.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if info.Name == name {
			for _, v := range info.Versions {
				all = append(all, v.State)
			}
		}
	}
	return all
}

func TestByHand(t *testing.T) {
	s, c := in(t, t.TempDir())
	if n := set(t, s, "db", plain("hunter2")); n != 1 {
		t.Errorf("version %d", n)
	}
	c.pass(time.Minute)
	if n := set(t, s, "db", Change{Fields: map[string]string{"username": "u", "password": "hunter3"}}); n != 2 {
		t.Errorf("version %d", n)
	}
	r := request("DB", "cr-a", nil)
	r.Secret.Path = "db"
	want := secret.Issued{Fields: map[string]string{"username": "u", "password": "hunter3"}, Version: "2", Rotated: epoch.Add(time.Minute)}
	if got := fetch(t, s, r); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for param, want := range map[string]string{"version=previous": "1", "version=1": "1", "version=2": "2", "version=current": "2"} {
		r.Secret.Parameters = []string{param}
		if got := fetch(t, s, r); got.Version != want {
			t.Errorf("%s: version %s, want %s", param, got.Version, want)
		}
	}
	// After the hour that a new secret has for grace the old one is gone:
	// nobody gets it, and the next write destroys it.
	c.pass(time.Hour)
	r.Secret.Parameters = []string{"version=1"}
	if _, err := s.Fetch(t.Context(), r); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("a version after its grace: %v", err)
	}
	if n, err := s.Sweep(t.Context()); n != 1 || err != nil {
		t.Errorf("swept %d, %v", n, err)
	}
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("swept again: %d, %v", n, err)
	}
	doc, err := s.load()
	if err != nil || doc.Secrets["db"].Versions[0].Fields != nil {
		t.Errorf("the value is still there: %v", err)
	}
	if got := states(t, s, "db"); !slices.Equal(got, []State{Destroyed, Current}) {
		t.Errorf("states %v", got)
	}
}

func TestPerJob(t *testing.T) {
	dir := t.TempDir()
	s, _ := in(t, dir)
	if n := set(t, s, "jwt", rotating(t, random(), "job", 0)); n != 0 {
		t.Errorf("version %d before any job", n)
	}
	var leases []secret.Lease
	a, b := fetch(t, s, request("jwt", "cr-a", &leases)), fetch(t, s, request("jwt", "cr-b", &leases))
	again := fetch(t, s, request("jwt", "cr-a", &leases))
	if a.Fields["value"] == b.Fields["value"] || a.Version != "1" || b.Version != "2" {
		t.Error("two jobs share a version")
	}
	if !reflect.DeepEqual(a, again) {
		t.Error("a job's second fetch gave it another version")
	}
	if len(leases) != 3 || leases[0].ID != leases[2].ID || !strings.HasPrefix(leases[0].ID, "store:jwt@1.") ||
		len(leases[0].Credential) > 0 || !leases[0].Expires.Equal(epoch.Add(2*time.Hour)) {
		t.Errorf("leases %+v", leases)
	}
	for range 2 { // twice is no error
		if err := s.Revoke(t.Context(), leases[0]); err != nil {
			t.Error(err)
		}
	}
	if got := states(t, s, "jwt"); !slices.Equal(got, []State{Destroyed, Current}) {
		t.Errorf("states %v", got)
	}
	// A runner that tries again, in the same room, gets a new one.
	if c := fetch(t, s, request("jwt", "cr-a", nil)); c.Fields["value"] == a.Fields["value"] || c.Version != "3" {
		t.Error("a revoked version was given again")
	}
	r := request("jwt", "cr-b", nil)
	r.Secret.Parameters = []string{"version=2"}
	if _, err := s.Fetch(t.Context(), r); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("another job's version: %v", err)
	}
	if _, err := s.Rotate(t.Context(), "jwt"); !errors.Is(err, ErrRotate) {
		t.Errorf("rotated by hand: %v", err)
	}
	if _, err := s.Renew(t.Context(), leases[0], epoch); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("renewed: %v", err)
	}
}

// A lease that was journalled and whose version was lost in a crash must not
// destroy the version that has its number later; nor one of a secret that was
// removed and made anew.
func TestLeaseOfALostVersion(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "jwt", rotating(t, random(), "job", 0))
	var lost []secret.Lease
	r := request("jwt", "cr-a", nil)
	r.Journal = func(l secret.Lease) error { lost = append(lost, l); return errors.New("power cut") }
	if _, err := s.Fetch(t.Context(), r); err == nil || !strings.Contains(err.Error(), "power cut") {
		t.Fatalf("error %v", err)
	}
	if got := states(t, s, "jwt"); len(got) != 0 {
		t.Fatalf("used before it was journalled: %v", got)
	}
	fetch(t, s, request("jwt", "cr-b", &lost))
	if err := s.Remove(t.Context(), "jwt"); err != nil {
		t.Fatal(err)
	}
	set(t, s, "jwt", rotating(t, random(), "job", 0))
	want := fetch(t, s, request("jwt", "cr-c", nil))
	for _, l := range lost {
		if !strings.HasPrefix(l.ID, "store:jwt@1.") {
			t.Errorf("lease %s", l.ID)
		}
		if err := s.Revoke(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
	if got := fetch(t, s, request("jwt", "cr-c", nil)); !reflect.DeepEqual(got, want) {
		t.Error("another lease took this job's version")
	}
	for _, id := range []string{"", "vault:x@1.00000000", "store:../x@1.00000000", "store:x@1", "store:x@99999999999999999999.00000000"} {
		if err := s.Revoke(t.Context(), secret.Lease{ID: id}); err == nil {
			t.Errorf("lease %q was taken", id)
		}
	}
}

// What nobody revoked is destroyed when the job must be over.
func TestPerJobEnds(t *testing.T) {
	s, c := in(t, t.TempDir())
	set(t, s, "jwt", rotating(t, random(), "job", 3*time.Hour))
	fetch(t, s, request("jwt", "cr-a", nil))
	open := request("jwt", "cr-b", nil)
	open.Until = time.Time{}
	fetch(t, s, open)
	for _, step := range []struct {
		pass time.Duration
		want []State
	}{
		{2*time.Hour - time.Second, []State{Current, Current}},
		{time.Second, []State{Destroyed, Current}},
		{time.Hour, []State{Destroyed, Destroyed}}, // of a job without an end: the grace
	} {
		c.pass(step.pass)
		if _, err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := states(t, s, "jwt"); !slices.Equal(got, step.want) {
			t.Errorf("at %s: %v, want %v", c, got, step.want)
		}
	}
}

func TestAfterADuration(t *testing.T) {
	s, c := in(t, t.TempDir())
	if n := set(t, s, "key", rotating(t, random(), "24h", time.Hour)); n != 1 {
		t.Errorf("version %d", n)
	}
	r := request("key", "cr-a", nil)
	r.Journal = func(secret.Lease) error { t.Error("everybody's version is a lease"); return nil }
	first := fetch(t, s, r)
	c.pass(24*time.Hour - time.Second)
	if got := fetch(t, s, r); !reflect.DeepEqual(got, first) {
		t.Error("rotated too early")
	}
	c.pass(time.Second)
	second := fetch(t, s, r)
	if second.Version != "2" || second.Fields["value"] == first.Fields["value"] || !second.Rotated.Equal(c.Time) {
		t.Errorf("version %s of %s", second.Version, second.Rotated)
	}
	r.Secret.Parameters = []string{"version=previous"}
	if got := fetch(t, s, r); !reflect.DeepEqual(got, first) {
		t.Error("the previous version is another")
	}
	// Without grace nothing of the old one stays.
	none := time.Duration(0)
	set(t, s, "key", Change{Grace: &none})
	if n, err := s.Rotate(t.Context(), "key"); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if got := states(t, s, "key"); !slices.Equal(got, []State{Old, Destroyed, Current}) {
		t.Errorf("states %v", got)
	}
}

// Of what is destroyed only the last few records stay.
func TestRecordsEnd(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "key", rotating(t, random(), "never", 0))
	for range 30 {
		if _, err := s.Rotate(t.Context(), "key"); err != nil {
			t.Fatal(err)
		}
	}
	if got := states(t, s, "key"); len(got) != keepRecords+1 || got[len(got)-1] != Current {
		t.Errorf("%d records: %v", len(got), got)
	}
	if got := fetch(t, s, request("key", "cr-a", nil)); got.Version != "31" {
		t.Errorf("version %s", got.Version)
	}
}

func TestRefusals(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "db", plain("hunter2"))
	set(t, s, "jwt", rotating(t, random(), "job", 0))
	tests := map[string]struct {
		name, room string
		params     []string
		words      string
	}{
		"unknown":           {"nope", "cr-a", nil, `"nope": ` + "`cleanroom secret list`"},
		"no such version":   {"db", "cr-a", []string{"version=2"}, "no version 2"},
		"no previous":       {"db", "cr-a", []string{"version=previous"}, "no version previous"},
		"unknown parameter": {"db", "cr-a", []string{"ttl=1h"}, `parameter "ttl=1h"`},
		"negative version":  {"db", "cr-a", []string{"version=-1"}, "version=NUMBER"},
		"no job":            {"jwt", "", nil, "there is no job"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := request(test.name, test.room, nil)
			r.Secret.Parameters = test.params
			_, err := s.Fetch(t.Context(), r)
			if !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.words) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want a refusal with %q", err, test.words)
			}
		})
	}
}

// Looking makes nothing: no folder, no key.
func TestLookingMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, _ := in(t, dir)
	if all, err := s.List(); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := s.Fetch(t.Context(), request("db", "cr-a", nil)); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("%v", err)
	}
	if n, err := s.Sweep(t.Context()); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
	if _, err := New(config.Provider{Store: config.Store{Path: "store.age"}}, dir); err == nil {
		t.Error("a relative path was taken")
	}
}

// Waiting for another process ends with the caller's patience.
func TestLockedOut(t *testing.T) {
	s, _ := in(t, t.TempDir())
	set(t, s, "key", rotating(t, random(), "never", 0))
	inside, leave, done := make(chan bool), make(chan bool), make(chan error)
	go func() {
		done <- s.update(context.Background(), func(*document) (bool, error) { close(inside); <-leave; return false, nil })
	}()
	<-inside
	other, err := New(config.Provider{Timeout: 30 * time.Millisecond}, filepath.Dir(s.Path()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Rotate(t.Context(), "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
