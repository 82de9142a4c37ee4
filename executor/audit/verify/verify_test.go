package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/verify"
)

const origin = "ci.example.com/cleanroom"

// size makes three bundles, the last of them partial, and a second level.
const size = 600

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func record(i int) []byte { return fmt.Appendf(nil, `{"job":%d}`, i) }

func records(n int) (list [][]byte) {
	for i := range n {
		list = append(list, record(i))
	}
	return list
}

// host is a machine with a log and whoever has taken it over.
type host struct {
	t      *testing.T
	dir    string
	signer *key.Signer
	known  []verify.Known // what the logs of jobs hold
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, dir: filepath.Join(t.TempDir(), "audit")}
	h.signer = must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
	must(log.Init(t.Context(), h.dir, h.signer))(t)
	for _, n := range []int{100, 156, 244, 100} {
		h.append(n)
	}
	return h
}

func (h *host) source() key.Source {
	return func(string) (*key.Signer, error) { return h.signer, nil }
}

// append appends the next n records, and a job's log gets the checkpoint.
func (h *host) append(n int) {
	h.t.Helper()
	l := must(log.Open(h.dir))(h.t)
	from := int(must(l.Checkpoint())(h.t).Size)
	a := must(l.Append(h.t.Context(), h.source(), records(from + n)[from:]...))(h.t)
	h.known = append(h.known, verify.Known{Name: fmt.Sprintf("job %d", len(h.known)), Note: a.Checkpoint.Note})
}

// rebuild makes the log anew from other records, as who has the key can.
func (h *host) rebuild(list [][]byte) {
	h.t.Helper()
	os.RemoveAll(h.dir)
	l := must(log.Init(h.t.Context(), h.dir, h.signer))(h.t)
	must(l.Append(h.t.Context(), h.source(), list...))(h.t)
}

func (h *host) path(level int, n int64, w int) string {
	return filepath.Join(h.dir, torchwood.TilePath(tlog.Tile{H: 8, L: level, N: n, W: w}))
}

