package executor

import (
	"maps"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/pool"
)

// TestPlaces: whatever is known of what rooms hold, together they hold no more.
func TestPlaces(t *testing.T) {
	of := func(memory ...int64) (all []pool.Wish) {
		for i, m := range memory {
			all = append(all, pool.Wish{Key: string(rune('a' + i)), Memory: m << 20})
		}
		return all
	}
	for name, c := range map[string]struct {
		wishes    []pool.Wish
		size, max int
		memory    int64 // MiB
		want      map[string]int
	}{
		"enough":                    {of(4, 0), 2, 8, 1024, map[string]int{"a": 2, "b": 2}},
		"max":                       {of(4, 4, 4), 2, 3, 1024, map[string]int{"a": 2, "b": 1, "c": 0}},
		"memory":                    {of(100, 60), 4, 8, 256, map[string]int{"a": 2, "b": 0}},
		"none measured":             {of(0, 0), 1, 8, 64, map[string]int{"a": 1, "b": 0}},
		"little":                    {of(0, 0), 2, 8, 32, map[string]int{"a": 1, "b": 0}},
		"a rest":                    {of(60, 0), 1, 8, 100, map[string]int{"a": 1, "b": 0}},
		"larger than what is there": {of(200), 1, 8, 100, map[string]int{"a": 0}},
	} {
		if got := places(c.wishes, config.Pool{Size: c.size, Max: c.max}, c.memory<<20); !maps.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
