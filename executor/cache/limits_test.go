package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAge(t *testing.T) {
	s := Open(t.TempDir(), roomy)
	a, b := place(1, "a", false), place(1, "b", false)
	put(t, s, a, "a")
	put(t, s, b, "b")
	s.limits.Age = -time.Second // time passes
	misses(t, s, a)
	if gone, err := s.Sweep(time.Now()); gone != 1 || err != nil {
		t.Errorf("%d are gone, want b: %v", gone, err)
	}
	if names := below(t, s); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
	if left, _ := os.ReadDir(s.dir); slices.ContainsFunc(left, func(e fs.DirEntry) bool { return projectRE().MatchString(e.Name()) }) {
		t.Errorf("left: %v", left)
	}
}

// used sets when an entry was last used.
func used(t *testing.T, s *Store, p Place, ago time.Duration) {
	t.Helper()
	when := time.Now().Add(-ago)
	if err := os.Chtimes(filepath.Join(s.dir, p.file()), when, when); err != nil {
		t.Fatal(err)
	}
}

// Sizes count with their headers.
func TestLimits(t *testing.T) {
	const one = 1000 + headerSize
	content := strings.Repeat("x", 1000)
	s := Open(t.TempDir(), Limits{Age: time.Hour, Total: 5 * one, Project: 3 * one})
	a, b, c, d := place(1, "a", false), place(1, "b", false), place(1, "c", false), place(1, "d", false)
	for i, p := range []Place{a, b, c} {
		put(t, s, p, content)
		used(t, s, p, time.Duration(30-i)*time.Minute)
	}
	has(t, s, a, content) // and is the last used by that
	put(t, s, a, content) // an entry makes room for itself
	has(t, s, b, content)
	used(t, s, b, 30*time.Minute)
	put(t, s, d, content)
	misses(t, s, b)
	has(t, s, c, content)

	// Another project's are not touched while there is room for all.
	x, y, z := place(2, "x", true), place(2, "y", true), place(2, "z", true)
	put(t, s, x, content)
	put(t, s, y, content)
	has(t, s, a, content)
	used(t, s, c, 20*time.Minute)
	put(t, s, z, content)
	misses(t, s, c)

	// What has no room at all is not kept, and nothing goes for it.
	if err := tryPut(s, b, strings.Repeat("x", 3*one)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	draft, err := s.Draft(0) // that says less than comes
	if err != nil {
		t.Fatal(err)
	}
	if _, err := draft.Write(make([]byte, 3*one)); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if err := draft.Drop(); err != nil {
		t.Error(err)
	}
	if names := below(t, s); len(names) != 5 {
		t.Errorf("%d files: %v", len(names), names)
	}
	s.limits.Total = 2 * one // an admin has changed his mind
	if gone, err := s.Sweep(time.Now()); gone != 3 || err != nil {
		t.Error(gone, err)
	}
	has(t, s, z, content)
}

// Whoever can push to some branch cannot make go what protected ones keep.
func TestUnprotectedEvictNoProtected(t *testing.T) {
	const one = 1000 + headerSize
	content := strings.Repeat("x", 1000)
	s := Open(t.TempDir(), Limits{Age: time.Hour, Total: 9 * one, Project: 3 * one})
	old, main := place(1, "old", true), place(1, "main", true)
	put(t, s, old, content)
	put(t, s, main, content)
	used(t, s, old, 50*time.Minute)
	used(t, s, main, 40*time.Minute)
	for i := range 5 {
		put(t, s, place(1, fmt.Sprint("branch", i), false), content)
	}
	has(t, s, old, content)
	has(t, s, main, content)
	misses(t, s, place(1, "branch3", false))
	if err := tryPut(s, place(1, "large", false), content+"x"); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	has(t, s, place(1, "branch4", false), content)
	put(t, s, place(1, "new", true), content) // a protected one takes the unprotected's place first
	misses(t, s, place(1, "branch4", false))
	used(t, s, old, 50*time.Minute)
	put(t, s, place(1, "newer", true), content)
	misses(t, s, old)
	has(t, s, main, content)

	small := Open(t.TempDir(), Limits{Age: time.Hour, Total: 3 * one, Project: 3 * one})
	theirs := []Place{place(2, "a", true), place(2, "b", true)} // nor those of other projects
	for _, p := range theirs {
		put(t, small, p, content)
		used(t, small, p, 50*time.Minute)
	}
	put(t, small, place(1, "branch", false), content)
	put(t, small, place(1, "branch2", false), content)
	misses(t, small, place(1, "branch", false))
	for _, p := range theirs {
		has(t, small, p, content)
	}
}
