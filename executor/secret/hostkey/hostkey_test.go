package hostkey_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"cleanroom/executor/secret/hostkey"
)

// openIn makes this binary a process that opens the key of that folder.
const openIn = "TEST_HOSTKEY_OPEN"

func TestMain(m *testing.M) {
	if dir := os.Getenv(openIn); dir != "" {
		key, err := hostkey.Open(dir)
		if err != nil {
			panic(err)
		}
		io.WriteString(os.Stdout, key.Recipient())
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func open(t *testing.T, dir string) *hostkey.Key {
	t.Helper()
	key, err := hostkey.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestOpenMakesOne(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "data")
	key := open(t, dir)
	if again := open(t, dir); again.Recipient() != key.Recipient() {
		t.Error("the second Open made another key")
	}
	for path, want := range map[string]os.FileMode{dir: 0o700 | os.ModeDir, hostkey.Path(dir): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left in the folder: %v", entries)
	}
	// The file is what age itself reads.
	f, err := os.Open(hostkey.Path(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if ids, err := age.ParseIdentities(f); err != nil || len(ids) != 1 {
		t.Errorf("age reads %d identities: %v", len(ids), err)
	}
}

// A crash in the middle of making the key left its temporary file.
func TestOpenAfterCrash(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{".new", ".lock"} {
		if err := os.WriteFile(hostkey.Path(dir)+name, []byte("AGE-SEC"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open(t, dir)
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("left in the folder: %v", entries)
	}
}

func TestOpenAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const n = 12
	got := make([]bytes.Buffer, n)
	var all []*exec.Cmd
	for i := range n {
		c := exec.Command(self)
		c.Env, c.Stdout, c.Stderr = append(os.Environ(), openIn+"="+dir), &got[i], os.Stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	want := ""
	for i, c := range all {
		if err := c.Wait(); err != nil {
			t.Fatal(err)
		}
		if want == "" {
			want = got[i].String()
		}
		if got[i].String() != want || want == "" {
			t.Errorf("process %d has %q, the first %q", i, got[i].String(), want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	good := func(t *testing.T, dir string) []byte {
		open(t, dir)
		text, err := os.ReadFile(hostkey.Path(dir))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	write := func(t *testing.T, dir, text string) {
		if err := os.WriteFile(hostkey.Path(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		break_ func(t *testing.T, dir string)
		want   error
		words  string
	}{
		"readable by the group": {func(t *testing.T, dir string) { good(t, dir); os.Chmod(hostkey.Path(dir), 0o640) }, hostkey.ErrLoose, "chmod 0600"},
		"folder writable":       {func(t *testing.T, dir string) { good(t, dir); os.Chmod(dir, 0o770) }, hostkey.ErrLoose, "chmod 0700"},
		"empty":                 {func(t *testing.T, dir string) { write(t, dir, "") }, hostkey.ErrNoKey, "restore it"},
		"something else":        {func(t *testing.T, dir string) { write(t, dir, "hunter2\n") }, hostkey.ErrNoKey, "restore it"},
		"cut":                   {func(t *testing.T, dir string) { s := good(t, dir); write(t, dir, string(s[:len(s)-9])) }, hostkey.ErrNoKey, "restore it"},
		"two keys":              {func(t *testing.T, dir string) { s := good(t, dir); write(t, dir, string(s)+string(s)) }, hostkey.ErrNoKey, "more than one"},
		"a link": {func(t *testing.T, dir string) {
			good(t, dir)
			os.Rename(hostkey.Path(dir), filepath.Join(dir, "real"))
			os.Symlink("real", hostkey.Path(dir))
		}, hostkey.ErrLoose, "is a link"},
		"a folder": {func(t *testing.T, dir string) { os.Mkdir(hostkey.Path(dir), 0o700) }, hostkey.ErrLoose, "no plain file"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.break_(t, dir)
			before, _ := os.ReadFile(hostkey.Path(dir))
			_, err := hostkey.Open(dir)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) {
				t.Fatalf("error %v, want %v with %q", err, test.want, test.words)
			}
			if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "SECRET-KEY-1Q") {
				t.Errorf("error %q", err)
			}
			if after, _ := os.ReadFile(hostkey.Path(dir)); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestSeal(t *testing.T) {
	key := open(t, t.TempDir())
	for _, text := range []string{"", "hunter2", strings.Repeat("x", 200_000), "\x00\xff\n"} {
		sealed, err := key.Seal([]byte(text), "lease 1")
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > 2 && bytes.Contains(sealed, []byte(text)) {
			t.Error("sealed text has the plaintext in it")
		}
		got, err := key.Unseal(sealed, "lease 1")
		if err != nil || string(got) != text {
			t.Errorf("got %d bytes, %v; want %d", len(got), err, len(text))
		}
	}
	if _, err := key.Seal(nil, "two\nlines"); err == nil {
		t.Error("a context of two lines was taken")
	}
}

func TestUnsealRefuses(t *testing.T) {
	key, other := open(t, t.TempDir()), open(t, t.TempDir())
	sealed, err := key.Seal([]byte("hunter2"), "lease 1")
	if err != nil {
		t.Fatal(err)
	}
	var foreign bytes.Buffer // an age file that cleanroom did not make
	recipient, err := age.ParseX25519Recipient(key.Recipient())
	if err != nil {
		t.Fatal(err)
	}
	w, err := age.Encrypt(&foreign, recipient)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "hunter2")
	w.Close()
	flipped := slices.Clone(sealed)
	flipped[len(flipped)-1] ^= 1
	tests := []struct {
		name    string
		key     *hostkey.Key
		sealed  []byte
		context string
		want    error
	}{
		{"another key", other, sealed, "lease 1", hostkey.ErrOtherKey},
		{"another place", key, sealed, "lease 2", hostkey.ErrOtherContext},
		{"a longer context", key, sealed, "lease 11", hostkey.ErrOtherContext},
		{"a shorter context", key, sealed, "lease ", hostkey.ErrOtherContext},
		{"context with the text", key, sealed, "lease 1\nhunter2", hostkey.ErrOtherContext},
		{"nothing", key, nil, "lease 1", hostkey.ErrDamaged},
		{"no age file", key, []byte("hunter2"), "lease 1", hostkey.ErrDamaged},
		{"a bit flipped", key, flipped, "lease 1", hostkey.ErrDamaged},
		{"cut", key, sealed[:len(sealed)-5], "lease 1", hostkey.ErrDamaged},
		{"cut in the header", key, sealed[:40], "lease 1", hostkey.ErrDamaged},
		{"longer", key, append(slices.Clone(sealed), 'x'), "lease 1", hostkey.ErrDamaged},
		{"of another program", key, foreign.Bytes(), "lease 1", hostkey.ErrDamaged},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.key.Unseal(test.sealed, test.context)
			if !errors.Is(err, test.want) || got != nil {
				t.Fatalf("got %q, %v; want %v", got, err, test.want)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("error %q", err)
			}
		})
	}
}

// FuzzUnseal: whatever lies in a journal's file is an error, or ours.
func FuzzUnseal(f *testing.F) {
	key, err := hostkey.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := key.Seal([]byte("hunter2"), "c")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := key.Unseal(text, "c")
		if err == nil && (string(got) != "hunter2" || !bytes.Equal(text, sealed)) {
			t.Errorf("opened %q", text)
		}
	})
}
