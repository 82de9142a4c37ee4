// Package plain makes what somebody else named things fit for a terminal, or
// any place where people read it.
//
// What it promises: characters that are seen, all on one line, which do nothing
// to a terminal, to the order of others or to the lines above and below.
package plain

import (
	"fmt"
	"strings"
	"unicode"
)

// maxMarks is how many marks a letter may bear; no script needs more, and a
// heap of them covers the lines above and below.
const maxMarks = 3

// Text is a text as it can be shown: a character that is not seen, or that does
// something, is written as \u{202e}.
func Text(s string) string {
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

// Word is a text as one word, for a column or beside words of ours: in quotes
// where it would be several, or none.
func Word(s string) string {
	if s == "" || strings.ContainsAny(s, ` "`) {
		return Quoted(s)
	}
	return Text(s)
}

// Quoted is a text in quotes, of which there are none within.
func Quoted(s string) string { return `"` + strings.ReplaceAll(Text(s), `"`, `\u{22}`) + `"` }

// Short is a text of at most so many characters.
func Short(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