func (h *host) edit(path string, do func([]byte) []byte) {
	h.t.Helper()
	data := must(os.ReadFile(path))(h.t)
	if err := os.WriteFile(path, do(data), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// bundle lets do change the list of a bundle's records.
func (h *host) bundle(n int64, w int, do func([][]byte) [][]byte) {
	h.t.Helper()
	h.edit(h.path(-1, n, w), func(data []byte) []byte {
		var list [][]byte
		for len(data) > 0 {
			one, rest, err := torchwood.ReadTileEntry(data)
			if err != nil {
				h.t.Fatal(err)
			}
			list, data = append(list, one), rest
		}
		for _, one := range do(list) {
			data, _ = torchwood.AppendTileEntry(data, one)
		}
		return data
	})
}

func (h *host) verify() *verify.Report {
	h.t.Helper()
	return must(verify.Log(h.t.Context(), h.dir, verify.Options{First: h.signer.VKey(), Known: h.known}))(h.t)
}

func TestWell(t *testing.T) {
	h := newHost(t)
	r := h.verify()
	if r.Err() != nil || r.Records != size || len(r.Consistent) != 4 || !r.Pinned || len(r.Stray)+len(r.Trailing)+len(r.NotOurs) > 0 {
		t.Errorf("%+v", r)
	}
	empty := filepath.Join(t.TempDir(), "audit")
	must(log.Init(t.Context(), empty, h.signer))(t)
	if r := must(verify.Log(t.Context(), empty, verify.Options{}))(t); r.Err() != nil || r.Pinned {
		t.Errorf("%+v", r)
	}
}

// What anybody who can write to the disk may do, without the key.
func TestAttacks(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for name, c := range map[string]struct {
		attack func(h *host)
		want   error
		says   string // in the finding of that kind
	}{
		"change a record":         {func(h *host) { h.edit(h.path(-1, 1, 256), flip(9)) }, verify.ErrRecord, "record 256 of tile/entries/001 is not"},
		"change a late record":    {func(h *host) { h.bundle(2, 88, func(l [][]byte) [][]byte { l[80] = []byte("mine"); return l }) }, verify.ErrRecord, "record 592 of tile/entries/002.p/88 is not"},
		"drop a record":           {func(h *host) { h.bundle(1, 256, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }) }, verify.ErrRecord, "records 259 to 510 of tile/entries/001 are not what was appended: at 259 stands the record that belongs at 260"},
		"drop a record, the rest": {func(h *host) { h.bundle(1, 256, func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }) }, verify.ErrMissing, "the records of 511 to 511"},
		"insert a record": {func(h *host) {
			h.bundle(0, 256, func(l [][]byte) [][]byte { return slices.Insert(l, 5, []byte("new")) })
		}, verify.ErrRecord, "records 5 to 255 of"},
		"insert a record, the rest": {func(h *host) {
			h.bundle(0, 256, func(l [][]byte) [][]byte { return slices.Insert(l, 5, []byte("new")) })
		}, verify.ErrInserted, "tile/entries/000 has"},
		"reorder two records":           {func(h *host) { h.bundle(0, 256, func(l [][]byte) [][]byte { l[7], l[8] = l[8], l[7]; return l }) }, verify.ErrRecord, "records 7 to 8 of tile/entries/000 are not what was appended: at 7 stands the record that belongs at 8"},
		"duplicate a record":            {func(h *host) { h.bundle(0, 256, func(l [][]byte) [][]byte { l[8] = l[7]; return l }) }, verify.ErrRecord, "record 8 of tile/entries/000 is not what was appended: at 8 stands the record that belongs at 7"},
		"truncate a bundle":             {func(h *host) { h.edit(h.path(-1, 2, 88), func(b []byte) []byte { return b[:500] }) }, verify.ErrMissing, "to 599 are missing"},
		"remove a bundle":               {func(h *host) { os.Remove(h.path(-1, 1, 256)) }, verify.ErrMissing, "the records of 256 to 511 are missing"},
		"duplicate a bundle":            {func(h *host) { copyFile(h, h.path(-1, 0, 256), h.path(-1, 1, 256)) }, verify.ErrRecord, "records 256 to 511"},
		"change a hash":                 {func(h *host) { h.edit(h.path(0, 1, 256), flip(70)) }, verify.ErrTile, "tile/0/001 is not of the records 258 to 258, which are as they were appended"},
		"change a hash above":           {func(h *host) { h.edit(h.path(1, 0, 2), flip(40)) }, verify.ErrTile, "hash 1 of tile/1/000.p/2 is not that of the records 256 to 511"},
		"duplicate a tile":              {func(h *host) { copyFile(h, h.path(0, 0, 256), h.path(0, 1, 256)) }, verify.ErrTile, "tile/0/001 is not of the records 256 to 511"},
		"remove a tile":                 {func(h *host) { os.Remove(h.path(0, 1, 256)) }, verify.ErrMissing, "the hashes of 256 to 511 are missing"},
		"remove a tile above":           {func(h *host) { os.Remove(h.path(1, 0, 2)) }, verify.ErrMissing, "tile/1/000.p/2"},
		"a symlink for a bundle":        {func(h *host) { h.link(h.path(-1, 1, 256)) }, verify.ErrMissing, "tile/entries/001 is no plain file"},
		"a symlink for a tile":          {func(h *host) { h.link(h.path(0, 1, 256)) }, verify.ErrMissing, "tile/0/001 is no plain file"},
		"a symlink for a tile above":    {func(h *host) { h.link(h.path(1, 0, 2)) }, verify.ErrMissing, "tile/1/000.p/2 is no plain file"},
		"a symlink for the checkpoint":  {func(h *host) { h.link(filepath.Join(h.dir, "checkpoint")) }, verify.ErrSignature, "checkpoint is no plain file"},
		"a pipe for a bundle":           {func(h *host) { p := h.path(-1, 1, 256); os.Remove(p); unix.Mkfifo(p, 0o600) }, verify.ErrMissing, "tile/entries/001 is no plain file"},
		"remove both":                   {func(h *host) { os.Remove(h.path(0, 1, 256)); os.Remove(h.path(-1, 1, 256)) }, verify.ErrMissing, "job 3: its checkpoint of 600 records cannot be compared"},
		"change record and hash":        {func(h *host) { h.recordAndHash(300) }, verify.ErrRoot, "the log's checkpoint of 600 records"},
		"change record and hash, where": {func(h *host) { h.recordAndHash(300) }, verify.ErrRecord, "one or more of the records 256 to 511 were changed, together with the tiles below tile/1/000.p/2"},
		"change record and hash too":    {func(h *host) { h.recordAndHash(300) }, verify.ErrForked, "job 2 has a signed root of the first 500 records, and the log has another: what it holds of the records 256 to 499"},
		"re-sign with another key":      {func(h *host) { h.resign() }, verify.ErrSignature, "is not signed by this log's key"},
		"change the checkpoint":         {func(h *host) { h.edit(filepath.Join(h.dir, "checkpoint"), flip(30)) }, verify.ErrSignature, "checkpoint"},
		"empty the checkpoint":          {func(h *host) { os.Truncate(filepath.Join(h.dir, "checkpoint"), 0) }, verify.ErrSignature, "checkpoint"},
		"exchange the log and keys": {func(h *host) {
			signer := h.signer
			h.signer = otherKey(h.t)
			h.rebuild(records(size))
			h.signer = signer
		}, verify.ErrKeys, "but the one that is known"},
		"remove the keys":            {func(h *host) { os.Remove(filepath.Join(h.dir, "keys")) }, verify.ErrKeys, "no such file"},
		"a pipe for the keys":        {func(h *host) { p := filepath.Join(h.dir, "keys"); os.Remove(p); unix.Mkfifo(p, 0o600) }, verify.ErrKeys, "keys is no plain file"},
		"break the keys":             {func(h *host) { os.Truncate(filepath.Join(h.dir, "keys"), 20) }, verify.ErrKeys, "keys"},
		"claim a change of the key":  {func(h *host) { h.claim() }, verify.ErrKeys, "not signed by both keys"},
		"roll back to a checkpoint":  {func(h *host) { os.WriteFile(filepath.Join(h.dir, "checkpoint"), h.known[1].Note, 0o600) }, verify.ErrRolledBack, "job 3 has a checkpoint of 600: records 256 to 599 were dropped"},
		"with the key, rewrite":      {func(h *host) { l := records(size); l[123] = []byte("mine"); h.rebuild(l) }, verify.ErrForked, "job 1 has a signed root of the first 256 records, and the log has another: what it holds of the records 100 to 255"},
		"with the key, drop":         {func(h *host) { h.rebuild(slices.Delete(records(size), 550, 551)) }, verify.ErrRolledBack, "599 to 599 were dropped"},
		"with the key, drop and add": {func(h *host) { h.rebuild(append(slices.Delete(records(size), 550, 551), record(9))) }, verify.ErrForked, "job 3 has a signed root of the first 600 records, and the log has another: what it holds of the records 500 to 599"},
		"with the key, fork":         {func(h *host) { h.fork() }, verify.ErrForked, "job fork has a signed root"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			c.attack(h)
			r := h.verify()
			if !errors.Is(r.Err(), c.want) || !strings.Contains(r.Err().Error(), c.says) {
				t.Errorf("want %v with %q, got:\n%v", c.want, c.says, r.Err())
			}
			if errors.Is(c.want, verify.ErrTile) && errors.Is(r.Err(), verify.ErrRecord) {
				t.Errorf("a record is blamed for a tile:\n%v", r.Err())
			}
		})
	}
}

