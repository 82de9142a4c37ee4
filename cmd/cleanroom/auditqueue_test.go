package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/cache"
	"cleanroom/sandbox/fault"
)

// cached keeps a cache, of which a wipe can be told.
func (h *host) cached(name string) {
	h.t.Helper()
	c := config.Default()
	c.DataDir = h.data
	d, err := executor.Caches(c).Draft(0)
	if err != nil {
		h.t.Fatal(err)
	}
	if _, err := io.WriteString(d, "content"); err != nil {
		h.t.Fatal(err)
	}
	if err := d.Keep(cache.Header{Place: cache.Place{Instance: "abc", ProjectID: 7, Protected: true, Path: name}, Key: name, Project: "g/p", Created: time.Now(), Modified: time.Now()}); err != nil {
		h.t.Fatal(err)
	}
}

// unwritable are ways in which no log can be written. Each gives what is right
// again.
var unwritable = map[string]func(h *host, away string) (mend func()){
	"a key that does not sign": func(h *host, away string) func() {
		h.write(away, nil)
		return func() { os.Remove(away) }
	},
	"a full disk": func(h *host, _ string) func() {
		free := h.disk("size=12m")
		rest := filepath.Join(h.data, "audit", "log", "rest")
		f := h.open(rest)
		for size := 1 << 20; size > 0; size /= 2 {
			for full := error(nil); full == nil; {
				_, full = f.Write(make([]byte, size))
			}
		}
		f.Close()
		return func() { os.Remove(rest); free() }
	},
	"a disk that is read only": func(h *host, _ string) func() {
		free := h.disk("size=12m")
		h.mount(unix.MS_REMOUNT|unix.MS_RDONLY, "")
		return func() { h.mount(unix.MS_REMOUNT, ""); free() }
	},
	"another process that holds it": func(h *host, _ string) func() {
		f := h.open(filepath.Join(h.data, "audit", "log", "lock"))
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			h.t.Fatal(err)
		}
		return func() { f.Close() }
	},
	"a log that is not whole": func(h *host, _ string) func() {
		keys := filepath.Join(h.data, "audit", "log", "keys")
		h.rename(keys, keys+".away")
		return func() { h.rename(keys+".away", keys) }
	},
}

func (h *host) write(path string, text []byte) {
	h.t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) rename(from, to string) {
	h.t.Helper()
	if err := os.Rename(from, to); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) open(path string) *os.File {
	h.t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { f.Close() })
	return f
}

func (h *host) mount(flags uintptr, data string) {
	h.t.Helper()
	if err := unix.Mount("tmpfs", filepath.Join(h.data, "audit", "log"), "tmpfs", flags, data); err != nil {
		h.t.Fatalf("a small disk cannot be mounted: %v: run the tests as root", err)
	}
}

// disk puts the log on a disk of its own, until it is told to put it back.
func (h *host) disk(size string) (back func()) {
	h.t.Helper()
	dir := filepath.Join(h.data, "audit", "log")
	h.rename(dir, dir+".there")
	if err := os.Mkdir(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	h.mount(0, size+",mode=0700")
	h.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	move := func(from, to string) {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			h.t.Fatal(err)
		}
		err := filepath.WalkDir(to, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				err = os.Chmod(path, 0o600)
			} else if err == nil {
				err = os.Chmod(path, 0o700)
			}
			return err
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	move(dir+".there", dir)
	return func() {
		if err := os.RemoveAll(dir + ".there"); err != nil {
			h.t.Fatal(err)
		}
		move(dir, dir+".there")
		if err := unix.Unmount(dir, 0); err != nil {
			h.t.Fatal(err)
		}
		if err := os.Remove(dir); err != nil {
			h.t.Fatal(err)
		}
		h.rename(dir+".there", dir)
	}
}

// TestChangesWait: what an admin does while no log can be written is in it
// later, with its time, in its order, once.
func TestChangesWait(t *testing.T) {
	t.Parallel()
	for what, breaks := range unwritable {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			config, _, away := h.token("token")
			h.configure(config + "required = true\n")
			key := h.must("audit", "init")
			h.must("secret", "set", "before")
			h.cached("deps")
			mend := breaks(h, away)
			began := time.Now()
			commands := [][]string{{"secret", "set", "a"}, {"cache", "wipe", "--all"}, {"secret", "remove", "--yes", "before"}}
			if what == "another process that holds it" { // each waits for it
				commands = commands[1:2]
			}
			for _, command := range commands {
				c := h.call("", command...)
				if c.err != nil || !strings.Contains(c.words, "it waits in") {
					t.Errorf("%q: %v: %s", command, c.err, c.words)
				}
			}
			ended := time.Now()
			mend()
			h.must("secret", "set", "after")
			all, want := h.records(key), "begun, set before, set a, wipe 1, removed before, set after"
			if len(commands) == 1 {
				want = "begun, set before, wipe 1, set after"
			}
			if got := story(all); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
			for _, r := range all[2 : len(all)-1] {
				if r.At.Before(began.Truncate(time.Microsecond)) || r.At.After(ended) {
					t.Errorf("%s at %s, but it was from %s to %s", r.Kind, r.At, began, ended)
				}
			}
			h.idle()
		})
	}
}

