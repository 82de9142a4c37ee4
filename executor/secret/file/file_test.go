package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

const canary = "canary-5f1c-value"

// folder has an app.key with the canary.
func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	must(t, os.Mkdir(dir, 0o700))
	put(t, filepath.Join(dir, "app.key"), canary+"\n", 0o400)
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o600))
	must(t, os.Chmod(path, mode)) // whatever the umask is
}

func fetch(t *testing.T, dir, name, path string) (secret.Issued, error) {
	t.Helper()
	p, err := New(config.Provider{Name: "disk", Files: config.Files{Dir: dir}})
	must(t, err)
	var provider secret.Provider = p
	return provider.Fetch(t.Context(), secret.Request{
		Secret:  config.Secret{Name: name, Path: path},
		Journal: func(l secret.Lease) error { t.Errorf("a lease %+v", l); return nil },
	})
}

func TestNew(t *testing.T) {
	for _, dir := range []string{"", "secrets", "/", "/run/../etc", "/run/secrets/"} {
		if p, err := New(config.Provider{Name: "disk", Files: config.Files{Dir: dir}}); !errors.Is(err, config.ErrConfig) || p != nil || !strings.Contains(err.Error(), "file.dir") {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func TestFetch(t *testing.T) {
	dir := folder(t)
	made := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	must(t, os.Chtimes(filepath.Join(dir, "app.key"), made, made))
	put(t, filepath.Join(dir, "db", "password"), canary, 0o600)
	put(t, filepath.Join(dir, "two"), canary+"\n\n", 0o600)
	put(t, filepath.Join(dir, "ran"), canary, 0o500)
	// A CSI mount: app -> ..data/app, ..data -> ..2026_11_23
	put(t, filepath.Join(dir, "..2026_11_23", "app"), canary+"\n", 0o400)
	must(t, os.Symlink("..2026_11_23", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/app", filepath.Join(dir, "app")))

	for _, test := range []struct{ name, path, want string }{
		{"app.key", "", canary},
		{"APP_KEY", "app.key", canary},
		{"password", "db/password", canary},
		{"two", "", canary + "\n"},
		{"ran", "", canary},
		{"app", "", canary},
	} {
		got, err := fetch(t, dir, test.name, test.path)
		if err != nil || got.Fields["value"] != test.want || len(got.Fields) != 1 || got.Version != "" || !got.Expires.IsZero() || got.Rotated.IsZero() {
			t.Errorf("%s %s: %+v %v", test.name, test.path, got, err)
		}
	}
	if got, err := fetch(t, dir, "app.key", ""); err != nil || !got.Rotated.Equal(made) {
		t.Errorf("%v %v, want %v", got.Rotated, err, made)
	}
	// What systemd makes: nobody may write, neither file nor folder.
	must(t, os.Chmod(dir, 0o500))
	defer os.Chmod(dir, 0o700) // or nobody but root could remove it
	if _, err := fetch(t, dir, "app.key", ""); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(t *testing.T, dir string)
		path string
		want string
	}{
		{"missing", nil, "none", "there is no none in"},
		{"missing folder", nil, "no/ne", "there is no no in"},
		{"up", nil, "../secrets/app.key", "without .."},
		{"up and back", nil, "db/../app.key", "without .."},
		{"absolute", nil, "/etc/passwd", "relative"},
		{"itself", nil, ".", "is no name of a file"},
		{"a line", nil, "app.key\nx", "is no name of a file"},
		{"a NUL", nil, "app.key\x00x", "is no name of a file"},
		{"folder", func(t *testing.T, dir string) { must(t, os.Mkdir(filepath.Join(dir, "x"), 0o700)) }, "x", "is no plain file"},
		{"file as a folder", nil, "app.key/x", "is no folder"},
		{"fifo", func(t *testing.T, dir string) { must(t, syscall.Mkfifo(filepath.Join(dir, "x"), 0o600)) }, "x", "is no plain file"},
		{"link out", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "..", "out"), canary, 0o600)
			must(t, os.Symlink("../out", filepath.Join(dir, "x")))
		}, "x", "leads out of"},
		{"absolute link", func(t *testing.T, dir string) {
			must(t, os.Symlink("/etc/passwd", filepath.Join(dir, "x")))
		}, "x", "leads out of"},
		{"folder that leads out", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "..", "away", "x"), canary, 0o600)
			must(t, os.Symlink("../away", filepath.Join(dir, "d")))
		}, "d/x", "leads out of"},
		{"empty", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "x"), "", 0o600) }, "x", "it is empty"},
		{"a newline", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "x"), "\n", 0o600) }, "x", "it is empty"},
		{"big", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "x"), canary+strings.Repeat("x", maxFile), 0o600)
		}, "x", "more than 1 MiB"},
		{"others read", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "x"), canary, 0o604) }, "x", "has mode 0604"},
		{"group reads", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "x"), canary, 0o440) }, "x", "has mode 0440"},
		{"group writes", func(t *testing.T, dir string) { put(t, filepath.Join(dir, "x"), canary, 0o620) }, "x", "chmod it to 0400"},
		{"loose behind a link", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "y"), canary, 0o644)
			must(t, os.Symlink("y", filepath.Join(dir, "x")))
		}, "x", "has mode 0644"},
		{"open folder", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, "app.key", "chmod o-w"},
		{"sticky folder", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777|fs.ModeSticky)) }, "app.key", "chmod o-w"},
		{"open folder below", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "a", "b", "x"), canary, 0o600)
			must(t, os.Chmod(filepath.Join(dir, "a"), 0o703))
		}, "a/b/x", "chmod o-w"},
		{"open folder behind a link", func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, "..2026", "x"), canary, 0o600)
			must(t, os.Symlink("..2026", filepath.Join(dir, "..data")))
			must(t, os.Symlink("..data/x", filepath.Join(dir, "x")))
			must(t, os.Chmod(filepath.Join(dir, "..2026"), 0o777))
		}, "x", "..2026 has mode 0777"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := folder(t)
			if test.make != nil {
				test.make(t, dir)
			}
			got, err := fetch(t, dir, "S", test.path)
			if !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.want) || got.Fields != nil {
				t.Fatalf("%+v %v", got, err)
			}
			if strings.ContainsAny(err.Error(), "\n\x00") || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "provider disk: ") {
				t.Errorf("%q", err)
			}
		})
	}
	if _, err := fetch(t, filepath.Join(t.TempDir(), "gone"), "S", ""); err == nil || !strings.Contains(err.Error(), "create the folder") {
		t.Error(err)
	}
}

