package log_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/tree"
	"cleanroom/executor/audit/verify"
)

const origin = "ci.example.com/cleanroom"

func TestLog(t *testing.T) {
	l, source := newLog(t)
	cp := must(l.Checkpoint())(t)
	if cp.Size != 0 || cp.Origin != origin {
		t.Fatalf("%+v", cp)
	}
	for i := range 300 {
		a := must(l.Append(t.Context(), source, record(i)))(t)
		if a.Index != int64(i) || a.Checkpoint.Size != a.Index+1 {
			t.Fatalf("%+v", a)
		}
	}
	a := must(l.Append(t.Context(), source, record(300), record(301), record(302)))(t)
	if a.Index != 300 {
		t.Fatalf("%+v", a)
	}
	cp = must(l.Checkpoint())(t)
	if !bytes.Equal(cp.Note, a.Checkpoint.Note) {
		t.Error("not the newest checkpoint")
	}
	for _, i := range []int{0, 255, 256, 299, 302} {
		got := must(l.Record(cp, int64(i)))(t)
		if !bytes.Equal(got, record(i)) {
			t.Errorf("record %d is %q", i, got)
		}
		p := must(l.ProveRecord(cp, int64(i)))(t)
		if err := tlog.CheckRecord(p, cp.Size, cp.Root, int64(i), tlog.RecordHash(got)); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.Record(cp, 303); !errors.Is(err, tree.ErrRecord) {
		t.Error(err)
	}
	next := 250
	if err := l.Each(cp, 250, func(index int64, r []byte) error {
		if index != int64(next) || !bytes.Equal(r, record(next)) {
			t.Errorf("record %d is %q", index, r)
		}
		next++
		return nil
	}); err != nil || next != 303 {
		t.Error(next, err)
	}
	stop := errors.New("stop")
	if err := l.Each(cp, 0, func(int64, []byte) error { return stop }); err != stop {
		t.Error(err)
	}
}

// A client of C2SP's tlog-tiles that is not ours reads the folder behind a web
// server.
func TestOtherClient(t *testing.T) {
	l, source := newLog(t)
	var list [][]byte
	for i := range 700 {
		list = append(list, record(i))
	}
	must(l.Append(t.Context(), source, list...))(t)
	server := httptest.NewServer(http.FileServer(http.Dir(l.Store().Dir)))
	defer server.Close()
	resp := must(http.Get(server.URL + "/checkpoint"))(t)
	msg := must(io.ReadAll(resp.Body))(t)
	v := must(note.NewVerifier(l.Keys().First))(t)
	n := must(note.Open(msg, note.VerifierList(v)))(t)
	cp := must(torchwood.ParseCheckpoint(n.Text))(t)
	client := must(torchwood.NewClient(must(torchwood.NewTileFetcher(server.URL))(t)))(t)
	next := int64(0)
	for range 2 { // it leaves the partial tile for later
		for i, r := range client.Entries(t.Context(), cp.Tree, next) {
			if i != next || !bytes.Equal(r, record(int(i))) {
				t.Fatalf("record %d is %q", i, r)
			}
			next++
		}
	}
	if client.Err() != nil || next != 700 {
		t.Error(next, client.Err())
	}
}

func TestRotate(t *testing.T) {
	l, source := newLog(t)
	first := l.Keys().First
	must(l.Append(t.Context(), source, record(0)))(t)
	path := keyPath(l)
	next := must(key.Create(path+key.Next, origin))(t)
	stranger := must(key.Create(filepath.Join(t.TempDir(), "key"), "elsewhere.example.com/log"))(t)
	if _, err := l.Rotate(t.Context(), source, stranger, record(1)); !errors.Is(err, key.ErrChain) {
		t.Error(err)
	}
	a := must(l.Rotate(t.Context(), source, next, []byte(`{"kind":"key"}`)))(t)
	old, now := must(key.Public(first))(t), must(key.Public(next.VKey()))(t)
	for _, v := range []note.Verifier{old, now} {
		if _, _, err := checkpoint.Open(a.Checkpoint.Note, note.VerifierList(v)); err != nil {
			t.Errorf("the change is not signed by %08x: %v", v.KeyHash(), err)
		}
	}
	// As if we were killed here: the next append finds the new key.
	must(l.Append(t.Context(), source, record(2)))(t)
	if loaded := must(key.Load(path))(t); loaded.VKey() != next.VKey() {
		t.Error("the new key is not in the old one's place")
	}
	if _, err := os.Lstat(path + key.Next); err == nil {
		t.Error("the new key is still beside it")
	}
	again := must(log.Open(l.Store().Dir))(t)
	cp := must(again.Checkpoint())(t)
	if _, _, err := checkpoint.Open(cp.Note, note.VerifierList(old)); !errors.Is(err, checkpoint.ErrNotOurs) {
		t.Errorf("the old key signs still: %v", err)
	}
	r := must(verify.Log(t.Context(), l.Store().Dir, verify.Options{First: first, Known: []verify.Known{{Name: "job", Note: a.Checkpoint.Note}}}))(t)
	if r.Err() != nil || r.Records != 3 || len(r.Consistent) != 1 || r.Keys.Changes[0].Size != 2 {
		t.Errorf("%+v", r)
	}
	if _, err := l.Rotate(t.Context(), source, next, record(3)); !errors.Is(err, key.ErrChain) {
		t.Error(err)
	}
}

// A change of the key that was decided when its process was killed, or the
// machine lost power, is finished with its statement.
func TestRotateKilled(t *testing.T) {
	l, source := newLog(t)
	must(l.Append(t.Context(), source, record(0)))(t)
	path, keys := l.Store().CheckpointPath(), filepath.Join(l.Store().Dir, "keys")
	oldCheckpoint, oldKeys := must(os.ReadFile(path))(t), must(os.ReadFile(keys))(t)
	next := must(key.Create(keyPath(l)+key.Next, origin))(t)
	must(l.Rotate(t.Context(), source, next, []byte(`{"kind":"key"}`)))(t)
	if err := errors.Join(os.Rename(path, path+".new"), os.WriteFile(path, oldCheckpoint, 0o600), os.WriteFile(keys, oldKeys, 0o600)); err != nil {
		t.Fatal(err)
	}
	again := must(log.Open(l.Store().Dir))(t)
	if err := again.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := must(again.Append(t.Context(), source, record(2)))(t); a.Index != 2 || again.Keys().Current() != next.VKey() {
		t.Errorf("index %d, key %s", a.Index, again.Keys().Current())
	}
	r := must(verify.Log(t.Context(), l.Store().Dir, verify.Options{First: again.Keys().First}))(t)
	if r.Err() != nil || len(r.Keys.Changes) != 1 {
		t.Error(r.Err())
	}
}

// A disk that is full takes nothing of what was there, and takes more when it
// has space again.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=6m,mode=0700"); err != nil {
		t.Fatalf("a small disk cannot be mounted: %v: run the tests as root", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	signer := must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	source := func(string) (*key.Signer, error) { return signer, nil }
	l := must(log.Init(t.Context(), filepath.Join(dir, "audit"), signer))(t)
	count, refused := int64(0), 0
	rest := filepath.Join(dir, "rest")
	for size := 1; refused < 30; size = size*3%3001 + 1 {
		list := [][]byte{bytes.Repeat([]byte{'x'}, size), bytes.Repeat([]byte{'y'}, 40_000)}
		_, err := l.Append(t.Context(), source, list...)
		switch {
		case err == nil:
			count += 2
		case errors.Is(err, tree.ErrFull):
			if refused++; refused%10 == 1 { // some space comes and goes
				os.WriteFile(rest, make([]byte, 16<<10*refused), 0o600)
				os.Remove(rest)
			}
		default:
			t.Fatal(err)
		}
		if cp := must(l.Checkpoint())(t); cp.Size != count {
			t.Fatalf("%d records, want %d", cp.Size, count)
		}
	}
	r := must(verify.Log(t.Context(), l.Store().Dir, verify.Options{First: signer.VKey()}))(t)
	if r.Err() != nil || r.Records != count || len(r.Stray)+len(r.Trailing) > 0 {
		t.Fatalf("%+v", r)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=12m"); err != nil {
		t.Fatal(err)
	}
	if a := must(l.Append(t.Context(), source, record(1)))(t); a.Index != count {
		t.Errorf("index %d, want %d", a.Index, count)
	}
	if r = must(verify.Log(t.Context(), l.Store().Dir, verify.Options{First: signer.VKey()}))(t); r.Err() != nil {
		t.Error(r.Err())
	}
}

func TestWrongKey(t *testing.T) {
	l, source := newLog(t)
	must(l.Append(t.Context(), source, record(0)))(t)
	other := must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	if _, err := l.Append(t.Context(), func(string) (*key.Signer, error) { return other, nil }, record(1)); !errors.Is(err, key.ErrKey) {
		t.Error(err)
	}
	if err := os.Rename(keyPath(l), keyPath(l)+".gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(t.Context(), source, record(1)); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if cp := must(l.Checkpoint())(t); cp.Size != 1 {
		t.Errorf("%d records", cp.Size)
	}
	if _, err := log.Init(t.Context(), l.Store().Dir, other); !errors.Is(err, tree.ErrExists) {
		t.Error(err)
	}
	if _, err := log.Open(t.TempDir()); !errors.Is(err, tree.ErrNoLog) {
		t.Error(err)
	}
}

// What a killed append had decided is finished without another one.
func TestFinish(t *testing.T) {
	l, source := newLog(t)
	must(l.Append(t.Context(), source, record(0)))(t)
	path := l.Store().CheckpointPath()
	old := must(os.ReadFile(path))(t)
	if l.Store().Stale() {
		t.Error("there is something to finish")
	}
	a := must(l.Append(t.Context(), source, record(1)))(t)
	// The checkpoint is durable in the journal, and was not renamed yet.
	if err := errors.Join(os.Rename(path, path+".new"), os.WriteFile(path, old, 0o600)); err != nil {
		t.Fatal(err)
	}
	if cp := must(l.Checkpoint())(t); cp.Size != 1 {
		t.Fatalf("%d records", cp.Size)
	}
	if err := l.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cp := must(l.Checkpoint())(t); !bytes.Equal(cp.Note, a.Checkpoint.Note) || l.Store().Stale() {
		t.Errorf("%d records", cp.Size)
	}
}
