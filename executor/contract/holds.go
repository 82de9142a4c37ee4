package contract

import (
	"path"
	"path/filepath"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Holders are the places in stored, which Expand gave, of those that may hold
// a file: clean and below dir, the project's folder. It is by name, as the
// uploader chooses; what git does not track may be any file. A file that is
// reached through a link has none.
func Holders(stored []Stored, dir, file string) (holders []int) {
	for i, s := range stored {
		if s.mayHold(dir, file) {
			holders = append(holders, i)
		}
	}
	return holders
}

func (s Stored) mayHold(dir, file string) bool {
	for _, exclude := range s.Exclude {
		pattern, ok := below(dir, exclude)
		if !ok {
			break // as the uploader does: what comes after it excludes nothing
		}
		if out, err := doublestar.Match(pattern, file); err == nil && out {
			return false
		}
	}
	if s.Untracked {
		return true
	}
	for _, p := range s.Paths {
		pattern, ok := below(dir, p)
		if p == "" || !ok {
			continue
		}
		for at := file; ; at = path.Dir(at) { // all below a folder comes with it
			if in, err := doublestar.Match(pattern, at); err == nil && in {
				return true
			}
			if at == "." {
				break
			}
		}
	}
	return false
}

// below makes a pattern relative to the folder (findRelativePathInProject in
// the runner's commands/helpers/file_archiver.go); false when it leads out.
func below(dir, pattern string) (string, bool) {
	if filepath.Clean(pattern) == dir {
		return ".", true
	}
	base, rest := pattern, ""
	if strings.ContainsAny(pattern, "*?[{") {
		base, rest = doublestar.SplitPattern(pattern)
	}
	if !filepath.IsAbs(base) {
		base = filepath.Join(dir, base)
	}
	rel, err := filepath.Rel(dir, base)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return filepath.Join(rel, rest), true
}
