package store

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
	"cleanroom/executor/secret/hostkey/durable"
)

// Whatever is wrong with the file, it is an error of one line and the file
// stays as it is: somebody may still mend it.
func TestBadFiles(t *testing.T) {
	seal := func(t *testing.T, dir, context, text string) []byte {
		key, err := hostkey.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := key.Seal([]byte(text), context)
		if err != nil {
			t.Fatal(err)
		}
		return sealed
	}
	change := func(f func(t *testing.T, dir string, sealed []byte) []byte) func(*testing.T, string, string) {
		return func(t *testing.T, dir, path string) {
			sealed, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, string(f(t, dir, sealed)), 0o600)
		}
	}
	sealed := func(text string) func(*testing.T, string, string) {
		return change(func(t *testing.T, dir string, _ []byte) []byte { return seal(t, dir, sealContext, text) })
	}
	tests := map[string]struct {
		do    func(t *testing.T, dir, path string)
		want  error
		words string
	}{
		"empty":             {change(func(*testing.T, string, []byte) []byte { return nil }), ErrDamaged, "restore it"},
		"cut":               {change(func(_ *testing.T, _ string, s []byte) []byte { return s[:len(s)-1] }), ErrDamaged, "restore it"},
		"cut in the header": {change(func(_ *testing.T, _ string, s []byte) []byte { return s[:30] }), ErrDamaged, "restore it"},
		"a bit flipped": {change(func(_ *testing.T, _ string, s []byte) []byte {
			s = slices.Clone(s)
			s[len(s)/2] ^= 1
			return s
		}), ErrDamaged, "restore it"},
		"foreign":              {change(func(*testing.T, string, []byte) []byte { return []byte("hunter2\n") }), ErrDamaged, "restore it"},
		"sealed for a lease":   {change(func(t *testing.T, dir string, _ []byte) []byte { return seal(t, dir, "lease", `{"format":1}`) }), ErrDamaged, "sealed for something else"},
		"sealed, no JSON":      {sealed("hunter2"), ErrDamaged, "no JSON"},
		"of a newer cleanroom": {sealed(`{"format":2,"secrets":{}}`), ErrDamaged, "format 2"},
		"of another host": {func(t *testing.T, dir, path string) {
			other := t.TempDir()
			seal(t, other, "", "")
			if err := os.Rename(hostkey.Path(other), hostkey.Path(dir)); err != nil {
				t.Fatal(err)
			}
		}, hostkey.ErrOtherKey, "restore the"},
		"without its key": {func(t *testing.T, dir, path string) { os.Remove(hostkey.Path(dir)) }, nil, "its key is not"},
		"a loose key":     {func(t *testing.T, dir, path string) { os.Chmod(hostkey.Path(dir), 0o604) }, hostkey.ErrLoose, "chmod 0600"},
		"readable":        {func(t *testing.T, dir, path string) { os.Chmod(path, 0o640) }, durable.ErrLoose, "chmod 0600"},
		"loose folder":    {func(t *testing.T, dir, path string) { os.Chmod(dir, 0o770) }, durable.ErrLoose, "chmod 0700"},
		"a link": {func(t *testing.T, dir, path string) {
			os.Rename(path, path+".real")
			os.Symlink(path+".real", path)
		}, durable.ErrLoose, "is a link"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := in(t, dir)
			set(t, s, "db", plain("hunter2"))
			set(t, s, "jwt", rotating(t, random(), "job", 0))
			test.do(t, dir, s.Path())
			before, _ := os.ReadFile(s.Path())
			s, _ = in(t, dir) // a new process
			_, setErr := s.Set(t.Context(), "db", plain("hunter3"))
			_, fetchErr := s.Fetch(t.Context(), request("jwt", "cr-a", nil))
			_, listErr := s.List()
			_, sweepErr := s.Sweep(t.Context())
			revokeErr := s.Revoke(t.Context(), secret.Lease{ID: "store:jwt@1.00000000"})
			for what, err := range map[string]error{
				"set": setErr, "fetch": fetchErr, "list": listErr, "sweep": sweepErr, "revoke": revokeErr,
				"remove": s.Remove(t.Context(), "db"),
			} {
				if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) {
					t.Errorf("%s: error %v, want %v with %q", what, err, test.want, test.words)
				} else if strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter") {
					t.Errorf("%s: error %q", what, err)
				} else if errors.Is(err, secret.ErrRefused) {
					t.Errorf("%s: a host's fault is no refusal: %v", what, err)
				}
			}
			if after, _ := os.ReadFile(s.Path()); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestModes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s, _ := in(t, dir)
	set(t, s, "db", plain("hunter2"))
	for path, want := range map[string]fs.FileMode{dir: fs.ModeDir | 0o700, s.Path(): 0o600, s.Path() + ".lock": 0o600, hostkey.Path(dir): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v; want %v", path, info, err, want)
		}
	}
}

