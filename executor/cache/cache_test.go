package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var roomy = Limits{Age: time.Hour, Total: 1 << 30, Project: 1 << 30}

func place(project int64, path string, protected bool) Place {
	return Place{Instance: "abc", ProjectID: project, Path: path, Protected: protected}
}

func put(t testing.TB, s *Store, p Place, content string) {
	t.Helper()
	if err := tryPut(s, p, content); err != nil {
		t.Fatal(err)
	}
}

func tryPut(s *Store, p Place, content string) error {
	d, err := s.Draft(int64(len(content)))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(d, content); err != nil {
		return errors.Join(err, d.Drop())
	}
	return d.Keep(Header{Place: p, Key: p.Path, Project: fmt.Sprintf("group/p%d", p.ProjectID), Job: 7, Created: time.Now(), Modified: time.Unix(5, 0)})
}

// get is what is given out at a place; the error is also that of reading.
func get(s *Store, p Place) (string, error) {
	e, err := s.Get(p)
	if err != nil {
		return "", err
	}
	defer e.Close()
	b, err := io.ReadAll(e)
	return string(b), err
}

func has(t testing.TB, s *Store, p Place, want string) {
	t.Helper()
	if got, err := get(s, p); err != nil || got != want {
		t.Errorf("%+v: %.50q, %v; want %.50q", p, got, err, want)
	}
}

func misses(t testing.TB, s *Store, p Place) {
	t.Helper()
	if got, err := get(s, p); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%+v: %.50q, %v; want nothing", p, got, err)
	}
}

// below lists the files of a store, but for the lock.
func below(t testing.TB, s *Store) (names []string) {
	t.Helper()
	filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(s.dir, path); err == nil && !d.IsDir() && rel != lockName {
			names = append(names, rel)
		}
		return nil
	})
	return names
}

func TestKeepAndGet(t *testing.T) {
	data := t.TempDir()
	s := Open(data, roomy)
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Error(all, err)
	}
	if n, _, err := s.Wipe(""); n != 0 || err != nil {
		t.Error(n, err)
	}
	if left, _ := os.ReadDir(data); len(left) > 0 {
		t.Error("a store that keeps nothing has a folder")
	}
	a, big := place(1, "g/p/deps/cache.zip", true), strings.Repeat("0123456789", 1<<18)
	misses(t, s, a)
	put(t, s, a, "first")
	has(t, s, a, "first")
	put(t, s, a, big)
	has(t, s, a, big)
	put(t, s, a, "")
	has(t, s, a, "")
	put(t, s, place(1, "ключ/\n/cache.zip", false), "odd key")
	has(t, s, place(1, "ключ/\n/cache.zip", false), "odd key")
	for _, other := range []Place{place(1, a.Path, false), place(2, a.Path, true), place(11, a.Path, true), place(1, "g/p/deps", true), {Instance: "abd", ProjectID: 1, Path: a.Path, Protected: true}} {
		misses(t, s, other)
	}
	for _, bad := range []Place{place(0, "a", true), place(1, "", true), place(1, "/a", true), place(1, "../a", true), place(1, "a/../b", true), place(1, "a\x00", true),
		place(1, "\xff", true), place(1, strings.Repeat("a", maxPath+1), true), {Instance: "../x", ProjectID: 1, Path: "a"}, {ProjectID: 1, Path: "a"}} {
		if err := tryPut(s, bad, "x"); err == nil {
			t.Errorf("%+v is kept", bad)
		}
	}
	if names := below(t, s); len(names) != 2 {
		t.Errorf("left: %v", names)
	}
	all, err := s.List()
	if err != nil || len(all) != 2 || all[0].Path != a.Path || all[0].SHA256 != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" || all[0].Job != 7 || !all[0].Modified.Equal(time.Unix(5, 0)) {
		t.Errorf("%+v, %v", all, err)
	}
	for _, name := range below(t, s) {
		if info, err := os.Stat(filepath.Join(s.dir, name)); err != nil || info.Mode() != 0o600 {
			t.Error(name, info.Mode(), err)
		}
	}
	if info, err := os.Stat(s.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info.Mode(), err)
	}
}

