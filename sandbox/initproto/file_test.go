package initproto

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
)

func TestCheckFiles(t *testing.T) {
	file := func(name string) []File { return []File{{Name: name}} }
	for _, try := range []struct {
		dir   string
		files []File
		says  string
	}{
		{"", nil, ""},
		{"/f", nil, ""},
		{"/run/files", []File{{Name: "a"}, {Name: ".hidden", Mode: 0o777}, {Name: "ünï code\n"}}, ""},
		{"/f", file(strings.Repeat("x", 255)), ""},
		{"/f", file(strings.Repeat("x", 256)), "longer than 255 bytes"},
		{"/f", file(""), "no name"},
		{"/f", file("."), `begin with ".."`},
		{"/f", file(".."), `begin with ".."`},
		{"/f", file("..data"), `begin with ".."`},
		{"/f", file("a/b"), "slash"},
		{"/f", file("/"), "slash"},
		{"/f", file("a\x00"), "zero byte"},
		{"/f", []File{{Name: "a"}, {Name: "b"}, {Name: "a"}}, "twice"},
		{"/f", []File{{Name: "a", Mode: fs.ModeDir | 0o700}}, "permission bits"},
		{"/f", []File{{Name: "a", Mode: fs.ModeSetuid}}, "permission bits"},
		{"/f", make([]File, MaxFiles+1), "at most 100"},
		{"", file("a"), "clean absolute path"},
		{"f", file("a"), "clean absolute path"},
		{"/", file("a"), "clean absolute path"},
		{"/f/", file("a"), "clean absolute path"},
		{"/f/../g", file("a"), "clean absolute path"},
		{"/f\x00", nil, "clean absolute path"},
	} {
		err := checkFiles(try.dir, try.files)
		if (err == nil) != (try.says == "") || err != nil && (!strings.Contains(err.Error(), try.says) || strings.ContainsAny(err.Error(), "\n\x00")) {
			t.Errorf("%q %.40v: %v, want %q", try.dir, try.files, err, try.says)
		}
	}
}

// taker is a container that keeps what it was given.
type taker struct {
	fake
	boot  Boot
	stage Stage
}

func (k *taker) Boot(b Boot) error { k.boot = b; return k.fake.Boot(b) }

func (k *taker) Run(ctx context.Context, s Stage, _ func([]byte) error) (Exit, error) {
	k.stage = s
	return Exit{}, nil
}