// Owners are a table of their own: only root could make such files.
func TestOwners(t *testing.T) {
	for _, test := range []struct {
		mode      fs.FileMode
		owner, we int
		file, dir bool
	}{
		{0o400, 0, 0, true, false},
		{0o400, 0, 1000, true, false},
		{0o400, 1000, 1000, true, false},
		{0o400, 1000, 0, false, false},
		{0o400, 1001, 1000, false, false},
		{0o400, -1, 0, false, false},
		{fs.ModeDir | 0o755, 0, 1000, false, true},
		{fs.ModeDir | 0o770, 1000, 1000, false, true},
		{fs.ModeDir | 0o700, 1001, 1000, false, false},
		{fs.ModeDir | 0o777, 0, 0, false, false},
		{fs.ModeDevice | 0o600, 0, 0, false, false},
	} {
		if why := loose(test.mode, test.owner, test.we); (why == "") != test.file {
			t.Errorf("file %v of %d for %d: %q", test.mode, test.owner, test.we, why)
		}
		if why := looseFolder(test.mode, test.owner, test.we); (why == "") != test.dir {
			t.Errorf("folder %v of %d for %d: %q", test.mode, test.owner, test.we, why)
		}
	}
}

func TestReadPrivate(t *testing.T) {
	dir := folder(t)
	if text, err := ReadPrivate(filepath.Join(dir, "app.key")); err != nil || text != canary {
		t.Errorf("%q %v", text, err)
	}
	put(t, filepath.Join(dir, "loose"), canary, 0o644)
	if text, err := ReadPrivate(filepath.Join(dir, "loose")); !errors.Is(err, secret.ErrRefused) || text != "" || strings.Contains(err.Error(), canary) {
		t.Errorf("%q %v", text, err)
	}
	if text, err := ReadPrivate(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) || text != "" {
		t.Errorf("%q %v", text, err)
	}
}

func TestNoLease(t *testing.T) {
	p, err := New(config.Provider{Name: "disk", Files: config.Files{Dir: "/run/secrets"}})
	must(t, err)
	if err := p.Revoke(t.Context(), secret.Lease{}); !errors.Is(err, secret.ErrNotRevocable) {
		t.Error(err)
	}
	if _, err := p.Renew(t.Context(), secret.Lease{}, time.Time{}); !errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
}
