// Package quote makes what somebody else said (a program's stderr, an identity
// provider's error_description) fit for an error of ours.
//
// What it promises: one line of printable characters, no longer than was
// asked for, in which no eight bytes in a row are of a value to hide, and no
// shorter value as a whole.
package quote

import (
	"encoding/json"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// run is how many bytes (of a value, in a row) may not be shown: who
	// echoes a token likes to shorten it, so that looking for the whole would
	// miss it.
	run = 8
	// short values (in bytes) are part of many words; what holds one is
	// withheld, since a gap in a known sentence would tell the value.
	short = 4
	// maxText bounds what is looked at, in bytes, from its end.
	maxText = 64 << 10

	hidden   = "[hidden]"
	withheld = "(its words are withheld: they hold a part of the secret)"
)

// Text is text as one line of at most max bytes, which keeps its end and
// hides what it has of the values: as they are, with the escapes of a URL and
// with those of JSON.
func Text(text string, max int, hide ...string) string {
	if len(text) > maxText {
		text = text[len(text)-maxText:]
		// What was cut may begin in the middle of a value, too little of it to know.
		text = text[min(run, len(text)):]
	}
	text, ok := conceal(text, hide)
	if ok {
		// Once more now that it is one line: where a value has a space there may
		// have been something else.
		text, ok = conceal(oneLine(text), hide)
	}
	if !ok {
		return withheld
	}
	return cut(text, max)
}

// conceal replaces what a text has of the values; false: it must not be shown.
func conceal(text string, hide []string) (string, bool) {
	marks := make([]bool, len(text))
	windows := index(text)
	for _, value := range hide {
		for _, form := range forms(value) {
			if !mark(text, form, windows, marks) {
				return "", false
			}
		}
	}
	return blank(text, marks), true
}

// forms are the spellings of a value.
func forms(value string) []string {
	list := []string{value}
	if q := url.QueryEscape(value); q != value {
		list = append(list, q)
	}
	// Marshal of a string cannot fail.
	if j, _ := json.Marshal(value); string(j[1:len(j)-1]) != value {
		list = append(list, string(j[1:len(j)-1]))
	}
	return list
}

// index says where in a text each run of bytes is. It is made of the text and
// not of the values because the text is bounded, and they may be long.
func index(text string) map[string][]int {
	windows := make(map[string][]int)
	for i := 0; i+run <= len(text); i++ {
		windows[text[i:i+run]] = append(windows[text[i:i+run]], i)
	}
	return windows
}

// mark marks what the text has of a value; false: the value is too short for
// that, and there.
func mark(text, value string, windows map[string][]int, marks []bool) bool {
	switch {
	case value == "":
	case len(value) < short:
		return !strings.Contains(text, value)
	case len(value) < run:
		for i := 0; i+len(value) <= len(text); i++ {
			if text[i:i+len(value)] == value {
				set(marks[i : i+len(value)])
			}
		}
	default:
		for i := 0; i+run <= len(value); i++ {
			w := value[i : i+run]
			for _, at := range windows[w] {
				set(marks[at : at+run])
			}
			delete(windows, w) // each place is marked once, however often the value repeats
		}
	}
	return true
}

func set(marks []bool) {
	for i := range marks {
		marks[i] = true
	}
}

// blank replaces each marked stretch.
func blank(text string, marks []bool) string {
	var b strings.Builder
	for i := range len(text) {
		if !marks[i] {
			b.WriteByte(text[i])
		} else if i == 0 || !marks[i-1] {
			b.WriteString(hidden)
		}
	}
	return b.String()
}

// oneLine has a space in the place of what cannot be printed: leaving it out
// would join what it kept apart.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

// cut keeps the end, where programs say what went wrong.
func cut(text string, max int) string {
	const dots = "..."
	if len(text) <= max {
		return text
	}
	text = text[len(text)-max+len(dots):]
	for len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:]
	}
	return dots + text
}
