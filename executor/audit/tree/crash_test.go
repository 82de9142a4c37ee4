package tree

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"cleanroom/executor/audit/tree/journal"
)

// memory is a folder on a disk that is not waited for: here are thousands of
// recoveries.
func memory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tree")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// reboot makes all that follows run under another kernel.
func reboot(t testing.TB) {
	old, id := boot, fmt.Sprint("boot ", rand.Int64())
	boot = func() string { return id }
	t.Cleanup(func() { boot = old })
}

// head is what of the journal these tests use, in bytes.
const head = 1 << 19

// snapshot is all files below a folder, of the journal its head.
type snapshot map[string][]byte

func (f fixture) snapshot() snapshot {
	f.t.Helper()
	s := snapshot{}
	err := filepath.WalkDir(f.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(f.Dir, path)
		s[name] = data[:min(head, len(data))]
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (s snapshot) clone() snapshot {
	c := snapshot{}
	for name, data := range s {
		c[name] = bytes.Clone(data)
	}
	return c
}

// restore makes the folder hold the files of s and no others.
func (f fixture) restore(s snapshot) {
	f.t.Helper()
	names, _ := os.ReadDir(f.Dir)
	for _, name := range names {
		os.RemoveAll(filepath.Join(f.Dir, name.Name()))
	}
	for name, data := range s {
		path := filepath.Join(f.Dir, name)
		os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	if err := os.Truncate(journal.Path(f.Dir), journal.Capacity); err != nil {
		f.t.Fatal(err)
	}
}

// survives lets the next writer in, and wants it to find all of low, and of
// what was cut short all or nothing.
func (f fixture) survives(low, high [][]byte, must bool, what string) {
	f.t.Helper()
	w, err := f.begin()
	if err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
	size := w.Tree().N
	if size != int64(len(low)) && size != int64(len(high)) || must && size != int64(len(high)) {
		f.t.Fatalf("%s: %d records, of %d and %d", what, size, len(low), len(high))
	}
	w.Close()
	want := append(append([][]byte{}, high[:size]...), []byte("next"))
	f.must([]byte("next"))
	if err := f.whole(want); err != nil {
		f.t.Fatalf("%s: %v", what, err)
	}
}

// Killed at every byte of every file that an append writes, and between all
// its steps.
func TestKilledAnywhere(t *testing.T) {
	for _, c := range []struct{ had, more int }{{0, 1}, {3, 1}, {254, 1}, {255, 1}, {250, 10}, {3, 300}} {
		t.Run(fmt.Sprint(c.had, "+", c.more), func(t *testing.T) {
			f := newStore(t, memory(t))
			if c.had > 0 {
				f.must(batch(0, c.had)...)
			}
			before := f.snapshot()
			w, err := f.begin()
			if err != nil {
				t.Fatal(err)
			}
			high := batch(0, c.had+c.more)
			low := high[:c.had]
			data, _ := pack(high[c.had:])
			p, err := f.plan(w.tree.N, &w.tree.Hash, w.bundle, data, c.more)
			if err != nil {
				t.Fatal(err)
			}
			note, _, _ := f.sign(p.tree)
			fr := &journal.Frame{First: w.tree.N, Bundle: p.bundle, Count: c.more, Records: data, Note: note}
			at, after := w.j.End, w.j.Header
			w.Close()
			after.Pos, after.End = at, at+fr.Length()

			state := before.clone()
			state["checkpoint.new"] = nil
			step := func(must bool, what string) {
				t.Helper()
				f.restore(state)
				f.survives(low, high, must, what)
			}
			every := func(name string, start int, data []byte, what string) {
				t.Helper()
				for n := 0; n <= len(data); n += 1 + len(data)/8 {
					state[name] = append(bytes.Clone(state[name][:start]), data[:n]...)
					step(false, fmt.Sprintf("%s at byte %d", what, n))
				}
				state[name] = append(bytes.Clone(state[name][:start]), data...)
			}
			every("checkpoint.new", 0, note, "checkpoint.new")
			type move struct{ from, to string }
			var moves []move
			for _, one := range p.pieces {
				old := one.tile
				if old.W = one.old; one.old == 0 {
					old = one.tile
				}
				from, _ := filepath.Rel(f.Dir, f.path(old))
				to, _ := filepath.Rel(f.Dir, f.path(one.tile))
				every(from, int(one.from), one.data, from)
				moves = append(moves, move{from, to})
			}
			text := fr.Encode()
			for n := 0; n <= len(text); n += 1 + len(text)/30 {
				copy(state["journal"][at:], make([]byte, head-at))
				copy(state["journal"][at:], text[:n])
				step(false, fmt.Sprintf("journal at byte %d", n))
			}
			copy(state["journal"][at:], text)
			step(true, "the whole frame")
			copy(state["journal"], after.Encode())
			step(true, "header")
			for _, m := range moves {
				data := state[m.from]
				delete(state, m.from)
				state[m.to] = data
				step(true, "rename to "+m.to)
			}
			delete(state, "checkpoint.new")
			state["checkpoint"] = note
			step(true, "all")
		})
	}
}

// The machine loses its power at every byte of the journal's newest frame:
// what was not waited for is there as it was at any time since it was, or cut
// off, or zero. Of what Append returned for nothing is lost.
func TestPowerLost(t *testing.T) {
	const base, appends = 254, 6
	f := newStore(t, memory(t))
	f.must(batch(0, base)...)
	reboot(t)
	if w, err := f.begin(); err != nil { // begins the journal anew
		t.Fatal(err)
	} else {
		w.Close()
	}
	list := []snapshot{f.snapshot()}
	for i := range appends {
		f.must(record(base + i))
		list = append(list, f.snapshot())
	}
	synced := list[0]
	random := rand.New(rand.NewPCG(1, 2))
	for k := 1; k <= appends; k++ {
		old, now := list[k-1]["journal"], list[k]["journal"]
		pos := int64(journal.Block)
		for pos < head && bytes.Equal(old[pos:pos+journal.Block], now[pos:pos+journal.Block]) {
			pos += journal.Block
		}
		f.restore(list[k])
		j, err := journal.Open(f.Dir)
		if err != nil {
			t.Fatal(err)
		}
		fr, err := j.At(pos)
		if j.Close(); err != nil || fr == nil {
			t.Fatalf("no frame at %d: %v", pos, err)
		}
		length := int(fr.Length())
		for n := 0; n <= length; n = max(n+1, min(length, n+1+random.IntN(80))) {
			state := snapshot{}
			// Each tile is in the state of any time since it was waited for.
			for _, level := range []string{"tile/entries", "tile/0", "tile/1"} {
				from := list[random.IntN(k+1)]
				for name, data := range from {
					if matched, _ := filepath.Match(level+"/*", name); !matched {
						if matched, _ = filepath.Match(level+"/*/*", name); !matched {
							continue
						}
					}
					keep := 0
					for other, data := range synced { // what of this file was waited for
						if len(other) >= len(level)+4 && len(name) >= len(level)+4 && other[:len(level)+4] == name[:len(level)+4] {
							keep = len(data)
						}
					}
					data = bytes.Clone(data)
					switch rest := data[min(keep, len(data)):]; random.IntN(3) {
					case 0:
						clear(rest)
					case 1:
						data = data[:len(data)-random.IntN(len(rest)+1)]
					}
					state[name] = data
				}
			}
			frames := bytes.Clone(old)
			copy(frames, list[random.IntN(k+1)]["journal"][:journal.Block])
			copy(frames[pos:], now[pos:pos+int64(n)])
			state["journal"] = frames
			switch published := n == length || k > 1; random.IntN(4) {
			case 0:
				if state["checkpoint"] = nil; !published { // renamed, but without content
					state["checkpoint"] = synced["checkpoint"]
				}
			case 1:
				state["checkpoint"] = list[k-1]["checkpoint"]
				state["checkpoint.new"] = list[k]["checkpoint"][:random.IntN(50)]
			default:
				state["checkpoint"] = list[random.IntN(k)]["checkpoint"]
			}
			f.restore(state)
			reboot(t)
			high := batch(0, base+k)
			f.survives(high[:base+k-1], high, n == length, fmt.Sprintf("append %d, byte %d of %d", k, n, length))
		}
	}
}

// A header that is lost costs time, and nothing else.
func TestHeaderLost(t *testing.T) {
	f := newStore(t, memory(t))
	for i := range 5 {
		f.must(record(i))
		file, err := os.OpenFile(journal.Path(f.Dir), os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		file.WriteAt([]byte("torn"), int64(i*7))
		file.Close()
	}
	f.must(record(5))
	f.check(batch(0, 6))
}

func FuzzBundle(f *testing.F) {
	data, _ := pack(batch(0, 5))
	f.Add(data, 5)
	f.Fuzz(func(t *testing.T, data []byte, w int) {
		list, rest := cut(data, w&255)
		var again []byte
		for _, r := range list {
			again = append(append(again, byte(len(r)>>8), byte(len(r))), r...)
		}
		if !bytes.Equal(append(again, rest...), data) {
			t.Fatalf("%q is not what was read", data)
		}
	})
}
