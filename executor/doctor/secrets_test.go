package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/config"
)

func TestDataDir(t *testing.T) {
	dir := t.TempDir() // made as 0755 less the umask
	loose, good := filepath.Join(dir, "loose"), filepath.Join(dir, "good")
	for path, mode := range map[string]os.FileMode{loose: 0o755, good: 0o700} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(loose, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		loose: "fail is open to others", good: "ok mode 0700", file: "fail is no folder", filepath.Join(dir, "new/one"): "ok will be made",
		"/dev/shm/cleanroom-test-none": "warn is in memory", "/proc/none": "fail cannot be made",
	} {
		status, text, _ := strings.Cut(want, " ")
		if c := dataDir(path); string(c.Status) != status || !strings.Contains(c.Detail, text) {
			t.Errorf("%s: %+v, want %s", path, c, want)
		}
		if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
			t.Error("what was tried is left")
		}
	}
}

func TestSources(t *testing.T) {
	if checks := sources(config.Default()); len(checks) > 0 {
		t.Errorf("%+v", checks)
	}
	issuer := func(url string) config.Issuer {
		return config.Issuer{URL: url, Audience: "a", Algorithms: []string{"RS256"}}
	}
	folder := config.Provider{Name: "folder", Kind: "file", Files: config.Files{Dir: t.TempDir()}}
	vault := config.Provider{Name: "v", Kind: "vault", Vault: config.Vault{Address: "http://vault.test:8200", Auth: "jwt", Mount: "jwt", Role: "r", Token: "T"}}
	for want, c := range map[string]config.Config{
		"ok issuers: 1, providers: 1": {Identity: config.Identity{Issuers: []config.Issuer{issuer("https://gitlab.test")}}, Providers: []config.Provider{folder}},
		"warn http://gitlab.test":     {Identity: config.Identity{Issuers: []config.Issuer{issuer("http://gitlab.test")}}},
		"fail must be an https URL":   {Providers: []config.Provider{vault}},
		"fail provider x (exec)":      {Providers: []config.Provider{{Name: "x", Kind: "exec"}}},
		"ok issuers: 1, providers: 0": {Identity: config.Identity{Issuers: []config.Issuer{issuer("http://127.0.0.1:8080")}}},
	} {
		status, text, _ := strings.Cut(want, " ")
		checks := sources(c)
		if len(checks) != 1 || string(checks[0].Status) != status || !strings.Contains(checks[0].Detail, text) {
			t.Errorf("%+v, want %s", checks, want)
		}
	}
}
