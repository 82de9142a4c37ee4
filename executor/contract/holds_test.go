package contract

import (
	"slices"
	"testing"
)

func TestHolders(t *testing.T) {
	stored := []Stored{
		{Paths: []string{"dist", "/builds/a/b/out/"}, Exclude: []string{"**/*.log"}},
		{Paths: []string{"*.xml", "", "../b/reports/**/*.json", "/etc/*", "[bad"}},
		{Untracked: true, Exclude: []string{"*.tmp", "../x", "kept"}},
		{Paths: []string{"/builds/a/b"}},
	}
	for file, want := range map[string][]int{
		"dist/a.whl":      {0, 2, 3},
		"dist/deep/a":     {0, 2, 3},
		"dist/deep/a.log": {2, 3},
		"distant":         {2, 3},
		"out/x":           {0, 2, 3},
		"a.xml":           {1, 2, 3},
		"sub/a.xml":       {2, 3},
		"reports/r.json":  {1, 2, 3},
		"reports/1/r.xml": {2, 3},
		"a.tmp":           {3},
		"kept":            {2, 3}, // nothing after a bad one
		"bad\xff/name":    {2, 3},
	} {
		if got := Holders(stored, "/builds/a/b", file); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", file, got, want)
		}
	}
	if got := Holders(stored[:2], "/builds/a/b", "elsewhere"); got != nil {
		t.Error(got)
	}
}
