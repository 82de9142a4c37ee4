package secret_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
)

const room = "cr-a1b2c3d4e-4711-0123456789"

func host(t testing.TB, dir string) *hostkey.Key {
	t.Helper()
	k, err := hostkey.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func begin(t *testing.T, dir string) *secret.Journal {
	t.Helper()
	j, err := secret.Begin(dir, host(t, dir), secret.Head{
		Room: room, Job: 4711, Project: "garden/shed", Began: time.Now(), Deadline: time.Now().Add(time.Hour), Runner: contract.Runner(),
	})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func add(t *testing.T, j *secret.Journal, n int) {
	t.Helper()
	id := fmt.Sprint("lease-", n)
	l := secret.Lease{ID: id, Credential: []byte("credential of " + id), Expires: time.Now().Add(time.Minute), Renewable: true}
	if _, err := j.Add("DATABASE_URL", config.Provider{Name: "p", Kind: "exec", Exec: config.Exec{Env: []string{"PASSWORD=canary-env"}}}, l, time.Now()); err != nil {
		t.Fatal(err)
	}
}

// source is a provider that remembers what was taken back.
type source struct {
	t       *testing.T
	revoked []string
	fail    map[string]error
	seen    config.Provider
}

func (s *source) Fetch(context.Context, secret.Request) (secret.Issued, error) {
	return secret.Issued{}, errors.New("not asked for")
}

func (s *source) Renew(context.Context, secret.Lease, time.Time) (time.Time, error) {
	return time.Time{}, errors.New("not asked for")
}

func (s *source) Revoke(_ context.Context, l secret.Lease) error {
	if err := s.fail[l.ID]; err != nil {
		return err
	}
	if string(l.Credential) != "credential of "+l.ID {
		s.t.Errorf("%s came with another credential", l.ID)
	}
	s.revoked = append(s.revoked, l.ID)
	return nil
}

func (s *source) open(p config.Provider) (secret.Provider, error) { s.seen = p; return s, nil }

// revokeAll is what whoever ends a room does.
func revokeAll(t *testing.T, j *secret.Journal, key *hostkey.Key, s *source) ([]secret.Ending, error) {
	t.Helper()
	endings, err := j.Revoke(t.Context(), key, s.open, time.Minute)
	return endings, errors.Join(err, j.Close())
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := begin(t, dir)
	for n := range 3 {
		add(t, j, n)
	}
	if _, err := secret.Find(dir, room, 0); !errors.Is(err, secret.ErrLocked) {
		t.Errorf("while somebody writes: %v", err)
	}
	if err := j.Keep(); err != nil {
		t.Fatal(err)
	}
	rooms, err := secret.Rooms(dir)
	if err != nil || !slices.Equal(rooms, []string{room}) {
		t.Fatalf("%q, %v", rooms, err)
	}
	path := filepath.Join(dir, "leases", room+".jsonl")
	text, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(text), "credential of") || strings.Contains(string(text), "canary-env") || !strings.Contains(string(text), "lease-2") {
		t.Fatalf("%v\n%s", err, text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}

	// What fails stays, the rest is done; the youngest goes first.
	s := &source{t: t, fail: map[string]error{"lease-1": errors.New("away")}}
	if j, err = secret.Find(dir, room, 0); err != nil {
		t.Fatal(err)
	}
	if j.Head.Job != 4711 || j.Over(time.Now()) != "" || j.Over(time.Now().Add(2*time.Hour)) != "its deadline has passed" {
		t.Errorf("%+v", j.Head)
	}
	endings, err := revokeAll(t, j, host(t, dir), s)
	if err == nil || !strings.Contains(err.Error(), "lease lease-1 of secret DATABASE_URL at p: away") || !slices.Equal(s.revoked, []string{"lease-2", "lease-0"}) || len(endings) != 3 {
		t.Fatalf("%v, %q, %+v", err, s.revoked, endings)
	}
	if !slices.Equal(s.seen.Exec.Env, []string{"PASSWORD=canary-env"}) {
		t.Errorf("the provider's settings: %+v", s.seen)
	}
	s = &source{t: t, fail: map[string]error{"lease-1": fmt.Errorf("no: %w", secret.ErrNotRevocable)}}
	if j, err = secret.Find(dir, room, time.Minute); err != nil || len(j.Open) != 1 || j.Over(time.Now()) != "its cleanup began and did not end" {
		t.Fatalf("%v, %+v", err, j)
	}
	if endings, err = revokeAll(t, j, host(t, dir), s); err != nil || endings[0].Outcome != secret.Expires {
		t.Fatalf("%v, %+v", err, endings)
	}
	if _, err = secret.Find(dir, room, time.Minute); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty journal stays: %v", err)
	}
}

// TestJournalIsCutAnywhere: a power cut leaves any part of it.
func TestJournalIsCutAnywhere(t *testing.T) {
	dir := t.TempDir()
	j := begin(t, dir)
	for n := range 2 {
		add(t, j, n)
	}
	j.Keep()
	path := filepath.Join(dir, "leases", room+".jsonl")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := func(b []byte) int { return strings.Count(string(b), "\n") }
	for cut := 0; cut <= len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := secret.Find(dir, room, 0)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if want := max(0, lines(whole[:cut])-1); len(j.Open) != want {
			t.Fatalf("cut at %d: %d leases, want %d", cut, len(j.Open), want)
		}
		j.Keep()
		if left, err := os.ReadFile(path); err != nil || lines(left) != lines(whole[:cut]) || len(left) > 0 && left[len(left)-1] != '\n' {
			t.Fatalf("cut at %d: a torn line stays: %v", cut, err)
		}
	}
}

