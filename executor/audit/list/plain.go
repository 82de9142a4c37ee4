package list

import (
	"fmt"
	"strings"
	"unicode"
)

// maxMarks is how many marks a letter may bear; no script needs more, and a
// heap of them covers the lines above and below.
const maxMarks = 3

// Plain is text as it can be shown to people: a character that is not seen, or
// that does something to a terminal or to the order of others, is written as
// \u{202e}.
func Plain(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return s
	}
	var b strings.Builder
	marks := maxMarks // there is no letter before the first
	for _, r := range s {
		marked := unicode.Is(unicode.M, r)
		switch {
		case !unicode.IsPrint(r), marked && marks == maxMarks:
			fmt.Fprintf(&b, `\u{%x}`, r)
			continue
		case marked:
			marks++
		default:
			marks = 0
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Short is a text of at most so many characters.
func Short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
