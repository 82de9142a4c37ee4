package redact

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// escaper writes a text as one language's literals have it, without the
// quotes around it.
type escaper struct {
	short   map[byte]string // what has an escape of its own
	unicode string          // other characters that are escaped like control characters
	ascii   bool            // escape all that is not ASCII
	print   bool            // escape what cannot be printed
	bytes   bool            // the text is bytes, no characters
	wide    func(r rune) string
}

func (e escaper) escape(v string) string {
	var b strings.Builder
	b.Grow(len(v) + len(v)/2)
	for i := 0; i < len(v); {
		r, size := utf8.DecodeRuneInString(v[i:])
		if e.bytes {
			r, size = rune(v[i]), 1
		}
		if alphanumeric(v[i]) {
			b.WriteByte(v[i])
			i++
			continue
		}
		s, short := "", false
		if size == 1 {
			s, short = e.short[v[i]]
		}
		switch {
		case short:
			b.WriteString(s)
		case r < 0x20, e.ascii && r >= 0x7f, strings.ContainsRune(e.unicode, r) && r != utf8.RuneError, e.print && !unicode.IsPrint(r):
			b.WriteString(e.wide(r))
		default:
			b.WriteString(v[i : i+size])
		}
		i += size
	}
	return b.String()
}

// jsonForms are strings of JSON: what must be escaped is clear, what else is
// differs. And once more in a string of JSON, as logs of logs have it.
func jsonForms(v string) (all []string) {
	short := map[byte]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	slash := map[byte]string{'/': `\/`}
	for k, s := range short {
		slash[k] = s
	}
	none := map[byte]string{'\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	for _, e := range []escaper{
		{short: short}, // JavaScript, jq
		{short: short, unicode: "\u2028\u2029<>&"}, // Go
		{short: short, unicode: "\u2028\u2029"},    // Go without HTML
		{short: short, ascii: true},                // Python
		{short: slash, ascii: true},                // PHP
		{short: slash},                             // PHP, unescaped Unicode
		{short: slash, unicode: "<>&"},
		{short: short, ascii: true, unicode: "<>&"},
		{short: short, ascii: true, unicode: "<>&'"},    // Rails, PHP's JSON_HEX_*
		{short: none, ascii: true, unicode: "\"&'+<>`"}, // .NET
		{short: short, unicode: "<>&'="},                // Gson
	} {
		for _, format := range []string{`\u%04x`, `\u%04X`} {
			e.wide = func(r rune) string {
				if r > 0xffff {
					high, low := utf16.EncodeRune(r)
					return fmt.Sprintf(format+format, high, low)
				}
				return fmt.Sprintf(format, r)
			}
			all = append(all, e.escape(v))
		}
	}
	twice := escaper{short: short, wide: func(r rune) string { return fmt.Sprintf(`\u%04x`, r) }}
	return append(all, twice.escape(all[0]))
}

// programForms are literals of Go, and what Python's repr gives for text and
// for bytes, with either quote around them.
func programForms(v string) (all []string) {
	inner := func(s string) string { return s[1 : len(s)-1] }
	all = append(all, inner(strconv.Quote(v)), inner(strconv.QuoteToASCII(v)))
	for _, quote := range []byte{'\'', '"', 0} {
		short := map[byte]string{'\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
		if quote != 0 {
			short[quote] = `\` + string(quote)
		}
		wide := func(r rune) string {
			switch {
			case r > 0xffff:
				return fmt.Sprintf(`\U%08x`, r)
			case r > 0xff:
				return fmt.Sprintf(`\u%04x`, r)
			}
			return fmt.Sprintf(`\x%02x`, r)
		}
		all = append(all,
			escaper{short: short, print: true, wide: wide}.escape(v), // repr
			escaper{short: short, ascii: true, wide: wide}.escape(v), // ascii
			escaper{short: short, ascii: true, bytes: true, wide: wide}.escape(v))
	}
	return all
}

// shellForms are words of a shell, without the quotes around them.
func shellForms(v string) []string {
	backslashed := func(special string) string {
		var b strings.Builder
		for _, c := range []byte(v) {
			if strings.IndexByte(special, c) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(c)
		}
		return b.String()
	}
	// bash's printf %q: # at a word's start, ~ there and behind = and :.
	word := backslashed(" \t\n!\"$&'()*,;<>?[\\]^`{|}")
	word = strings.NewReplacer("=~", `=\~`, ":~", `:\~`).Replace(word)
	if strings.HasPrefix(word, "~") || strings.HasPrefix(word, "#") {
		word = `\` + word
	}
	octal := func(r rune) string { return fmt.Sprintf(`\%03o`, r) }
	dollar := map[byte]string{
		'\'': `\'`, '\\': `\\`, '\a': `\a`, '\b': `\b`, 0x1b: `\E`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`, '\v': `\v`,
	}
	return []string{
		strings.ReplaceAll(v, "'", `'\''`),
		strings.ReplaceAll(v, "'", `'"'"'`), // dash, Python's shlex
		word,
		backslashed("\"$\\`"), // in double quotes
		backslashed("\"$\\`!"),
		backslashed("\\"),
		escaper{short: dollar, bytes: true, ascii: true, wide: octal}.escape(v), // $'...'
		escaper{short: dollar, print: true, wide: octal}.escape(v),
	}
}