// TestCanary: after everything that a store does its values are in no file,
// as they are or encoded; and the hunt finds one that is planted.
func TestCanary(t *testing.T) {
	dir := t.TempDir()
	s, c := in(t, dir)
	const canary, old = "canary-3f9a77c1-value", "canary-51e0b8d2-value"
	set(t, s, "db", plain(old))
	set(t, s, "db", plain(canary))
	script := filepath.Join(t.TempDir(), "rotate")
	write(t, script, "#!/bin/sh\ncat >/dev/null\nprintf '{\"token\": \"canary-%s\"}' c0ffee\n", 0o700)
	set(t, s, "cmd", rotating(t, &Generator{Kind: Command, Command: []string{script}, PassOld: true, Timeout: patience}, "24h", 0))
	set(t, s, "jwt", rotating(t, random(), "job", 0))
	set(t, s, "pair", rotating(t, &Generator{Kind: Ed25519}, "24h", 0))
	c.pass(25 * 3600e9)
	var leases []secret.Lease
	values := []string{canary, old, "canary-c0ffee"}
	for _, name := range []string{"db", "cmd", "jwt", "pair"} {
		for _, text := range fetch(t, s, request(name, "cr-a", &leases)).Fields {
			values = append(values, text)
			if _, body, ok := strings.Cut(text, "\n"); ok { // a line of a PEM
				values = append(values, body[:40])
			}
		}
	}
	for _, l := range leases {
		if err := s.Revoke(t.Context(), l); err != nil {
			t.Error(err)
		}
		for _, text := range values {
			if strings.Contains(l.ID+string(l.Credential), text) {
				t.Errorf("lease %s holds a value", l.ID)
			}
		}
	}
	if found := hunt(t, dir, values); len(found) > 0 {
		t.Errorf("found in %v", found)
	}
	for _, text := range []string{"x" + canary + "y", base64.StdEncoding.EncodeToString([]byte(canary))} {
		write(t, filepath.Join(dir, "planted"), text, 0o600)
		if found := hunt(t, dir, values); len(found) != 1 {
			t.Errorf("the hunt found %v", found)
		}
	}
}

func hunt(t *testing.T, dir string, values []string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, v := range values {
			// 12 bytes are whole groups of base64, whatever follows.
			encoded := base64.StdEncoding.EncodeToString([]byte(v)[:min(len(v), 12)])
			if bytes.Contains(text, []byte(v)) || bytes.Contains(text, []byte(encoded)) {
				found = append(found, path)
				break
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// BenchmarkFetch is what a job waits for: a new version per job, with 100
// other secrets in the store.
func BenchmarkFetch(b *testing.B) {
	s, _ := in(b, b.TempDir())
	for i := range 100 {
		set(b, s, "db-"+string(rune('a'+i%26))+strings.Repeat("x", i/26), plain("hunter2"))
	}
	set(b, s, "jwt", rotating(b, random(), "job", 0))
	for b.Loop() {
		var leases []secret.Lease
		fetch(b, s, request("jwt", newTag(), &leases))
		b.StopTimer()
		if err := s.Revoke(b.Context(), leases[0]); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
