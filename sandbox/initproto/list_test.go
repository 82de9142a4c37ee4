package initproto

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// shelf is a container with files in memory, by path.
type shelf struct {
	fake
	files   map[string]string
	note    string
	changed map[string]error
	asked   []FileSet
}

func (s *shelf) List(_ context.Context, dir string, sets []FileSet, each func(Entry) error) (string, error) {
	if dir == "/nowhere" {
		return "", errors.New("no\nsuch folder")
	}
	s.asked = sets
	for _, path := range slices.Sorted(maps.Keys(s.files)) {
		if err := each(fileEntry(path, s.files[path])); err != nil {
			return "", err
		}
	}
	return s.note, nil
}

func (s *shelf) Open(_ string, e Entry) (OpenFile, error) {
	if err := s.changed[e.Path]; err != nil {
		return nil, err
	}
	return memory{strings.NewReader(s.files[e.Path])}, nil
}

type memory struct{ *strings.Reader }

func (memory) Close() error { return nil }

func fileEntry(path, content string) Entry {
	return Entry{Path: path, Mode: 0o644, Size: int64(len(content)), Dev: 1<<64 - 1, Ino: 7, Mtime: 1, Ctime: -1}
}

func lists(t testing.TB, s *shelf) *Client {
	t.Helper()
	s.ready = true
	c, err := Dial(t.Context(), connect(t, &Server{Handler: s}), testKey)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func all(t testing.TB, c *Client, sets ...FileSet) (list []Entry, note string) {
	t.Helper()
	note, err := c.List(t.Context(), "/d", sets, func(e Entry) error { list = append(list, e); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return list, note
}

func TestList(t *testing.T) {
	s := &shelf{files: map[string]string{}, note: "git \x1b said"}
	for i := range 5000 {
		s.files[fmt.Sprintf("folder/\xff\n%d", i)] = "content"
	}
	c := lists(t, s)
	sets := []FileSet{{Paths: []string{"a\xff", ""}, Exclude: []string{"b"}}, {Untracked: true}}
	list, note := all(t, c, sets...)
	if len(list) != 5000 || note != "git ? said" || list[0] != fileEntry("folder/\xff\n0", "content") || !slices.IsSortedFunc(list, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) }) {
		t.Fatal(len(list), note, list[0])
	}
	if fmt.Sprint(s.asked) != fmt.Sprint(sets) {
		t.Fatal(s.asked)
	}
	// A stage runs on the same connection, and a list after it.
	if exit, err := c.RunStage(t.Context(), Stage{Script: strings.NewReader("*")}); err != nil || exit.Code != '*' {
		t.Fatal(exit, err)
	}
	if list, _ = all(t, c); len(list) != 5000 {
		t.Fatal(len(list))
	}
	for _, bad := range []string{"", "relative", "/not/../clean", "/d\x00"} {
		if _, err := c.List(t.Context(), bad, nil, nil); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	if _, err := c.List(t.Context(), "/nowhere", nil, nil); err == nil || err.Error() != "list files: init: no?such folder" {
		t.Fatal(err)
	}
	stop := errors.New("enough")
	if _, err := lists(t, s).List(t.Context(), "/d", nil, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
}

// An init that sends what no init would is met with ErrProtocol.
func TestBrokenLists(t *testing.T) {
	good := fileEntry("b", "")
	with := func(change func(*Entry)) []Entry { e := good; change(&e); return []Entry{e} }
	for name, list := range map[string][]Entry{
		"twice":         {good, good},
		"not sorted":    {good, fileEntry("a", "")},
		"absolute":      with(func(e *Entry) { e.Path = "/b" }),
		"outside":       with(func(e *Entry) { e.Path = "../b" }),
		"above":         with(func(e *Entry) { e.Path = ".." }),
		"not clean":     with(func(e *Entry) { e.Path = "a/../b" }),
		"zero byte":     with(func(e *Entry) { e.Path = "b\x00" }),
		"no path":       with(func(e *Entry) { e.Path = "" }),
		"long":          with(func(e *Entry) { e.Path = strings.Repeat("x", MaxPath+1) }),
		"negative":      with(func(e *Entry) { e.Size = -1 }),
		"two types":     with(func(e *Entry) { e.Mode |= fs.ModeDir | fs.ModeSymlink }),
		"unknown mode":  with(func(e *Entry) { e.Mode |= fs.ModeAppend }),
		"link to 0":     with(func(e *Entry) { e.Mode, e.Target = fs.ModeSymlink, "\x00" }),
		"file to a":     with(func(e *Entry) { e.Target = "a" }),
		"another count": {},
	} {
		var e encoder
		for _, entry := range list {
			entry.encode(&e)
		}
		stream := appendFrame(nil, frameListed, []byte{2, 0})
		if len(list) > 0 {
			stream = append(appendFrame(nil, frameEntries, e.b), stream...)
		}
		conn := script{bytes.NewReader(stream), make(chan struct{})}
		c := &Client{conn: conn, in: frameReader{r: conn, max: toDriver}}
		if _, err := c.List(t.Context(), "/d", nil, func(Entry) error { return nil }); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRead(t *testing.T) {
	big := make([]byte, 3<<20+17)
	rand.NewChaCha8([32]byte{1}).Read(big)
	s := &shelf{files: map[string]string{"big": string(big), "empty": "", "gone": "x", "secret": "x", "short": "abc"}, changed: map[string]error{}}
	c := lists(t, s)
	list, _ := all(t, c)
	by := map[string]Entry{}
	for _, e := range list {
		by[e.Path] = e
	}
	for _, try := range [][2]int64{{0, int64(len(big))}, {0, 1 << 60}, {1, 5}, {maxData - 1, maxData + 2}, {int64(len(big)) - 3, 100}, {int64(len(big)), 1}, {1 << 60, 1}, {0, 0}} {
		var got bytes.Buffer
		from := min(try[0], int64(len(big)))
		want := big[from:min(int64(len(big)), from+min(try[1], int64(len(big))))]
		if err := c.Read(t.Context(), by["big"], try[0], try[1], &got); err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%v: %v, %d bytes, want %d", try, err, got.Len(), len(want))
		}
	}
	// What became of one file leaves the others and the connection as they are.
	s.changed["gone"] = fmt.Errorf("it: %w", ErrChanged)
	s.changed["secret"] = errors.New("permission\ndenied")
	s.files["short"] = "ab"
	got, err := c.ReadFiles(t.Context(), []Entry{by["gone"], by["empty"], by["secret"], by["short"], by["big"]})
	if err != nil || !errors.Is(got[0].Err, ErrChanged) || !strings.HasPrefix(got[0].Err.Error(), `"gone": `) ||
		got[1].Err != nil || got[1].Data != nil || got[2].Err == nil || errors.Is(got[2].Err, ErrChanged) || got[2].Err.Error() != `"secret": cannot be read: permission?denied` ||
		!errors.Is(got[3].Err, ErrChanged) || !bytes.Equal(got[4].Data, big) {
		t.Fatal(err, got[0].Err, got[2].Err, got[3].Err, len(got[4].Data))
	}
	if err := c.Read(t.Context(), by["gone"], 0, 1, io.Discard); !errors.Is(err, ErrChanged) {
		t.Fatal(err)
	}
	for _, bad := range []Entry{{Path: "link", Mode: fs.ModeSymlink, Size: 1}, {Path: "../x", Size: 1}, {Path: "x", Mode: fs.ModeDir, Size: 1}} {
		if err := c.Read(t.Context(), bad, 0, 1, io.Discard); err == nil {
			t.Errorf("%+v is read", bad)
		}
	}
	if err := c.Read(t.Context(), by["big"], -1, 1, io.Discard); err == nil {
		t.Error("read before the beginning")
	}
	if _, err := c.ReadFiles(t.Context(), make([]Entry, MaxReads+1)); err == nil {
		t.Error("too many at once")
	}
	if exit, err := c.RunStage(t.Context(), Stage{Script: strings.NewReader("*")}); err != nil || exit.Code != '*' {
		t.Fatal(exit, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stop := writerTo(func(p []byte) (int, error) { cancel(); return len(p), nil })
	if err := c.Read(ctx, by["big"], 0, 1<<40, stop); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// An archive is read through a view as from a disk, with few questions.
func TestView(t *testing.T) {
	var packed bytes.Buffer
	w := zip.NewWriter(&packed)
	random := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{2}).Read(random)
	for i := range 200 {
		f, err := w.Create(fmt.Sprintf("file%d", i))
		if err != nil {
			t.Fatal(err)
		}
		f.Write(random[:500*i])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	s := &shelf{files: map[string]string{"a.zip": packed.String(), "empty": ""}}
	c := lists(t, s)
	list, _ := all(t, c)
	view := c.File(t.Context(), list[0])
	if err := iotest.TestReader(io.NewSectionReader(c.File(t.Context(), list[0]), 0, 5000), packed.Bytes()[:5000]); err != nil {
		t.Error(err)
	}
	if n, err := c.File(t.Context(), list[1]).ReadAt(make([]byte, 1), 0); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
	if _, err := view.ReadAt(nil, -1); err == nil {
		t.Error("read before the beginning")
	}
	r, err := zip.NewReader(view, view.Size())
	if err != nil || len(r.File) != 200 {
		t.Fatal(err)
	}
	for i, f := range r.File {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(rc); err != nil || !bytes.Equal(got, random[:500*i]) {
			t.Fatal(i, err, len(got))
		}
	}
	s.changed = map[string]error{"a.zip": ErrChanged}
	if _, err := c.File(t.Context(), list[0]).ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrChanged) {
		t.Error(err)
	}
}
