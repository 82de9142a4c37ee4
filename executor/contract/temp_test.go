package contract

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRemoveTemp(t *testing.T) {
	dir := t.TempDir()
	temp := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Join(path, "script1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(path, "response.json"), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, mode)
		return path
	}
	link := filepath.Join(dir, "custom-executor9")
	if err := os.Symlink(temp("target", 0o700), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]struct{ removed, wrong bool }{
		temp("custom-executor123", 0o700):      {removed: true},
		temp("custom-executor124", 0o755):      {wrong: true},
		temp("custom-executor", 0o700):         {},
		temp("etc", 0o700):                     {},
		link:                                   {wrong: true},
		filepath.Join(dir, "custom-executor7"): {},
		"custom-executor123":                   {},
		"":                                     {},
		dir + "/custom-executor123/../etc":     {},
	} {
		_, missing := os.Lstat(path)
		removed, err := RemoveTemp(path)
		if removed != want.removed || (err != nil) != want.wrong {
			t.Errorf("%s: %t, %v", path, removed, err)
		}
		if _, gone := os.Lstat(path); (gone != nil) != (removed || missing != nil) {
			t.Errorf("%s: removed %t, and then %v", path, removed, gone)
		}
	}
}
