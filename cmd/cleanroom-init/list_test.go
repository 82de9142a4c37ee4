package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/sandbox/initproto"
)

func listed(t testing.TB, c *initproto.Client, dir string, sets ...initproto.FileSet) (list []initproto.Entry, note string) {
	t.Helper()
	note, err := c.List(t.Context(), dir, sets, func(e initproto.Entry) error { list = append(list, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return list, note
}

func paths(list []initproto.Entry) string {
	var all []string
	for _, e := range list {
		all = append(all, e.Path)
	}
	return strings.Join(all, " ")
}

// project makes files below a folder whose name a pattern could take for a sign.
func project(t testing.TB, files ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "gro[u]p", "pro*ject")
	for _, f := range append(files, "../outside/secret") {
		path := filepath.Join(dir, f)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func git(t testing.TB, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestList(t *testing.T) {
	_, c := helper(t)
	dir := project(t, "a.txt", "b.log", "sub/c.txt", "sub/deep/d.txt", "sub/deep/e.log", ".hidden/f", "we[i]rd/g", "bad\xffname/h")
	for _, link := range [][2]string{{"sub", "link"}, {"../../outside", "sub/out"}, {"..", "sub/deep/up"}} {
		if err := os.Symlink(link[0], filepath.Join(dir, link[1])); err != nil {
			t.Fatal(err)
		}
	}
	type set = initproto.FileSet
	one := func(p ...string) set { return set{Paths: p} }
	for _, try := range []struct {
		sets []set
		want string
	}{
		{[]set{one("a.txt")}, "a.txt"},
		{[]set{one("a.txt", "./a.txt", dir+"/a.txt", "sub/../a.txt", "a.*")}, "a.txt"},
		{[]set{one("nothing", "", "no*")}, ""},
		{[]set{one("sub")}, "sub sub/c.txt sub/deep sub/deep/d.txt sub/deep/e.log sub/deep/up sub/out"},
		{[]set{one("sub/")}, "sub sub/c.txt sub/deep sub/deep/d.txt sub/deep/e.log sub/deep/up sub/out"},
		{[]set{one("**/*.txt")}, "a.txt sub/c.txt sub/deep/d.txt"},
		{[]set{one("*/deep")}, "sub/deep sub/deep/d.txt sub/deep/e.log sub/deep/up"}, // not by the link
		{[]set{one("link", "link/c.txt")}, "link link/c.txt"},
		{[]set{{Paths: []string{"sub"}, Exclude: []string{"**/*.log", "sub/deep/up", "sub/out"}}}, "sub sub/c.txt sub/deep sub/deep/d.txt"},
		{[]set{{Paths: []string{"sub/deep"}, Exclude: []string{"sub/deep"}}}, "sub/deep/d.txt sub/deep/e.log sub/deep/up"},
		{[]set{{Paths: []string{"*.txt", "*.log"}, Exclude: []string{"../x", "a.txt"}}}, "a.txt b.log"}, // nothing after a bad one
		{[]set{{Paths: []string{"*.txt", "*.log"}, Exclude: []string{"a.txt", "../x"}}}, "b.log"},
		{[]set{{Paths: []string{"*.txt"}, Exclude: []string{"a.txt"}}, one("a.txt")}, "a.txt"}, // each set by itself
		{[]set{one("..", "../outside", "../outside/*", "/etc", "/etc/passwd", "../*", "sub/../../outside/secret")}, ""},
		{[]set{one("x*/../../outside/*", "sub/out/*")}, "sub/out/secret"}, // the runner stores it as a file of the project's
		{[]set{one("{a,b}.{txt,log}")}, "a.txt b.log"},
		{[]set{one("[bad")}, ""},
		{[]set{one("we\\[i\\]rd")}, "we[i]rd we[i]rd/g"},
		{[]set{one("we[[]i]rd")}, "we[i]rd we[i]rd/g"},
		{[]set{one("bad\xffname")}, ""}, // no pattern
		{[]set{one("bad?name", "bad*")}, "bad\xffname bad\xffname/h"},
		{[]set{one(".hidden")}, ".hidden .hidden/f"},
		{[]set{one(dir)}, ". .hidden .hidden/f a.txt b.log bad\xffname bad\xffname/h link sub sub/c.txt sub/deep sub/deep/d.txt sub/deep/e.log sub/deep/up sub/out we[i]rd we[i]rd/g"},
	} {
		if list, note := listed(t, c, dir, try.sets...); paths(list) != try.want || note != "" {
			t.Errorf("%+v\ngot  %q\nwant %q %s", try.sets, paths(list), try.want, note)
		}
	}
	list, _ := listed(t, c, dir, one("link", "a.txt", "sub/deep"))
	for i, want := range []struct {
		mode   fs.FileMode
		target string
	}{{0, ""}, {fs.ModeSymlink, "sub"}, {fs.ModeDir, ""}, {0, ""}, {0, ""}, {fs.ModeSymlink, ".."}} {
		if list[i].Mode.Type() != want.mode || list[i].Target != want.target || list[i].Ino == 0 || list[i].Ctime == 0 {
			t.Errorf("%+v", list[i])
		}
	}
	// init is where it was, and a folder that is not there has nothing.
	want(t, stage(t, c, "pwd"), 0, "/\n")
	if list, _ := listed(t, c, "/no/where", one("**")); list != nil {
		t.Error(list)
	}
}

func TestUntracked(t *testing.T) {
	_, c := helper(t)
	dir := project(t, "tracked", "untracked", "ignored.o", "sub/also", "nested/x", "new\nline", "out.log")
	untracked := initproto.FileSet{Untracked: true, Exclude: []string{"*.log"}}
	everything := ". ignored.o nested nested/x new\nline sub sub/also tracked untracked"
	list, note := listed(t, c, dir, untracked)
	if paths(list) != everything || !strings.Contains(note, "status 128") {
		t.Errorf("%q %q", paths(list), note)
	}
	git(t, dir, "init", "-q")
	os.WriteFile(dir+"/.gitignore", []byte("*.o\n"), 0o644)
	git(t, dir, "add", "tracked", ".gitignore")
	git(t, dir, "commit", "-qm", "x")
	git(t, dir+"/nested", "init", "-q")
	is := func(want string) {
		t.Helper()
		if list, note := listed(t, c, dir, untracked); paths(list) != want || note != "" {
			t.Errorf("%q %q", paths(list), note)
		}
	}
	is("ignored.o nested new\nline sub/also untracked")
	// What the author's configuration would have git execute is not.
	proof := t.TempDir() + "/proof"
	hook := filepath.Join(dir, "hook")
	os.WriteFile(hook, []byte("#!/bin/sh\ntouch "+proof+"\nprintf '0\\0/\\0'\n"), 0o755)
	git(t, dir, "config", "core.fsmonitor", hook)
	git(t, dir, "config", "core.hooksPath", dir)
	os.Remove(proof)
	is("hook ignored.o nested new\nline sub/also untracked")
	if _, err := os.Stat(proof); err == nil {
		t.Error("git executed the author's fsmonitor")
	}
	// A repository of somebody else is listed all the same, a broken one is not believed.
	os.Chown(dir+"/.git", 12345, 12345)
	os.Chown(dir, 12345, 12345)
	is("hook ignored.o nested new\nline sub/also untracked")
	os.WriteFile(dir+"/.git/HEAD", []byte("nonsense"), 0o644)
	if list, note := listed(t, c, dir, untracked); !strings.Contains(paths(list), "tracked") || strings.Contains(paths(list), " .git/") || note == "" {
		t.Errorf("%q %q", paths(list), note)
	}
	// Its children are reaped, and no stage takes them for its own.
	want(t, stage(t, c, "echo fine"), 0, "fine\n")
}

func TestReadChanged(t *testing.T) {
	_, c := helper(t)
	dir := project(t, "same", "written", "replaced", "linked", "piped", "gone", "up/file")
	list, _ := listed(t, c, dir, initproto.FileSet{Paths: []string{"*", "up/file"}})
	by := map[string]initproto.Entry{}
	for _, e := range list {
		by[e.Path] = e
	}
	for _, err := range []error{
		os.WriteFile(dir+"/written", []byte("WRITTEN"), 0o644),
		os.WriteFile(dir+"/new", []byte("replaced"), 0o644), os.Rename(dir+"/new", dir+"/replaced"),
		os.Remove(dir + "/linked"), os.Symlink("same", dir+"/linked"),
		os.Remove(dir + "/piped"), syscall.Mkfifo(dir+"/piped", 0o644),
		os.Remove(dir + "/gone"),
		os.Rename(dir+"/up", dir+"/moved"), os.Symlink("moved", dir+"/up"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range map[string]string{"same": "same", "up/file": "up/file"} { // it is the same file still
		var got bytes.Buffer
		if err := c.Read(t.Context(), by[path], 0, 100, &got); err != nil || got.String() != content {
			t.Errorf("%s: %v, %q", path, err, got.String())
		}
	}
	for _, path := range []string{"written", "replaced", "linked", "piped", "gone"} {
		if err := c.Read(t.Context(), by[path], 0, 100, io.Discard); !errors.Is(err, initproto.ErrChanged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Read(ctx, by["same"], 0, 100, io.Discard); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A list that goes on for long ends with its driver's patience.
func TestListIsCanceled(t *testing.T) {
	_, c := helper(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.List(ctx, "/usr", []initproto.FileSet{{Paths: []string{"**"}}}, func(initproto.Entry) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// BenchmarkRead is a big file, as a room reads it.
func BenchmarkRead(b *testing.B) {
	c := pidOne(b).boot(initproto.Boot{Role: initproto.Helper})
	dir := b.TempDir()
	const size = 512 << 20
	if err := os.WriteFile(dir+"/big", make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	list, _ := listed(b, c, dir, initproto.FileSet{Paths: []string{"big"}})
	b.SetBytes(size)
	for b.Loop() {
		if err := c.Read(b.Context(), list[0], 0, size, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReadSmall lists and reads 20,000 files of 1 KiB: one by one, and
// many with one request.
func BenchmarkReadSmall(b *testing.B) {
	c := pidOne(b).boot(initproto.Boot{Role: initproto.Helper})
	dir := b.TempDir()
	for i := range 20000 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), make([]byte, 1024), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	set := initproto.FileSet{Paths: []string{"**"}}
	b.Run("list", func(b *testing.B) {
		for b.Loop() {
			listed(b, c, dir, set)
		}
	})
	list, _ := listed(b, c, dir, set)
	list = slices.DeleteFunc(list, func(e initproto.Entry) bool { return !e.Mode.IsRegular() })
	b.Run("each", func(b *testing.B) {
		for b.Loop() {
			for _, e := range list {
				if err := c.Read(b.Context(), e, 0, e.Size, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("together", func(b *testing.B) {
		for b.Loop() {
			for part := range slices.Chunk(list, initproto.MaxReads) {
				if got, err := c.ReadFiles(b.Context(), part); err != nil || len(got[0].Data) != 1024 {
					b.Fatal(err)
				}
			}
		}
	})
}
