package policy

import (
	"strconv"
	"unicode/utf8"

	"cleanroom/config"
)

// maxQuote bounds what a message repeats of a name or a value, in bytes.
const maxQuote = 100

// shortQuote shows a text on one line, whatever is in it.
func shortQuote(s string) string { return strconv.Quote(short(s, maxQuote)) }

// short keeps the beginning of a text.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}

// didYouMean names the candidate that is nearest, if one is near.
func didYouMean(name string, candidates []string) string {
	if near := config.Nearest(name, candidates); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
