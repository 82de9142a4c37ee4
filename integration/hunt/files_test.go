package hunt

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fresh is a value that is nowhere.
func fresh() string { return "canary-" + rand.Text() }

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zipped(t *testing.T, content string) string {
	var z bytes.Buffer
	a := zip.NewWriter(&z)
	w, err := a.Create("inner.txt")
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(content))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	return z.String()
}

func gzipped(t *testing.T, content string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(content))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Each is planted, found at its place, removed, and found no more.
func TestFiles(t *testing.T) {
	value := fresh()
	for name, c := range map[string]struct {
		plant func(dir string) (where string)
		form  Form
		at    int64
	}{
		"a file": {func(d string) string { return write(t, d+"/a", "x"+value) }, Plain, 1},
		"a folder below, as base64": {func(d string) string {
			os.Mkdir(d+"/b", 0o700)
			return write(t, d+"/b/log", "x"+base64.StdEncoding.EncodeToString([]byte("user:"+value)))
		}, Base64, 8},
		"inside a big file": {func(d string) string {
			return write(t, d+"/a", strings.Repeat("abcdefgh", 5<<17)+value+strings.Repeat("z", 1<<20))
		}, Plain, 5 << 20},
		"behind a hole": {func(d string) string {
			path := write(t, d+"/a", "x")
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt([]byte(value), 64<<30); err != nil { // would take a minute to read
				t.Fatal(err)
			}
			return path
		}, Plain, 64 << 30},
		"gzip":                {func(d string) string { return write(t, d+"/a.gz", gzipped(t, "log "+value)) + " (unpacked)" }, Plain, 4},
		"zip":                 {func(d string) string { return write(t, d+"/a", zipped(t, value)) + " (unpacked: inner.txt)" }, Plain, 0},
		"a file's name":       {func(d string) string { write(t, d+"/a-"+value, "x"); return d + "/a-[token]" }, Plain, -1},
		"a folder's name":     {func(d string) string { os.Mkdir(d+"/"+value, 0o700); return d + "/[token]" }, Plain, -1},
		"an empty file's":     {func(d string) string { write(t, d+"/"+value, ""); return d + "/[token]" }, Plain, -1},
		"a link":              {func(d string) string { os.Symlink("/no/"+value, d+"/l"); return d + "/l (the link's target)" }, Plain, -1},
		"a read-only file":    {func(d string) string { p := write(t, d+"/a", value); os.Chmod(p, 0); return p }, Plain, 0},
		"a name with a blank": {func(d string) string { return write(t, d+"/a b\n", value) }, Plain, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			where := c.plant(dir)
			h := New(map[string]string{"token": value})
			if err := h.Files(t.Context(), FileScope{In: []string{dir}}); err != nil {
				t.Fatal(err)
			}
			if want := (Find{"token", where, c.at, c.form}); !slices.Equal(h.Report().Finds, []Find{want}) {
				t.Errorf("got %v, want %v", h.Report(), want)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			after := New(map[string]string{"token": value})
			if err := after.Files(t.Context(), FileScope{In: []string{filepath.Dir(dir)}}); err != nil {
				t.Fatal(err)
			}
			if len(after.Report().Finds) > 0 {
				t.Errorf("after it was removed: %v", after.Report())
			}
		})
	}
}

func TestSkips(t *testing.T) {
	dir, value := t.TempDir(), fresh()
	write(t, dir+"/empty", "")
	write(t, dir+"/packed.zst", "\x28\xb5\x2f\xfd and so on")
	write(t, dir+"/broken.gz", gzipped(t, value)[:20])
	write(t, dir+"/no.zip", "PK\x03\x04 and so on")
	os.Mkdir(dir+"/cache", 0o700)
	write(t, dir+"/cache/a", value)
	syscall.Mkfifo(dir+"/fifo", 0o600)
	h := New(map[string]string{"token": value})
	err := h.Files(t.Context(), FileScope{In: []string{dir, dir + "/absent"}, Except: []Except{{dir + "/cache", "built by make"}}})
	if err != nil {
		t.Fatal(err)
	}
	want := []Skip{
		{dir + "/absent", "not on this machine", 1},
		{dir + "/broken.gz", "looks packed and does not unpack whole", 1},
		{dir + "/cache", "built by make", 1},
		{dir + "/empty", "an empty file", 1},
		{dir + "/fifo", "a socket, FIFO or device, which holds no bytes", 1},
		{dir + "/no.zip", "looks packed and does not unpack, searched as it lies", 1},
		{dir + "/packed.zst", "packed with zstd, searched as it lies", 1},
	}
	if r := h.Report(); !slices.Equal(r.Skips, want) || len(r.Finds) > 0 || r.Files != 3 {
		t.Errorf("got %v\nwant %v", r, want)
	}
}

