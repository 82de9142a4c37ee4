package redact

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

// Any text, any secrets, any way to cut: what is shown is what the reference
// shows; it holds no form of a secret; where there was none it is the text.
func FuzzRedact(f *testing.F) {
	f.Add("the password is hunter2hunter2, or aHVudGVyMmh1bnRlcjI=", "hunter2hunter2", "er2hunter2, or", uint8(8), uint64(1))
	f.Add("aaaaaaaaaaaaaaaaaaaaaaab aaaaaaa\naaaaaaaab", "aaaaaaaab", "aaaa", uint8(4), uint64(2))
	f.Add("hun\x1b[31mter2\x1b[0mhun ter2 \x1b[hunter2hunter2", "hunter2hunter2", "x", uint8(1), uint64(3))
	f.Add("l\ni\nn\ne\none\r\nline two\x00\x00 lineone line\ntwo", "line one\nline two", "two\n", uint8(3), uint64(4))
	f.Add("\x1b]0;hunter2\x07hunter2\x1b\\ \x1bPhunter2\nhunter2", "hunter2", "\x1b]hunter", uint8(5), uint64(5))
	f.Add("%70%C3%A9 \\u00e9 &amp;&#39; \xff\xfe", "p\xc3\xa9&'\"<\\ \x01", "\xff\xfe\xfd", uint8(2), uint64(6))
	f.Fuzz(func(t *testing.T, text, first, second string, least uint8, seed uint64) {
		if len(text) > 1000 || len(first) > 100 || len(second) > 100 {
			return
		}
		o := Options{MinLength: 1 + int(least%10)}
		secrets := []Secret{{"FIRST", first, true}, {"SECOND", second, true}}
		forms, err := allForms(secrets, o)
		if err != nil {
			return // nothing in it that counts
		}
		r := rand.New(rand.NewPCG(seed, 0))
		for _, text := range []string{text, text + settled} {
			whole, err := redacted([]string{text}, secrets, o)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if got, _ := redacted(cut(r, text), secrets, o); got != whole {
					t.Fatalf("cut   %q\nwhole %q", got, whole)
				}
			}
			if bytewise, _ := redacted(strings.Split(text, ""), secrets, o); bytewise != whole && validUTF8(text) {
				t.Fatalf("by letters %q\nwhole      %q", bytewise, whole)
			}
			// What stands on both sides of a replacement is not one text.
			apart := whole
			for _, s := range secrets {
				apart = strings.ReplaceAll(apart, "[cleanroom: "+s.Name+"]", strings.Repeat(" ", maxGap+1))
			}
			if found := naive(apart, forms, false); len(found) > 0 {
				t.Fatalf("%q shows %s at %d", apart, found[0].name, found[0].from)
			}
		}
		text += settled
		want := reference(text, secrets, o)
		got, _ := redacted([]string{text}, secrets, o)
		if got != want {
			t.Fatalf("text %q\ngot  %q\nwant %q", text, got, want)
		}
		if len(naive(text, forms, false))+len(naive(text, forms, true)) == 0 && got != text {
			t.Fatalf("changed without need: %q", got)
		}
	})
}

func validUTF8(s string) bool { return utf8.ValidString(s) }

// Whatever is found by pieces is found in the whole. A secret that is added
// while a log runs is hidden in all that was not yet let out.
func FuzzScan(f *testing.F) {
	f.Add("xx hunter2hunter2 68756e74657232 aHVudGVyMg", "hunter2", uint64(1))
	f.Add("a\x1b[mb\x1b[31mc\x1b]abc", "abc", uint64(2))
	f.Add("aaaaaaaaaaaaaaaaaa", "aaaaa", uint64(3))
	f.Fuzz(func(t *testing.T, text, value string, seed uint64) {
		if len(text) > 1000 || len(value) > 100 {
			return
		}
		m, err := NewMatcher([]Secret{{"S", value, true}}, Options{MinLength: 4})
		if err != nil {
			return
		}
		var whole, cuts []Finding
		s := m.Scan()
		s.Feed([]byte(text), func(f Finding) { whole = append(whole, f) })
		s.End(func(f Finding) { whole = append(whole, f) })
		s = m.Scan()
		for _, p := range cut(rand.New(rand.NewPCG(seed, 0)), text) {
			s.Feed([]byte(p), func(f Finding) { cuts = append(cuts, f) })
		}
		s.End(func(f Finding) { cuts = append(cuts, f) })
		if len(whole) != len(cuts) {
			t.Fatalf("%v %v", whole, cuts)
		}
		for i, f := range whole {
			if f != cuts[i] || f.Start >= f.End || i > 0 && f.Start < whole[i-1].End {
				t.Fatalf("%v %v", whole, cuts)
			}
		}
		start, end, name, ok := m.Find([]byte(text), 0)
		if ok != (len(whole) > 0) || ok && (Finding{int64(start), int64(end), name}) != whole[0] {
			t.Fatalf("%d %d %s %v, want %v", start, end, name, ok, whole)
		}
		var out strings.Builder
		r, err := New(&out, []Secret{{"OTHER", "hunter2hunter2", true}}, Options{MinLength: 4})
		if err != nil {
			t.Fatal(err)
		}
		half := int(seed % uint64(len(text)+1))
		write := func(s string) {
			if _, err := r.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		write(text[:half])
		before := out.Len()
		if err := r.Add([]Secret{{"S", value, true}}); err != nil {
			t.Fatal(err)
		}
		write(text[half:])
		write(settled)
		rest := out.String()[before:]
		for _, name := range []string{"OTHER", "S"} {
			rest = strings.ReplaceAll(rest, "[cleanroom: "+name+"]", strings.Repeat(" ", maxGap+1))
		}
		if found := naive(rest, m.a.forms, false); len(found) > 0 {
			t.Fatalf("%q shows a form at %d", rest, found[0].from)
		}
	})
}
