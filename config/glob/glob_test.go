package glob

import (
	"strings"
	"testing"
)

func TestGlobs(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"SHOP_*", "SHOP_DB", true}, {"SHOP_*", "SHOP_a/b", false}, {"shop/**", "shop/a/b", true},
		{"{a,b}{c,d}", "bd", true}, {"{a,b}{c,d}", "ab", false}, {"{a,{b,c}d}", "cd", true}, {"{a,{b,c}d}", "c", false},
		{"x{,-y}", "x", true}, {"x{,-y}", "x-y", true}, {`a\{b`, "a{b", true}, {`[{]a`, "{a", true}, {`[\]{]a`, "{a", true},
		{"app{**,x}", "app/../other", false}, // doublestar.Match says yes
		{"app{**,x}", "apple", true}, {"*", strings.Repeat("x", MaxName), true}, {"*", strings.Repeat("x", MaxName+1), false},
		{strings.Repeat("{a,b}", 7), "abababa", false}, // too many
	} {
		if got := Match(test.pattern, test.name); got != test.want {
			t.Errorf("%s, %s: %v", test.pattern, test.name[:min(len(test.name), 20)], got)
		}
	}
	for pattern, ok := range map[string]bool{
		"a": true, "{a,b}": true, "": false, "{a": false, "a}": false, "[": false, "[]": false, `\`: false,
		"{[a,b]}": false, strings.Repeat("{a,b}", 6): true, strings.Repeat("{a,b}", 7): false, strings.Repeat("a", MaxPattern+1): false,
		"{" + strings.Repeat(",", 64) + "}": false,
	} {
		if err := Check(pattern); (err == nil) != ok {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}
