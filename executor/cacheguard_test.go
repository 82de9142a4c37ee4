package executor

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cleanroom/config"
)

// packed is a zip as the helper makes it.
func packed(t *testing.T, members map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(members)) {
		f, err := w.Create(name)
		if err == nil {
			_, err = io.WriteString(f, members[name])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestKeptCacheIsSearched: whatever made the archive put a secret into it that
// was in no file.
func TestKeptCacheIsSearched(t *testing.T) {
	j, _ := withSecrets(t)
	j.config.Cache.Enabled = true
	j.named("tools", "more")
	j.config.Policy.Rules = append(j.config.Policy.Rules, config.Rule{Name: "fixtures", When: "true", Warn: []string{"tests/**"}})
	both := func(members map[string]string) error {
		_, err := j.caches(map[string]string{rel("more"): packed(t, map[string]string{"a": "b"}), rel("tools"): packed(t, members)}, inRoom("more"), inRoom("tools"))
		return err
	}
	if err := both(map[string]string{"lib/a": strings.Repeat("padding ", 1000) + canary + "-exec"}); !errors.Is(err, ErrFound) {
		t.Errorf("%v\n%s", err, j.out.String())
	}
	if want := "garden/shed/tools/cache.zip, member lib/a, byte 8000: secret DATABASE_URL"; !strings.Contains(j.out.String(), want) || strings.Contains(j.out.String(), canary) {
		t.Errorf("the log does not say %q, or too much:\n%s", want, j.out.String())
	}
	if all, err := Caches(j.config).List(); err != nil || len(all) > 0 {
		t.Errorf("kept: %+v, %v", all, err)
	}
	if left, _ := filepath.Glob(filepath.Join(j.config.DataDir, "cache", "drafts", "*")); len(left) > 0 {
		t.Error("left:", left)
	}
	// A secret that may pass does, and what no archive of the room's could be.
	if err := both(map[string]string{"tests/a": canary + "-exec", "zeros": strings.Repeat("\x00", 300<<20)}); err != nil {
		t.Errorf("%v\n%s", err, j.out.String())
	}
	if all, err := Caches(j.config).List(); err != nil || len(all) != 2 {
		t.Errorf("kept: %+v, %v", all, err)
	}
}
