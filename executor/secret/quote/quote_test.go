package quote

import (
	"net/url"
	"strings"
	"testing"
	"unicode"
)

func TestText(t *testing.T) {
	const token = "eyJhbGciOi.JSUzI1NiI+s/InR5"
	for _, test := range []struct {
		name, text string
		hide       []string
		want       string
	}{
		{"plain", "no such role", nil, "no such role"},
		{"lines and colours", "one\r\n\x1b[31mtwo\x00\tthree\n", nil, "one [31mtwo three"},
		{"broken bytes", "a\xffb\u202ec", nil, "a b c"},
		{"whole", "bad token " + token + "!", []string{token}, "bad token [hidden]!"},
		{"twice", token + " " + token, []string{token}, "[hidden] [hidden]"},
		{"shortened", "bad token " + token[:12] + "...", []string{token}, "bad token [hidden]..."},
		{"from the middle", "..." + token[9:19] + "...", []string{token}, "...[hidden]..."},
		{"in a URL", "GET /?t=" + url.QueryEscape(token), []string{token}, "GET /?t=[hidden]"},
		{"in JSON", `{"pw": "a\"b\nc-d-e"}`, []string{"a\"b\nc-d-e"}, `{"pw": "[hidden]"}`},
		{"over two lines", "key: first line\nsecond line.", []string{"first line\nsecond line"}, "key: [hidden]."},
		{"one line of two", "key: second line.", []string{"first line\nsecond line"}, "key: [hidden]."},
		{"repeating", "aaaaaaaaaaaaaaaaaaaa-", []string{strings.Repeat("a", 1000)}, "[hidden]-"},
		{"two values that share", "abcdefgh12345678", []string{"abcdefgh", "efgh1234", "12345678"}, "[hidden]"},
		{"below eight", "pin 12345 here, 1234 not", []string{"12345"}, "pin [hidden] here, 1234 not"},
		{"below four", "pin 123", []string{"123"}, withheld},
		{"below four, not there", "pin 12", []string{"123"}, "pin 12"},
		{"empty value", "words", []string{""}, "words"},
		{"empty text", "", []string{token}, ""},
		{"with another space", "a pass \x00 phrase.", []string{"pass phrase"}, "a [hidden]."},
		{"kept apart", "sec\x00retvalue", []string{"secretvalue1"}, "sec [hidden]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Text(test.text, 200, test.hide...); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func TestLength(t *testing.T) {
	long := strings.Repeat("ä", 100) + " end"
	got := Text(long, 21)
	if got != "..."+strings.Repeat("ä", 7)+" end" {
		t.Errorf("%q", got)
	}
	// Values are hidden before anything is cut off, or half of one would show.
	secret := "0123456789abcdef"
	if got := Text("x "+secret+" y", 14, secret); strings.Contains(got, "89abcdef") {
		t.Errorf("%q", got)
	}
	// What is too long to be looked at as a whole ends well, too.
	got = Text(secret+strings.Repeat("x", maxText-4)+" end", 100, secret)
	if len(got) > 100 || strings.Contains(got, "cdef") || !strings.HasSuffix(got, "x end") {
		t.Errorf("%q", got)
	}
}

func FuzzText(f *testing.F) {
	f.Add("bad token eyJhbGciOiJSUzI1NiIs!", "eyJhbGciOiJSUzI1NiIs")
	f.Add("a\nb", "\n")
	f.Add("%41%42 \"x\"", "\"x\"\xff")
	f.Fuzz(func(t *testing.T, text, value string) {
		got := Text(text, 300, value)
		if len(got) > 300 || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q", got)
		}
		// Our own words may be what is looked for.
		if got != withheld && value != "" && !strings.Contains(hidden, value) && !strings.ContainsAny(value, "[].") && strings.Contains(got, value) {
			t.Errorf("%q holds %q", got, value)
		}
	})
}