// idle wants the queue to hold nothing.
func (h *host) idle() {
	h.t.Helper()
	found, err := os.ReadDir(queue.Of(h.data).Dir)
	if err != nil || slices.ContainsFunc(found, func(d os.DirEntry) bool { return d.Name() != "lock" }) {
		h.t.Errorf("the queue holds %v, %v", found, err)
	}
}

// TestChangeIsKilled: whichever step of a change is the last, the log knows of
// it, once; and where nobody can say whether it was made, it says so.
func TestChangeIsKilled(t *testing.T) {
	t.Parallel()
	points := slices.Concat(fault.Points["an admin"], []string{"append.begun", "append.written", "append.decided", "append.renamed"})
	for _, point := range points {
		for _, works := range []bool{true, false} {
			t.Run(fmt.Sprint(point, " ", works), func(t *testing.T) {
				t.Parallel()
				h := newHost(t, "")
				config, _, away := h.token("token")
				h.configure(config)
				key := h.must("audit", "init")
				want := "begun, set x, set y"
				if point == "queue.drafted" || point == "change.made" {
					want = "begun, set x?, set y"
				}
				if !works { // it falls when another has the log know of it
					h.write(away, nil)
					if slices.Contains([]string{"queue.drafted", "change.made", "queue.kept"}, point) {
						h.kill(point, "secret", "set", "x")
						h.must("secret", "set", "y")
						os.Remove(away)
						want += ", set z"
					} else {
						h.must("secret", "set", "x")
						os.Remove(away)
						h.kill(point, "secret", "set", "y")
						want += ", set z"
					}
					h.must("secret", "set", "z")
				} else {
					h.kill(point, "secret", "set", "x")
					h.must("secret", "set", "y")
				}
				if got := story(h.records(key)); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				if there := strings.Contains(h.must("secret", "list"), "\nx "); there == (point == "queue.drafted") {
					t.Errorf("the secret is there: %v", there)
				}
				h.idle()
			})
		}
	}
}

// TestNothingCanBeWritten: where not even the queue takes a change, a host that
// must have a log refuses it, but for what must not be left undone.
func TestNothingCanBeWritten(t *testing.T) {
	t.Parallel()
	for _, required := range []bool{true, false} {
		t.Run(fmt.Sprint(required), func(t *testing.T) {
			t.Parallel()
			h := newHost(t, "")
			config, _, away := h.token("token")
			h.configure(config + fmt.Sprintf("required = %v\n", required))
			key := h.must("audit", "init")
			h.must("secret", "set", "old", "--generator", "random")
			h.must("secret", "set", "second")
			h.cached("deps")
			dir := queue.Of(h.data).Dir
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			h.write(dir, nil)
			h.write(away, nil)
			fails := func(words string, command ...string) {
				t.Helper()
				if c := h.call("", command...); c.err == nil || !strings.Contains(c.words, words) {
					t.Errorf("%q: %v: %s", command, c.err, c.words)
				}
			}
			const loud = "it is done, but neither the audit log nor its queue knows of it"
			before := h.must("secret", "list", "--json")
			want := "begun, set old, set second, wipe 1, set z"
			if required {
				fails("nothing was changed, as audit.required is on", "secret", "set", "x")
				fails("nothing was changed, as audit.required is on", "secret", "rotate", "old")
			} else {
				fails(loud, "secret", "set", "x")
				fails(loud, "secret", "rotate", "old")
				want = "begun, set old, set second, wipe 1, set y, set z"
			}
			if now := h.must("secret", "list", "--json"); (now == before) != required {
				t.Errorf("%s\n%s", before, now)
			}
			fails(loud, "secret", "remove", "--yes", "old")
			if strings.Contains(h.must("secret", "list"), "old") {
				t.Error("a secret that was to go is there")
			}
			os.Remove(away) // the log alone takes it
			if out := h.must("cache", "wipe", "--all"); !strings.Contains(out, "wiped 1 cache") {
				t.Error(out)
			}
			if !required {
				h.must("secret", "set", "y")
			}
			os.Remove(dir)
			h.must("secret", "set", "z")
			if got := story(h.records(key)); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// TestChangesBeforeTheLog: a host that must have a log gets to know what was
// done before there was one.
func TestChangesBeforeTheLog(t *testing.T) {
	t.Parallel()
	h := newHost(t, "[audit]\nrequired = true\n")
	h.must("secret", "set", rand.Text())
	if key := h.must("audit", "init"); !strings.HasPrefix(story(h.records(key)), "begun, set ") {
		t.Error(story(h.records(key)))
	}
	h.idle()
}
