package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"cleanroom/sandbox/initproto"
)

func TestWrite(t *testing.T) {
	_, c := helper(t)
	dir, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	write := func(path, content string) (initproto.Entry, error) {
		return c.Write(t.Context(), initproto.NewFile{Dir: dir, Path: path, Mode: 0o600, Modified: 1e9, Size: int64(len(content))}, strings.NewReader(content))
	}
	made, err := write("group/a b/cache.zip", "content")
	if err != nil {
		t.Fatal(err)
	}
	if list, _ := listed(t, c, dir, initproto.FileSet{Paths: []string{"group/a b/cache.zip"}}); len(list) != 1 || list[0] != made || made.Mode != 0o600 || made.Mtime != 1e9 {
		t.Errorf("%+v, %+v", list, made)
	}
	if _, err := write("group/a b/cache.zip", "another"); err != nil {
		t.Error(err)
	}
	want(t, stage(t, c, "cat '"+dir+"/group/a b/cache.zip'; stat -c ' %u' '"+dir+"/group/a b'"), 0, "another 0\n")
	for _, path := range []string{"out/f", "out/../../f", "group/a b", "group/a b/cache.zip/f"} {
		if _, err := write(path, "x"); !errors.Is(err, initproto.ErrNotWritten) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := c.Write(t.Context(), initproto.NewFile{Dir: filepath.Join(dir, "nowhere"), Path: "f"}, strings.NewReader("")); !errors.Is(err, initproto.ErrNotWritten) {
		t.Error(err)
	}
	broken := errors.New("broken")
	if _, err := c.Write(t.Context(), initproto.NewFile{Dir: dir, Path: "group/half", Size: 5}, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
	var left []string
	for _, root := range []string{dir, outside} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if !d.IsDir() {
				left = append(left, strings.TrimPrefix(path, root))
			}
			return err
		})
	}
	if got := strings.Join(left, " "); got != "/group/a b/cache.zip /out" {
		t.Errorf("there is %s", got)
	}
}

// A full disk leaves nothing of the file.
func TestWriteToAFullDisk(t *testing.T) {
	r, dir := withFiles(t, 0)
	c := r.boot(initproto.Boot{Role: initproto.Helper})
	big := strings.Repeat("x", 2<<20)
	_, err := c.Write(t.Context(), initproto.NewFile{Dir: dir, Path: "a/f", Mode: 0o600, Size: int64(len(big))}, strings.NewReader(big))
	if !errors.Is(err, initproto.ErrNotWritten) || !strings.Contains(err.Error(), "no space left") {
		t.Error(err)
	}
	want(t, stage(t, c, "ls -A '"+dir+"/a' | wc -l; df --output=used '"+dir+"' | tail -n 1 | tr -d ' '"), 0, "0\n0\n")
}

// BenchmarkWrite is how fast a file comes in over a unix socket.
func BenchmarkWrite(b *testing.B) {
	c := pidOne(b).boot(initproto.Boot{Role: initproto.Helper})
	content := strings.Repeat("0123456789abcdef", 64<<20/16)
	dir := b.TempDir()
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := c.Write(b.Context(), initproto.NewFile{Dir: dir, Path: "f", Size: int64(len(content))}, strings.NewReader(content)); err != nil {
			b.Fatal(err)
		}
	}
}
