package docker

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"cleanroom/sandbox"
)

// TestDamagedState: a file that is not as we wrote it is not believed, and goes
// with its room; a folder's place may be taken, too.
func TestDamagedState(t *testing.T) {
	const room, other = "cr-a-1-0123456789", "cr-a-2-0123456789"
	for how, damage := range map[string]func(file, other string) error{
		"garbage": func(file, _ string) error { return os.WriteFile(file, []byte("\x00{]"), 0o600) },
		"empty":   func(file, _ string) error { return os.Truncate(file, 0) },
		"half":    func(file, _ string) error { return os.Truncate(file, 20) },
		"another room's": func(file, other string) error {
			b, err := os.ReadFile(other)
			return errors.Join(err, os.WriteFile(file, b, 0o600))
		},
		"a folder": func(file, _ string) error {
			return errors.Join(os.Remove(file), os.MkdirAll(filepath.Join(file, "in", "it"), 0o700))
		},
		"a pipe":            func(file, _ string) error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)) },
		"a link":            func(file, other string) error { return errors.Join(os.Remove(file), os.Symlink(other, file)) },
		"its folder a link": func(file, other string) error { return replace(filepath.Dir(file), filepath.Dir(other)) },
	} {
		t.Run(how, func(t *testing.T) {
			e, err := New(Options{Host: "unix:///nowhere/docker.sock", StateDir: filepath.Join(t.TempDir(), "state")})
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if err := e.ownState(); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{room, other} {
				if err := e.remember(name, found{Helper: way{ID: "helper of " + name}, Job: way{ID: "job of " + name}}); err != nil {
					t.Fatal(err)
				}
				if f, ok := e.remembered(name); !ok || f.Job.ID != "job of "+name {
					t.Fatalf("%+v, %t", f, ok)
				}
			}
			file := func(room string) string { return filepath.Join(e.stateDir(room), "room.json") }
			if err := damage(file(room), file(other)); err != nil {
				t.Fatal(err)
			}
			if f, ok := e.remembered(room); ok || !reflect.DeepEqual(f, found{}) {
				t.Errorf("it is believed: %+v", f)
			}
			if e.halfMade(room) {
				t.Error("it is half made")
			}
			var ev sandbox.Evidence
			e.forget(room, &ev)
			if _, err := os.Lstat(e.stateDir(room)); !errors.Is(err, os.ErrNotExist) || len(ev.Removed) != 1 || len(ev.Left) > 0 {
				t.Errorf("%v, %+v", err, ev)
			}
			if f, ok := e.remembered(other); !ok || f.Job.ID != "job of "+other {
				t.Errorf("the other room: %+v, %t", f, ok)
			}
		})
	}
}

func replace(path, link string) error {
	return errors.Join(os.RemoveAll(path), os.Symlink(link, path))
}