func TestChangedSince(t *testing.T) {
	dir, value := t.TempDir(), fresh()
	path := write(t, dir+"/a", value)
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	changed := time.Unix(st.Ctim.Unix())
	for _, c := range []struct {
		since time.Time
		found int
	}{{time.Time{}, 1}, {changed, 1}, {changed.Add(1), 0}} {
		h := New(map[string]string{"token": value})
		if err := h.Files(t.Context(), FileScope{In: []string{dir}, ChangedSince: c.since}); err != nil {
			t.Fatal(err)
		}
		if r := h.Report(); len(r.Finds) != c.found || len(r.Skips) != 1-c.found {
			t.Errorf("since %v: %v", c.since, r)
		}
	}
}

// One file of many names is read once; the same Hunt reads it again later.
func TestReadsOnce(t *testing.T) {
	dir, value := t.TempDir(), fresh()
	write(t, dir+"/a", "nothing")
	if err := os.Link(dir+"/a", dir+"/b"); err != nil {
		t.Fatal(err)
	}
	h := New(map[string]string{"token": value})
	if err := h.Files(t.Context(), FileScope{In: []string{dir, dir}}); err != nil {
		t.Fatal(err)
	}
	if r := h.Report(); r.Files != 1 || r.Bytes != 7 {
		t.Errorf("first: %v", r)
	}
	write(t, dir+"/a", value)
	if err := h.Files(t.Context(), FileScope{In: []string{dir}}); err != nil {
		t.Fatal(err)
	}
	if r := h.Report(); r.Files != 2 || len(r.Finds) != 1 {
		t.Errorf("then: %v", r)
	}
}

func TestScopes(t *testing.T) {
	h, dir := New(map[string]string{"token": fresh()}), t.TempDir()
	for name, err := range map[string]error{
		"no place":                h.Files(t.Context(), FileScope{}),
		"no reason":               h.Files(t.Context(), FileScope{In: []string{dir}, Except: []Except{{dir, ""}}}),
		"a relative path":         h.Files(t.Context(), FileScope{In: []string{dir}, Except: []Except{{"cache", "built"}}}),
		"a process and no reason": h.Processes(t.Context(), ProcessScope{Except: []Except{{"sh", ""}}}),
		"the machine as a room":   h.Processes(t.Context(), ProcessScope{Rooms: []int{os.Getpid()}}),
		"nobody's memory":         h.Memory(t.Context()),
		"inside of nothing":       h.Inside(t.Context()),
	} {
		if !errors.Is(err, ErrScope) {
			t.Errorf("%s: got %v, want ErrScope", name, err)
		}
	}
}

// What is there and does not open is an error, what is gone is a Skip.
func TestUnreadable(t *testing.T) {
	const writeOnly = "/sys/bus/platform/uevent" // not for root either
	h := New(map[string]string{"token": fresh()})
	if err := h.Files(t.Context(), FileScope{In: []string{writeOnly}}); !errors.Is(err, ErrUnreadable) || !strings.Contains(err.Error(), writeOnly) {
		t.Errorf("got %v, want ErrUnreadable", err)
	}
	if err := h.opened(t.Context(), t.TempDir()+"/gone", "gone", 0); err != nil || len(h.Report().Skips) != 1 {
		t.Errorf("got %v and %v, want a Skip", err, h.Report())
	}
}

func FuzzPacked(f *testing.F) {
	f.Add([]byte("PK\x03\x04"))
	f.Add([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		write(t, dir+"/a", string(content))
		h := New(map[string]string{"token": fresh()})
		if err := h.Files(t.Context(), FileScope{In: []string{dir}}); err != nil {
			t.Error(err)
		}
	})
}
