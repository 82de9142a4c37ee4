package verdict

import (
	"strconv"
	"unicode/utf8"
)

// MaxQuote bounds what a message repeats of a name or a value, in bytes.
const MaxQuote = 100

// ShortQuote shows a text on one line, whatever is in it.
func ShortQuote(s string) string { return strconv.Quote(Short(s, MaxQuote)) }

// Short keeps the beginning of a text.
func Short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}
