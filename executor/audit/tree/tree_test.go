package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
)

const origin = "ci.example.com/cleanroom"

// fixture is a store with a key of its own.
type fixture struct {
	Store
	t        testing.TB
	signer   note.Signer
	verifier note.Verifier
}

func newStore(t testing.TB, dir string) fixture {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	f := fixture{Store: Store{dir}, t: t}
	if f.signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if f.verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	root, _ := tlog.TreeHash(0, nil)
	msg, _, _ := f.sign(tlog.Tree{Hash: root})
	if err := f.Init(t.Context(), nil, func() error { return nil }, func(tlog.Tree) ([]byte, error) { return msg, nil }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f fixture) sign(tree tlog.Tree) (msg, change []byte, err error) {
	cp, err := checkpoint.Sign(origin, tree, f.signer)
	return cp.Note, nil, err
}

func (f fixture) begin() (*Writer, error) {
	return f.Begin(context.Background(), Hooks{
		Open: func(msg []byte) (checkpoint.Checkpoint, error) {
			cp, _, err := checkpoint.Open(msg, note.VerifierList(f.verifier))
			return cp, err
		},
		Change: func([]byte) error { return errors.New("no key changed here") },
	})
}

func (f fixture) append(records ...[]byte) error {
	w, err := f.begin()
	if err != nil {
		return err
	}
	return errors.Join(w.Append(records, f.sign), w.Close())
}

func (f fixture) must(records ...[]byte) {
	f.t.Helper()
	if err := f.append(records...); err != nil {
		f.t.Fatal(err)
	}
}

// record is one that its number tells, now and then a long one.
func record(i int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"pad":%q}`, i, strings.Repeat("x", i*7919%1500))
}

func batch(from, n int) (list [][]byte) {
	for i := range n {
		list = append(list, record(from+i))
	}
	return list
}

// check reads all, from the tiles alone, and compares it with what was
// appended. It finds what is there beyond that, too.
func (f fixture) check(want [][]byte) {
	f.t.Helper()
	if err := f.whole(want); err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) whole(want [][]byte) error {
	msg, err := f.Checkpoint()
	if err != nil {
		return err
	}
	cp, _, err := checkpoint.Open(msg, note.VerifierList(f.verifier))
	if err != nil {
		return err
	}
	if cp.Size != int64(len(want)) {
		return fmt.Errorf("the checkpoint has %d records, want %d", cp.Size, len(want))
	}
	known := hashes{}
	var expect []string
	for n := int64(0); n*Width < cp.Size; n++ {
		list, more, err := f.Records(n, cp.Size)
		if err != nil || more > 0 {
			return fmt.Errorf("bundle %d: %d bytes more, %w", n, more, err)
		}
		for i, r := range list {
			index := n*Width + int64(i)
			if !bytes.Equal(r, want[index]) {
				return fmt.Errorf("record %d is %.40q, want %.40q", index, r, want[index])
			}
			made, err := tlog.StoredHashes(index, r, known)
			if err != nil {
				return err
			}
			for j, h := range made {
				known[tlog.StoredHashIndex(0, index)+int64(j)] = h
			}
		}
		expect = append(expect, f.path(tile(-1, n, cp.Size)))
	}
	if root, err := tlog.TreeHash(cp.Size, known); err != nil || root != cp.Root {
		return fmt.Errorf("the root is %v, want %v: %w", cp.Root, root, err)
	}
	for _, t := range tlog.NewTiles(8, 0, cp.Size) {
		data, more, err := f.Hashes(t.L, t.N, cp.Size)
		if err != nil || more > 0 {
			return fmt.Errorf("%v: %d bytes more, %w", t, more, err)
		}
		if right, _ := tlog.ReadTileData(t, known); !bytes.Equal(data, right) {
			return fmt.Errorf("%v is wrong", t)
		}
		expect = append(expect, f.path(t))
	}
	for _, name := range []string{"checkpoint", "journal", "lock"} {
		expect = append(expect, filepath.Join(f.Dir, name))
	}
	var got []string
	err = filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			got = append(got, path)
		}
		return err
	})
	slices.Sort(expect)
	if slices.Sort(got); err == nil && !slices.Equal(got, expect) {
		err = fmt.Errorf("files are %q, want %q", got, expect)
	}
	return err
}

func TestAppend(t *testing.T) {
	f := newStore(t, t.TempDir())
	f.check(nil)
	var want [][]byte
	for _, n := range []int{1, 1, 1, 3, 249, 1, 1, 255, 256, 257, 700, 1, 4096, 1} {
		more := batch(len(want), n)
		f.must(more...)
		want = append(want, more...)
		f.check(want)
	}
	for range 20 { // past the journal's end
		big := [][]byte{bytes.Repeat([]byte{'b'}, MaxRecord), bytes.Repeat([]byte{'c'}, 400_000/8)}
		big = append(big, big...)
		big = append(big, big...)
		f.must(big...)
		want = append(want, big...)
	}
	f.check(want)
}

func TestAppendRefuses(t *testing.T) {
	f := newStore(t, t.TempDir())
	f.must(record(0))
	long := bytes.Repeat([]byte{'x'}, MaxRecord+1)
	many := slices.Repeat([][]byte{long[1:]}, 70)
	for _, list := range [][][]byte{nil, {nil}, {long}, {record(1), {}}, many, slices.Repeat([][]byte{{'x'}}, MaxBatch+1)} {
		if err := f.append(list...); !errors.Is(err, ErrRecord) {
			t.Errorf("%d records: %v", len(list), err)
		}
	}
	w, err := f.begin()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	refused := errors.New("no key")
	if err := w.Append(batch(1, 1), func(tlog.Tree) (_, _ []byte, _ error) { return nil, nil, refused }); !errors.Is(err, refused) {
		t.Error(err)
	}
	f.check(batch(0, 1))
}

func TestNoLog(t *testing.T) {
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "missing")} {
		f := fixture{Store: Store{dir}, t: t}
		if err := f.append(record(0)); !errors.Is(err, ErrNoLog) {
			t.Error(err)
		}
	}
	f := newStore(t, t.TempDir())
	f.must(record(0))
	for range 2 {
		if err := f.Init(t.Context(), nil, nil, nil); !errors.Is(err, ErrExists) {
			t.Error(err)
		}
		os.Remove(f.CheckpointPath()) // nor over records without a checkpoint
	}
}

// Whoever changed the right edge of the tree gets no signature for what comes
// after; neither does who put a checkpoint of his own there.
func TestAppendChecks(t *testing.T) {
	f := newStore(t, t.TempDir())
	f.must(batch(0, 300)...)
	path := f.path(tile(0, 1, 300))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[40] ^= 1
	for _, data := range [][]byte{bad, good[:32], nil} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.append(record(300)); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrMissing) {
			t.Errorf("appended to a changed tile: %v", err)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	f.must(record(300))
	f.check(batch(0, 301))
	other := newStore(t, t.TempDir())
	msg, _, _ := other.sign(tlog.Tree{N: 301})
	if err := os.WriteFile(f.CheckpointPath(), msg, 0o600); err != nil {
		t.Fatal(err)
	}
	// The journal has the true one.
	f.must(record(301))
	f.check(batch(0, 302))
	if err := os.WriteFile(f.CheckpointPath(), msg, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(f.Dir, "journal"), 0); err != nil {
		t.Fatal(err)
	}
	if err := f.append(record(302)); !errors.Is(err, checkpoint.ErrNotOurs) {
		t.Error(err)
	}
}
