package plain

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode"
)

func TestJSON(t *testing.T) {
	in := "{\n\t\"a\": \"\u009b\u202e\x7f\U000e0041 日\"\n}"
	got := string(JSON([]byte(in)))
	if want := "{\n\t\"a\": \"" + `\u009b\u202e\u007f\udb40\udc41` + " 日\"\n}"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var before, after map[string]string
	if err := errors.Join(json.Unmarshal([]byte(in), &before), json.Unmarshal([]byte(got), &after)); err != nil || before["a"] != after["a"] {
		t.Errorf("%v: %q, want %q", err, after, before)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "",
		"shop/items":                      "shop/items",
		"naïve 日本 שלום":                   "naïve 日本 שלום",
		"a\x1b[2J\n":                      `a\u{1b}[2J\u{a}`,
		"\u202egnp.exe":                   `\u{202e}gnp.exe`,
		"\u009b":                          `\u{9b}`,
		"e\u0301":                         "e\u0301",
		"e\u0301\u0301\u0301\u0301\u0301": "e\u0301\u0301\u0301" + `\u{301}\u{301}`,
		"\u0301":                          `\u{301}`,
		"\U000e0041":                      `\u{e0041}`,
	} {
		if got := Text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := Short("日本語", 2); got != "日…" || Short("日本", 2) != "日本" {
		t.Error(got)
	}
}

func TestWord(t *testing.T) {
	for in, want := range map[string]string{
		"":         `""`,
		"a":        "a",
		"a b":      `"a b"`,
		`a"b`:      `"a\u{22}b"`,
		`"a b"`:    `"\u{22}a b\u{22}"`,
		"a\tb":     `a\u{9}b`,
		"a\u2003b": `a\u{2003}b`,
	} {
		if got := Word(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

// Whatever it is, it is one line of what is seen, and one word where that was
// asked for.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a b", `"a" "`, "\x1b[2J\r\n", "\u202e\u009b31m", "\xff\xfe", "\U000e0001", "e\u0301\u0301\u0301\u0301\u0301", "\u2028\u00a0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, got := range []string{Text(s), Word(s), Quoted(s)} {
			if strings.ContainsFunc(got, func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }) {
				t.Errorf("%q: %q", s, got)
			}
		}
		if w := Word(s); w == "" || strings.ContainsAny(w, ` "`) && (strings.Count(w, `"`) != 2 || w[0] != '"' || w[len(w)-1] != '"') {
			t.Errorf("%q is not one word: %s", s, w)
		}
	})
}