// Whatever was done to an entry's file, nothing but what was kept is given
// out, and it is said.
func TestBroken(t *testing.T) {
	a, other := place(1, "a", false), place(1, "a", true)
	size := int64(headerSize + len("content"))
	for name, harm := range map[string]func(path, others string) error{
		"a bit of the content": func(p, _ string) error { return overwrite(p, headerSize+3, "T") },
		"a bit of the header":  func(p, _ string) error { return overwrite(p, int64(len(magic))+60, "?") },
		"no magic":             func(p, _ string) error { return overwrite(p, 0, "\x00") },
		"the header's length":  func(p, _ string) error { return overwrite(p, int64(len(magic))+32, "\xff\xff\xff\xff") },
		"never finished":       func(p, _ string) error { return overwrite(p, 0, strings.Repeat("\x00", headerSize)) },
		"cut":                  func(p, _ string) error { return os.Truncate(p, size-1) },
		"cut into the header":  func(p, _ string) error { return os.Truncate(p, headerSize-1) },
		"empty":                func(p, _ string) error { return os.Truncate(p, 0) },
		"longer":               func(p, _ string) error { return os.Truncate(p, size+1) },
		"moved from another":   func(p, o string) error { return os.Rename(o, p) },
		"a link to another":    func(p, o string) error { return errors.Join(os.Remove(p), os.Symlink(o, p)) },
		"a folder":             func(p, _ string) error { return errors.Join(os.Remove(p), os.MkdirAll(p+"/x", 0o700)) },
		"a pipe":               func(p, _ string) error { return errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)) },
		"somebody's file":      func(p, _ string) error { return os.WriteFile(p, bytes.Repeat([]byte("PK\x03\x04"), 9999), 0o600) },
		"another's header":     swapHeader,
	} {
		for _, how := range []string{"get", "list", "sweep"} {
			if name == "a bit of the content" && how != "get" {
				continue // only who reads it all can tell
			}
			s := Open(t.TempDir(), roomy)
			put(t, s, other, "CONTENT")
			put(t, s, a, "content")
			path := filepath.Join(s.dir, a.file())
			if err := harm(path, filepath.Join(s.dir, other.file())); err != nil {
				t.Fatal(name, err)
			}
			var err error
			switch how {
			case "get":
				_, err = get(s, a)
			case "list":
				_, err = s.List()
			case "sweep":
				_, err = s.Sweep(time.Now())
			}
			if !errors.Is(err, ErrBroken) {
				t.Errorf("%s, %s: %v", name, how, err)
			}
			misses(t, s, a)
			if name != "moved from another" {
				has(t, s, other, "CONTENT")
			}
			if _, err := s.Sweep(time.Now()); err != nil {
				t.Errorf("%s, %s: it is not gone: %v", name, how, err)
			}
		}
	}
}

func overwrite(path string, at int64, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text), at)
	return errors.Join(err, f.Close())
}

func swapHeader(path, others string) error {
	b, err := os.ReadFile(others)
	if err != nil {
		return err
	}
	return overwrite(path, 0, string(b[:headerSize]))
}

