package executor

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

	"cleanroom/executor/contract"
	"cleanroom/sandbox"
)

const otherRoom = "cr-a1b2c3d4e-4712-0123456789"

// roomsEngine has what a test says it has.
type roomsEngine struct {
	*fakeEngine
	rooms []sandbox.RoomInfo
}

func (e *roomsEngine) Rooms(context.Context) ([]sandbox.RoomInfo, error) { return e.rooms, nil }

// damages are what can become of a file; other is the same file of another room.
var damages = map[string]func(path, other string) error{
	"garbage": func(path, _ string) error { return os.WriteFile(path, []byte("\x00{]garbage\n\xff\n"), 0o600) },
	"empty":   func(path, _ string) error { return os.Truncate(path, 0) },
	"another room's": func(path, other string) error {
		b, err := os.ReadFile(other)
		return errors.Join(err, os.WriteFile(path, b, 0o600))
	},
	"of others": func(path, _ string) error { return errors.Join(os.Chown(path, 65534, 65534), os.Chmod(path, 0o666)) },
	"half": func(path, _ string) error {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, info.Size()/2)
	},
	"a folder": func(path, _ string) error {
		return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "in", "it"), 0o700), os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
	},
	"a pipe": func(path, _ string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
	"a link": func(path, other string) error { return errors.Join(os.Remove(path), os.Symlink(other, path)) },
}

// TestDamagedFiles: whatever stands in a file's place, nobody hangs, the error
// is one line, the room is wiped all the same, and another's is left whole.
func TestDamagedFiles(t *testing.T) {
	for how, damage := range damages {
		for _, file := range []string{"leases", "sealed", "stages"} {
			t.Run(file+" is "+how, func(t *testing.T) {
				d := newDamaged(t)
				path := d.path(file, testRoom)
				before := d.others()
				if err := damage(path, d.path(file, otherRoom)); err != nil {
					t.Fatal(err)
				}
				d.soon(func() { d.living(file, how) })
				d.soon(func() { d.cleanup(file, how) })
				if len(d.engine.wiped) == 0 || slices.Contains(d.engine.wiped, otherRoom) {
					t.Errorf("wiped: %q", d.engine.wiped)
				}
				if err := os.RemoveAll(d.path("leases", testRoom)); err != nil { // as an admin is told
					t.Fatal(err)
				}
				if err := errors.Join(d.reaper.End(t.Context(), testRoom), d.reaper.Reap(t.Context())); err != nil {
					t.Error(err)
				}
				for _, file := range []string{"sealed", "stages"} {
					if _, err := os.Lstat(d.path(file, testRoom)); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("%s: %v", file, err)
					}
				}
				if after := d.others(); after != before {
					t.Errorf("another room's files are not as they were:\n%s\n%s", before, after)
				}
			})
		}
	}
}

// damaged is a site with two rooms whose runner lives.
type damaged struct {
	*job
	ledger string
	reaper *Reaper
}

func newDamaged(t *testing.T) damaged {
	t.Helper()
	j, ledger := withSecrets(t)
	for _, room := range []string{testRoom, otherRoom} {
		x := j.executor()
		x.Call.Runner, x.Call.Room = contract.Runner().String(), room
		if err := x.PrepareStage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	engine := &roomsEngine{fakeEngine: j.engine}
	for _, room := range []string{testRoom, otherRoom} {
		engine.rooms = append(engine.rooms, sandbox.RoomInfo{Name: room, Deadline: time.Now().Add(time.Hour)})
	}
	return damaged{j, ledger, &Reaper{Config: j.config, Engine: engine, Log: j.executor().Log, Out: &strings.Builder{}, Full: full}}
}

func (d damaged) path(file, room string) string {
	if file == "leases" {
		return filepath.Join(d.config.DataDir, file, room+".jsonl")
	}
	return filepath.Join(d.config.StateDir, file, room)
}

// others is what the other room's files hold.
func (d damaged) others() string {
	var all strings.Builder
	for _, file := range []string{"leases", "sealed", "stages"} {
		b, err := os.ReadFile(d.path(file, otherRoom))
		fmt.Fprintf(&all, "%s %x %v\n", file, b, err)
	}
	return all.String()
}

func (d damaged) soon(do func()) {
	d.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		d.t.Fatal("it hangs")
	}
}