func TestFilesArrive(t *testing.T) {
	k := &taker{}
	s := &Server{Handler: k}
	c, err := Dial(t.Context(), connect(t, s), testKey)
	if err != nil {
		t.Fatal(err)
	}
	files := []File{{Name: "a", Data: []byte("v\x00\xff\n")}, {Name: "b", Mode: 0o440, Data: bytes.Repeat([]byte("big"), 1<<20)}, {Name: "empty", Mode: 0o400}}
	want := []File{{Name: "a", Mode: 0o400, Data: files[0].Data}, files[1], files[2]}
	same := func(dir string, got []File) bool {
		if dir != "/run/f" || len(got) != len(want) {
			return false
		}
		for i := range got {
			if got[i].Name != want[i].Name || got[i].Mode != want[i].Mode || !bytes.Equal(got[i].Data, want[i].Data) {
				return false
			}
		}
		return true
	}
	var x *ExecError
	if _, err := c.Boot(t.Context(), Boot{Role: Service, Argv: []string{"x"}, FilesDir: "/run/f", Files: files}); !errors.As(err, &x) || !same(k.boot.FilesDir, k.boot.Files) {
		t.Fatal(err, len(k.boot.Files))
	}
	if _, err := c.Boot(t.Context(), Boot{Role: Job, FilesDir: "/run/f", Files: files}); err == nil || !strings.Contains(err.Error(), "only a service") {
		t.Fatal(err)
	}
	if _, err := c.Boot(t.Context(), Boot{Role: Helper}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RunStage(t.Context(), Stage{FilesDir: "/run/f", Files: files}); err != nil || !same(k.stage.FilesDir, k.stage.Files) {
		t.Fatal(err, len(k.stage.Files))
	}
	if _, err := c.RunStage(t.Context(), Stage{}); err != nil || k.stage.FilesDir != "" || k.stage.Files != nil {
		t.Fatal(err, k.stage)
	}
	// What is too large or wrong never leaves, and spoils nothing.
	for _, bad := range [][]File{{{Name: "a", Data: make([]byte, maxControl)}}, {{Name: "../a"}}} {
		if _, err := c.RunStage(t.Context(), Stage{FilesDir: "/run/f", Files: bad}); err == nil {
			t.Fatal("accepted")
		}
	}
	if _, err := c.RunStage(t.Context(), Stage{}); err != nil {
		t.Fatal(err)
	}
}

// The buffer that a stage or a Boot came in does not keep it.
func TestFrameIsCleared(t *testing.T) {
	for _, size := range []int{10, maxStream, 1 << 20} {
		value := strings.Repeat("v4lue", size/5)
		a, b := net.Pipe()
		k := &taker{fake: fake{ready: true}}
		ses := &session{srv: &Server{Handler: k}, conn: b, in: frameReader{r: b}}
		done := make(chan error, 1)
		go func() { done <- ses.serve() }()
		c := &Client{conn: a, in: frameReader{r: a, max: toDriver}}
		if _, err := c.RunStage(t.Context(), Stage{Env: []string{"A=" + value}, FilesDir: "/f", Files: []File{{Name: "f", Data: []byte(value)}}}); err != nil {
			t.Fatal(err)
		}
		if len(k.stage.Files) != 1 || string(k.stage.Files[0].Data) != value || k.stage.Env[0] != "A="+value {
			t.Fatal("the stage was cleared as well")
		}
		a.Close()
		<-done
		if rest := ses.in.buf[:cap(ses.in.buf)]; bytes.Contains(rest, []byte("v4lue")) {
			t.Errorf("%d bytes: the frame's buffer still holds them", size)
		}
		runtime.KeepAlive(c)
	}
}

// FuzzControl has arbitrary bytes as what a Boot or a stage carries: what is
// accepted is safe to act on, no larger than what came, and says again what it
// said.
func FuzzControl(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		check := func(dir string, files []File) {
			size := 0
			for _, file := range files {
				size += len(file.Data) + len(file.Name)
				if file.Mode == 0 || filepath.Dir(filepath.Join("/d", file.Name)) != "/d" {
					t.Fatalf("%q with mode %o", file.Name, file.Mode)
				}
			}
			if size > len(data) || checkFiles(dir, files) != nil {
				t.Fatalf("%d bytes of files from %d: %v", size, len(data), checkFiles(dir, files))
			}
		}
		if s, err := decodeStage(data); err == nil {
			check(s.FilesDir, s.Files)
			var e encoder
			s.encode(&e)
			if again, err := decodeStage(e.b); err != nil || !reflect.DeepEqual(s, again) {
				t.Fatalf("%+v became %+v, %v", s, again, err)
			}
		}
		if b, err := decodeBoot(data); err == nil {
			check(b.FilesDir, b.Files)
			var e encoder
			b.encode(&e)
			if again, err := decodeBoot(e.b); err != nil || !reflect.DeepEqual(b, again) || b.Role != Service && b.Files != nil {
				t.Fatalf("%+v became %+v, %v", b, again, err)
			}
		}
		if l, err := decodeLists(data); err == nil {
			var e encoder
			l.encode(&e)
			if again, err := decodeLists(e.b); err != nil || !reflect.DeepEqual(l, again) || l.check() != nil {
				t.Fatalf("%+v became %+v, %v", l, again, err)
			}
		}
		if f, err := decodeNewFile(data); err == nil {
			var e encoder
			f.encode(&e)
			if again, err := decodeNewFile(e.b); err != nil || f != again || f.check() != nil || filepath.Dir(filepath.Join("/d", f.Path)) == "/" {
				t.Fatalf("%+v became %+v, %v", f, again, err)
			}
		}
		if dir, spans, err := decodeSpans(data); err == nil {
			var e encoder
			encodeSpans(&e, dir, spans)
			for _, s := range spans {
				if s.e.check() != nil || s.off < 0 || s.n < 0 || s.n > 0 && s.off+s.n > s.e.Size {
					t.Fatalf("%+v", s)
				}
			}
			if dir2, again, err := decodeSpans(e.b); err != nil || dir != dir2 || !reflect.DeepEqual(spans, again) {
				t.Fatalf("%+v became %+v, %v", spans, again, err)
			}
		}
	})
}

func TestControlCorpus(t *testing.T) {
	seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", "FuzzControl"))
	if err != nil || len(seeds) == 0 {
		t.Fatal("no seeds for FuzzControl: ", err)
	}
}