// TestJournalIsSealed: a line that was moved, or that another host wrote, is
// not revoked in anybody's name.
func TestJournalIsSealed(t *testing.T) {
	dir := t.TempDir()
	j := begin(t, dir)
	add(t, j, 0)
	j.Keep()
	path := filepath.Join(dir, "leases", room+".jsonl")
	text, _ := os.ReadFile(path)
	for name, changed := range map[string]string{
		"other id":   strings.Replace(string(text), `"id":"lease-0"`, `"id":"lease-9"`, 1),
		"other line": strings.Replace(string(text), `"number":1`, `"number":2`, 1),
	} {
		if changed == string(text) {
			t.Fatal(name)
		}
		os.WriteFile(path, []byte(changed), 0o600)
		j, err := secret.Find(dir, room, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := &source{t: t}
		if endings, err := revokeAll(t, j, host(t, dir), s); err == nil || len(s.revoked) > 0 || endings[0].Outcome != secret.Failed {
			t.Errorf("%s: %+v, %v", name, endings, err)
		}
	}
	head := fmt.Sprintf("{\"room\":%q}\n", room)
	for _, bad := range []string{head + "nonsense\n", head + "{}\n", "nonsense\n", "{}\n", head + "{\"lease\":{},\"ended\":1}\n", head + "{\"over\":true,\"ended\":1}\n"} {
		os.WriteFile(path, []byte(bad), 0o600)
		j, err := secret.Find(dir, room, 0)
		if err != nil || j.Damaged == nil || strings.Contains(j.Damaged.Error(), "\n") {
			t.Fatalf("%q: %v", bad, err)
		}
		if _, err := revokeAll(t, j, host(t, dir), &source{t: t}); err == nil {
			t.Errorf("%q: nobody is told", bad)
		}
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestDamagedLine: what cannot be read is told, and keeps no other lease alive.
func TestDamagedLine(t *testing.T) {
	dir := t.TempDir()
	j := begin(t, dir)
	for n := range 3 {
		add(t, j, n)
	}
	j.Keep()
	path := filepath.Join(dir, "leases", room+".jsonl")
	text, _ := os.ReadFile(path)
	lines := strings.SplitAfter(string(text), "\n")
	lines[2] = lines[2][:len(lines[2])/2] + "\n"
	os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600)
	j, err := secret.Find(dir, room, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := &source{t: t}
	if _, err := revokeAll(t, j, host(t, dir), s); err == nil || !strings.Contains(err.Error(), "line 3 is no lease") || !slices.Equal(s.revoked, []string{"lease-2", "lease-0"}) {
		t.Errorf("%v, revoked %q", err, s.revoked)
	}
}

// TestFullDisk: what cannot be journalled is not used, and the journal stays
// whole.
func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "small")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=32k,mode=0700"); err != nil {
		t.Fatalf("tests need root: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	j := begin(t, dir)
	big := secret.Lease{ID: "lease-big", Credential: make([]byte, 4<<10)}
	full := false
	for range 20 {
		if _, err := j.Add("S", config.Provider{Name: "p", Kind: "exec"}, big, time.Now()); err != nil {
			full = true
			break
		}
	}
	if !full {
		t.Fatal("it never gets full")
	}
	for size := 4 << 10; size > 0; size /= 2 { // to its last byte
		for i := 0; os.WriteFile(filepath.Join(dir, fmt.Sprint("fill-", size, i)), make([]byte, size), 0o600) == nil; i++ {
		}
	}
	small := secret.Lease{ID: "lease-small"}
	for full = false; !full; { // the journal's own last page
		_, err := j.Add("S", config.Provider{Name: "p", Kind: "exec"}, small, time.Now())
		full = err != nil
	}
	open := len(j.Open)
	j.Keep()
	j, err := secret.Find(dir, room, 0)
	if err != nil || j.Damaged != nil || len(j.Open) != open || open == 0 {
		t.Fatalf("%v, %v, %d leases of %d", err, j.Damaged, len(j.Open), open)
	}
	// What ends them has its place already.
	s := &source{t: t, fail: map[string]error{"lease-big": secret.ErrNotRevocable, "lease-small": secret.ErrNotRevocable}}
	if endings, err := j.Revoke(t.Context(), host(t, dir), s.open, time.Minute); err != nil || len(endings) != open || len(j.Open) > 0 {
		t.Errorf("%v, %d of %d ended", err, len(endings), open)
	}
	if err := j.Close(); err != nil {
		t.Error(err)
	}
}

// TestOneProviderIsAway: the others' leases do not wait for it.
func TestOneProviderIsAway(t *testing.T) {
	dir := t.TempDir()
	j := begin(t, dir)
	add(t, j, 0)
	if _, err := j.Add("S", config.Provider{Name: "away", Kind: "vault"}, secret.Lease{ID: "held"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	held := make(chan struct{}) // until the other's is revoked
	open := func(p config.Provider) (secret.Provider, error) {
		if p.Name == "away" {
			return waiting{&source{t: t}, held}, nil
		}
		return freeing{&source{t: t}, held}, nil
	}
	if _, err := j.Revoke(t.Context(), host(t, dir), open, time.Hour); err == nil || len(j.Open) != 1 || j.Open[0].ID != "held" {
		t.Errorf("%v, %+v", err, j.Open)
	}
	j.Keep()
}

// waiting is a provider that does not answer.
type waiting struct {
	*source
	held chan struct{}
}

func (w waiting) Revoke(context.Context, secret.Lease) error { <-w.held; return errors.New("away") }

// freeing ends that.
type freeing struct {
	*source
	held chan struct{}
}

func (f freeing) Revoke(ctx context.Context, l secret.Lease) error {
	defer close(f.held)
	return f.source.Revoke(ctx, l)
}

func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "leases", room+".jsonl")
	os.MkdirAll(filepath.Dir(path), 0o700)
	for _, seed := range []string{"", "{}\n", `{"room":"cr-x","deadline":"2026-01-01T00:00:00Z"}` + "\n" + `{"lease":{"number":1,"id":"a","sealed":"AAAA"}}` + "\n" + `{"ended":1}`, "{}\n{\"ended\":-1}\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		j, err := secret.Find(dir, room, 0)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		s := &source{t: &testing.T{}}
		if endings, err := revokeAll(t, j, host(t, dir), s); len(s.revoked) > 0 {
			t.Errorf("revoked what nobody sealed: %+v, %v", endings, err)
		}
	})
}