// A writer that dies leaves nothing that counts, and what it leaves is swept
// when it is dead, not before.
func TestDrafts(t *testing.T) {
	s := Open(t.TempDir(), roomy)
	d, err := s.Draft(10)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(d, "half")
	if b := make([]byte, 2); d.Size() != 4 {
		t.Error(d.Size())
	} else if n, err := d.ReadAt(b, 2); n != 2 || err != nil || string(b) != "lf" {
		t.Error(n, err, string(b))
	}
	if _, err := s.Sweep(time.Now()); err != nil || len(below(t, s)) != 1 {
		t.Errorf("%v, %v", err, below(t, s))
	}
	if err := d.Keep(Header{Place: place(1, "a", false), Created: time.Now()}); err != nil {
		t.Error(err)
	}
	has(t, s, place(1, "a", false), "half")
	if err := os.WriteFile(filepath.Join(s.dir, drafts, "of-the-dead"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Sweep(time.Now()); err != nil || len(below(t, s)) != 1 {
		t.Errorf("%v, %v", err, below(t, s))
	}
}

func TestWipe(t *testing.T) {
	s := Open(t.TempDir(), roomy)
	for _, p := range []Place{place(1, "a", true), place(1, "a", false), place(12, "a", false), {Instance: "other", ProjectID: 1, Path: "a"}} {
		put(t, s, p, "content")
	}
	if err := os.MkdirAll(filepath.Join(s.dir, "lost+found", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, bytes, err := s.Wipe("group/p"); n != 0 || bytes != 0 || err != nil {
		t.Error(n, bytes, err)
	}
	if n, bytes, err := s.Wipe("group/p1"); n != 3 || bytes != 21 || err != nil { // of both GitLabs
		t.Error(n, bytes, err)
	}
	has(t, s, place(12, "a", false), "content")
	if n, _, err := s.Wipe("12"); n != 1 || err != nil {
		t.Error(n, err)
	}
	put(t, s, place(3, "a", false), "content")
	put(t, s, place(4, "a", false), "content")
	if err := os.Truncate(filepath.Join(s.dir, place(4, "a", false).file()), 5); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Wipe(""); err != nil || len(below(t, s)) > 0 {
		t.Error(err, below(t, s))
	}
	if _, err := os.Stat(filepath.Join(s.dir, "lost+found", "x")); err != nil {
		t.Error("what is not ours is gone:", err)
	}
}

// Many at once, each as if it were a process of its own.
func TestManyAtOnce(t *testing.T) {
	dir := t.TempDir()
	const writers, one = 8, 50_000
	open := func() *Store { return Open(dir, Limits{Age: time.Hour, Total: 10 * one, Project: 10 * one}) }
	var work sync.WaitGroup
	for w := range writers {
		work.Go(func() {
			s := open()
			for i := range 20 {
				p := place(int64(1+i%2), fmt.Sprint("key", i%3), i%2 == 0)
				if err := tryPut(s, p, strings.Repeat(string(rune('a'+w)), one-headerSize)); err != nil {
					t.Error(err)
				}
				if got, err := get(s, p); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				} else if err == nil && strings.Trim(got, got[:1]) != "" {
					t.Error("two writers' content in one entry")
				}
				switch i {
				case 10:
					if _, err := s.Sweep(time.Now()); err != nil {
						t.Error(err)
					}
				case 15:
					if _, _, err := s.Wipe("group/p1"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	work.Wait()
	s := open()
	files, err := s.files()
	sum := int64(0)
	for _, f := range files {
		sum += f.size
	}
	if err != nil || sum > 10*one {
		t.Errorf("%d bytes are kept, at most %d should be: %v", sum, 10*one, err)
	}
	if left, err := os.ReadDir(filepath.Join(s.dir, drafts)); err != nil || len(left) > 0 {
		t.Error(left, err)
	}
}

// An entry that is replaced or wiped while it is read is read to its end.
func TestGoneWhileRead(t *testing.T) {
	s := Open(t.TempDir(), roomy)
	a := place(1, "a", false)
	put(t, s, a, "content")
	e, err := s.Get(a)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	put(t, s, a, "other")
	if _, _, err := s.Wipe(""); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(e); string(got) != "content" || err != nil {
		t.Error(string(got), err)
	}
}

// A broken entry that was replaced meanwhile takes its successor not with it.
func TestBrokenIsReplaced(t *testing.T) {
	s := Open(t.TempDir(), roomy)
	a := place(1, "a", false)
	put(t, s, a, "content")
	if err := overwrite(filepath.Join(s.dir, a.file()), headerSize, "C"); err != nil {
		t.Fatal(err)
	}
	e, err := s.Get(a)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	put(t, s, a, "new")
	if _, err := io.ReadAll(e); !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	has(t, s, a, "new")
}

// A full disk: nothing half-written remains, and what was kept stays.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("a small disk cannot be mounted: %v: run the tests as root", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := Open(dir, roomy)
	a := place(1, "a", false)
	put(t, s, a, "content")
	if err := tryPut(s, a, strings.Repeat("x", 2<<20)); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	has(t, s, a, "content")
	if names := below(t, s); len(names) != 1 {
		t.Errorf("left: %v", names)
	}
}

func FuzzHeader(f *testing.F) {
	b, err := Header{Place: place(1, "a", true), Key: "a", Size: 3, SHA256: "00", Created: time.Unix(1, 0).UTC(), Modified: time.Unix(2, 0).UTC()}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = append(data, make([]byte, headerSize)...)[:headerSize]
		h, err := decode(data)
		if err != nil {
			return
		}
		if filepath.Clean(h.file()) != h.file() || strings.HasPrefix(h.file(), "..") || h.Size < 0 {
			t.Fatalf("%+v", h)
		}
		if again, err := h.encode(); err == nil {
			if same, err := decode(again); err != nil || same.Place != h.Place || same.Size != h.Size || same.SHA256 != h.SHA256 {
				t.Fatalf("%+v became %+v, %v", h, same, err)
			}
		}
	})
}
