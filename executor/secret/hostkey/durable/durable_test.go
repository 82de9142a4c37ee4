package durable_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/executor/secret/hostkey/durable"
)

func TestWriteRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if _, err := durable.Read(path, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	// What a crash left, and what somebody else put there, is not written into.
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, path+".new"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"one", "", "0123456789"} {
		if err := durable.Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := durable.Read(path, 10); err != nil || string(got) != text {
			t.Errorf("%q, %v; want %q", got, err, text)
		}
	}
	if text, _ := os.ReadFile(victim); string(text) != "mine" {
		t.Errorf("the link was followed: %q", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := durable.Read(path, 9); !errors.Is(err, durable.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	defer unix.Umask(unix.Umask(0o077))
	for _, text := range []string{"first", "second", ""} {
		if err := durable.Replace(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}

func TestReadDoesNotWaitForAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Read(path, 10); !errors.Is(err, durable.ErrLoose) {
		t.Errorf("error %v", err)
	}
}

// A failed write leaves the old file.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.Write(path, []byte("x")); err == nil {
		t.Error("a folder was replaced")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left: %v", entries)
	}
}

func TestFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := durable.Folder(dir); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.Chmod(dir, 0o702); err != nil {
		t.Fatal(err)
	}
	if err := durable.Folder(dir); !errors.Is(err, durable.ErrLoose) {
		t.Errorf("writable by others: %v", err)
	}
}

// Root's files in the runner's user's folder become that user's.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		return // another user has nobody to give a file to
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 1234, 2345); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "file")
	if err := durable.Write(path, []byte("x")); err != nil {
		t.Fatal(err)
	}
	lock, err := durable.Lock(t.Context(), path+".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Unlock()
	for _, name := range []string{path, path + ".lock"} {
		var s unix.Stat_t
		if err := unix.Stat(name, &s); err != nil || s.Uid != 1234 || s.Gid != 2345 {
			t.Errorf("%s: %d:%d, %v", name, s.Uid, s.Gid, err)
		}
	}
	if err := os.Chown(path, 777, 777); err != nil {
		t.Fatal(err)
	}
	if _, err := durable.Read(path, 10); !errors.Is(err, durable.ErrLoose) {
		t.Errorf("a third user's: %v", err)
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := durable.Lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := durable.Lock(short, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second holder: %v", err)
	}
	if _, err := durable.Try(path); !errors.Is(err, durable.ErrHeld) {
		t.Fatalf("a second holder, trying: %v", err)
	}
	// Who waits for a file that its holder removes does not hold a lock that
	// nobody else sees.
	got := make(chan *durable.Held, 1)
	go func() {
		held, err := durable.Lock(t.Context(), path)
		if err != nil {
			t.Error(err)
		}
		got <- held
	}()
	for opened(t, path) < 3 { // the first holder's, that of the wait given up, and this one's
		time.Sleep(time.Millisecond)
	}
	if err := first.Remove(); err != nil {
		t.Fatal(err)
	}
	second := <-got
	short, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := durable.Lock(short, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("two holders: %v", err)
	}
	if err := second.Unlock(); err != nil {
		t.Error(err)
	}
	for opened(t, path) > 0 { // the wait given up gets its turn, and lets go at once
		time.Sleep(time.Millisecond)
	}
	third, err := durable.Try(path)
	if err != nil {
		t.Fatal(err)
	}
	third.Unlock()
}

// opened counts this process's descriptors of a file.
func opened(t *testing.T, path string) (n int) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && target == path {
			n++
		}
	}
	return n
}