func copyFile(h *host, from, to string) {
	h.edit(to, func([]byte) []byte { return must(os.ReadFile(from))(h.t) })
}

// link puts a symlink in the place of a file, to the same file elsewhere.
func (h *host) link(path string) {
	away := filepath.Join(h.t.TempDir(), "file")
	if err := errors.Join(os.Rename(path, away), os.Symlink(away, path)); err != nil {
		h.t.Fatal(err)
	}
}

func otherKey(t *testing.T) *key.Signer {
	return must(key.Create(filepath.Join(t.TempDir(), "key"), origin))(t)
}

// recordAndHash changes a record and the hash of it.
func (h *host) recordAndHash(i int) {
	h.bundle(int64(i/256), 256, func(l [][]byte) [][]byte { l[i%256] = []byte("mine"); return l })
	h.edit(h.path(0, int64(i/256), 256), func(b []byte) []byte {
		sum := tlog.RecordHash([]byte("mine"))
		copy(b[i%256*32:], sum[:])
		return b
	})
}

// resign makes the log anew with another key, and leaves the keys' file.
func (h *host) resign() {
	path := filepath.Join(h.dir, "keys")
	keys, signer := must(os.ReadFile(path))(h.t), h.signer
	h.signer = otherKey(h.t)
	h.rebuild(records(size))
	h.signer = signer
	if err := os.WriteFile(path, keys, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// claim says that another key followed, without the first one's signature.
func (h *host) claim() {
	other := otherKey(h.t)
	change := must(key.SignChange(tlog.Tree{N: 100}, h.signer, other))(h.t)
	lines := strings.SplitAfter(change.Note, "\n")
	text := must(json.Marshal(map[string]any{"first": h.signer.VKey(), "changes": []string{strings.Join(slices.Delete(lines, 6, 7), "")}}))(h.t)
	if err := os.WriteFile(filepath.Join(h.dir, "keys"), text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// fork shows a job another log of the same size.
func (h *host) fork() {
	list := records(size)
	list[20] = []byte("mine")
	other := &host{t: h.t, dir: filepath.Join(h.t.TempDir(), "audit"), signer: h.signer}
	other.rebuild(list)
	cp := must(must(log.Open(other.dir))(h.t).Checkpoint())(h.t)
	h.known = append(h.known, verify.Known{Name: "job fork", Note: cp.Note})
}

// Blocks that a job forged are not held against the log.
func TestForgedBlock(t *testing.T) {
	h := newHost(t)
	root := tlog.RecordHash([]byte("mine"))
	forged := must(checkpoint.Sign(origin, tlog.Tree{N: 1000, Hash: root}, otherKey(t)))(t)
	edited := bytes.Replace(h.known[0].Note, []byte("\n100\n"), []byte("\n101\n"), 1)
	for i, msg := range [][]byte{forged.Note, edited, []byte("junk"), nil} {
		h.known = append(h.known, verify.Known{Name: fmt.Sprint("forged ", i), Note: msg})
	}
	if r := h.verify(); r.Err() != nil || len(r.NotOurs) != 4 || len(r.Consistent) != 4 {
		t.Errorf("%v: %d not ours, %d consistent", r.Err(), len(r.NotOurs), len(r.Consistent))
	}
}

// Who kept the old key signs nothing for what came after it.
func TestRetiredKey(t *testing.T) {
	h := newHost(t)
	old := h.signer
	l := must(log.Open(h.dir))(t)
	next := otherKey(t)
	a := must(l.Rotate(t.Context(), h.source(), next, []byte(`{"kind":"key"}`)))(t)
	h.known = append(h.known, verify.Known{Name: "change", Note: a.Checkpoint.Note})
	h.signer = next
	h.append(10)
	check := func() *verify.Report {
		return must(verify.Log(t.Context(), h.dir, verify.Options{First: old.VKey(), Known: h.known}))(t)
	}
	if r := check(); r.Err() != nil || len(r.Consistent) != 6 {
		t.Fatalf("%v, %d consistent", r.Err(), len(r.Consistent))
	}
	cp := must(l.Checkpoint())(t)
	forged := must(checkpoint.Sign(origin, cp.Tree(), old))(t)
	h.known = append(h.known, verify.Known{Name: "late", Note: forged.Note})
	if r := check(); !errors.Is(r.Err(), verify.ErrRetired) || len(r.Findings) != 1 {
		t.Error(r.Err())
	}
	if err := os.WriteFile(filepath.Join(h.dir, "checkpoint"), forged.Note, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := check(); !errors.Is(r.Err(), verify.ErrSignature) {
		t.Error(r.Err())
	}
}

// What is in the folder and in no checkpoint is told, and no failure.
func TestStray(t *testing.T) {
	h := newHost(t)
	h.bundle(2, 88, func(l [][]byte) [][]byte { return append(l, []byte("torn")) })
	for _, path := range []string{h.path(0, 1, 256) + "x", h.path(0, 9, 256)} {
		if err := os.WriteFile(path, []byte("more"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := h.verify()
	if r.Err() != nil || !slices.Equal(r.Trailing, []string{"tile/entries/002.p/88"}) || !slices.Equal(r.Stray, []string{"tile/0/001x", "tile/0/009"}) {
		t.Errorf("%v, %q, %q", r.Err(), r.Trailing, r.Stray)
	}
}

func TestContent(t *testing.T) {
	h := newHost(t)
	r := must(verify.Log(t.Context(), h.dir, verify.Options{Record: func(index int64, record []byte) error {
		if index%2 == 0 {
			return errors.New("even")
		}
		return nil
	}}))(t)
	if !errors.Is(r.Err(), verify.ErrContent) || len(r.Findings) != 100 || r.More != 200 || r.Records != size {
		t.Errorf("%d findings, %d more", len(r.Findings), r.More)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := verify.Log(ctx, h.dir, verify.Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