func (d damaged) oneLine(err error, want string) {
	d.t.Helper()
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), want) {
		d.t.Errorf("the error is %v, want one line with %q", err, want)
	}
}

// living is what befalls the room while its job runs.
func (d damaged) living(file, how string) {
	d.t.Helper()
	err := d.reaper.Reap(d.t.Context())
	if file == "leases" && how != "of others" && how != "half" && how != "empty" {
		d.oneLine(err, d.path(file, testRoom))
	} else if err != nil {
		d.t.Error(err)
	}
	if len(d.engine.wiped) > 0 {
		d.t.Errorf("reap wiped %q while the jobs ran", d.engine.wiped)
	}
	script := filepath.Join(d.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("true"), 0o600); err != nil {
		d.t.Error(err)
	}
	err = d.executor().RunStage(d.t.Context(), script, contract.StageGetSources)
	if file == "sealed" {
		d.oneLine(err, "unseal secrets: ")
	} else if err != nil {
		d.t.Error(err)
	}
}

func (d damaged) cleanup(file, how string) {
	d.t.Helper()
	d.engine.evidence.Removed = []sandbox.Item{{Kind: "container", Name: testRoom + "-job"}}
	err := d.executor().CleanupStage(d.t.Context())
	left := 2 // leases: the other room's always
	switch {
	case file == "leases" && how == "empty":
		d.oneLine(err, "was emptied: revoke by hand")
	case file == "leases" && how != "of others" && how != "half":
		d.oneLine(err, d.path(file, testRoom))
	default:
		if left = 1; err != nil {
			d.t.Error(err)
		}
	}
	if file == "leases" && how == "half" { // torn within the lease: it is not known, nor was it used
		return
	}
	if n := leases(d.t, d.ledger); n != left {
		d.t.Errorf("%d leases, want %d", n, left)
	}
}

// TestMuteJournal: of a room whose journal does not tell whose it is, the
// deadline on the engine's labels does.
func TestMuteJournal(t *testing.T) {
	d := newDamaged(t)
	text, err := os.ReadFile(d.path("leases", testRoom))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n")
	if err := os.WriteFile(d.path("leases", testRoom), []byte("{\n"+rest), 0o600); err != nil {
		t.Fatal(err)
	}
	d.reaper.Engine.(*roomsEngine).rooms[0].Deadline = time.Now().Add(-time.Second)
	d.oneLine(d.reaper.Reap(t.Context()), "line 1 is no head")
	if n := leases(t, d.ledger); n != 1 || !slices.Equal(d.engine.wiped, []string{testRoom}) {
		t.Errorf("%d leases, wiped %q", n, d.engine.wiped)
	}
}

// TestForeignNames among the journals lead nowhere.
func TestForeignNames(t *testing.T) {
	d := newDamaged(t)
	before := d.others()
	names := []string{"...jsonl", "..jsonl", "*.jsonl", "cr-*.jsonl", "x.jsonl", "cr-a b.jsonl"}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(d.config.DataDir, "leases", name), []byte("{}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := d.reaper.Reap(t.Context())
	d.oneLine(err, "is no room's name")
	if n := strings.Count(err.Error(), "is no room's name"); n != len(names) || len(d.engine.wiped) > 0 {
		t.Errorf("%d names of %d: %v; wiped %q", n, len(names), err, d.engine.wiped)
	}
	for _, name := range names {
		if err := d.reaper.End(t.Context(), strings.TrimSuffix(name, ".jsonl")); err == nil {
			t.Errorf("%s was wiped", name)
		}
	}
	if after := d.others(); after != before {
		t.Errorf("another room's files are not as they were:\n%s\n%s", before, after)
	}
}
