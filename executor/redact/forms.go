package redact

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"slices"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// large is the longest value, in bytes, of which all forms are looked for. Of
// a longer one, which is a file, only itself, its lines, hex and base64: each
// byte of a form costs the automaton twenty.
const large = 4 << 10

// minLine is the shortest line of a value that is hidden when it stands alone.
const minLine = 8

// formsOf lists the ways in which a value may be written, dense, each once and
// none shorter than least. What differs in white space only is the same.
func formsOf(value string, least int) []string {
	l := list{least: least, seen: map[string]bool{}}
	l.add(value)
	// echo "$X" | base64 ends the value with a line end, and $(cat file) takes
	// one away: without it the stable part of an encoding is the same in both.
	value = strings.TrimRight(value, "\r\n")
	if len(value) > large {
		l.add(value)
		l.digits(value)
		l.lines(value)
		return l.texts
	}
	l.quoted(value)
	l.encoded(value)
	if unix := strings.ReplaceAll(value, "\r\n", "\n"); strings.Contains(unix, "\n") {
		for _, v := range []string{unix, strings.ReplaceAll(unix, "\n", "\r\n")} {
			l.quoted(v)
			l.encoded(v)
		}
		for _, v := range []string{strings.ReplaceAll(unix, "\n", ""), strings.ReplaceAll(unix, "\n", " ")} {
			l.encoded(v)
		}
		l.lines(unix)
	}
	return l.texts
}

// list collects forms.
type list struct {
	least int
	seen  map[string]bool
	texts []string
}

func (l *list) add(texts ...string) {
	for _, t := range texts {
		l.dense(bare(t, true)) // as the two views have it
		if strings.IndexByte(t, 0x1b) >= 0 {
			l.dense(bare(t, false))
		}
	}
}

func (l *list) dense(t string) {
	if len(t) < l.least || t == "" || l.seen[t] {
		return
	}
	l.seen[t] = true
	l.texts = append(l.texts, pieces(t)...)
}

// pieces cuts a text that is too long for one form.
func pieces(text string) (all []string) {
	const size = (maxForm + 1) / 2
	for len(text) > maxForm {
		all = append(all, text[:size])
		text = text[size:]
	}
	return append(all, text)
}

// quoted adds what is as long as the value, but for single characters.
func (l *list) quoted(v string) {
	l.add(v, backwards(v))
	if bland(v) {
		return
	}
	l.add(reversed(v))
	// The NULs of ASCII in UTF-16 do not count: those two forms are the value.
	units := utf16.Encode([]rune(v))
	low, high := make([]byte, 0, 2*len(units)), make([]byte, 0, 2*len(units))
	for _, u := range units {
		low, high = append(low, byte(u), byte(u>>8)), append(high, byte(u>>8), byte(u))
	}
	l.add(string(low), string(high))
	l.add(jsonForms(v)...)
	l.add(programForms(v)...)
	l.add(shellForms(v)...)
	l.add(htmlForms(v)...)
	l.add(urlForms(v)...)
}

// bland says that nobody escapes anything of a text: letters, digits and -._
// are all that is in most tokens, and then the forms need not be made.
func bland(v string) bool {
	for _, c := range []byte(v) {
		if !alphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// lines adds each line that may stand alone.
func (l *list) lines(v string) {
	for line := range strings.SplitSeq(v, "\n") {
		// The borders of PEM are the same for all keys: no secret.
		if strings.HasPrefix(line, "-----") || len(bare(line, true)) < minLine {
			continue
		}
		l.add(line)
		if len(v) <= large {
			l.add(backwards(line))
			l.add(jsonForms(line)...)
		}
	}
}

// digits adds hex and base64.
func (l *list) digits(v string) {
	low := hex.EncodeToString([]byte(v))
	l.dense(low)
	l.dense(strings.ToUpper(low))
	// Whole, with padding, where the value stands alone: the last letters would
	// otherwise be left.
	l.base64(base64.StdEncoding.EncodeToString([]byte(v)))
	l.base64(base64.RawStdEncoding.EncodeToString([]byte(v)))
	for before := range 3 {
		l.base64(stable(before, v))
	}
}

// base64 adds what is base64 in both alphabets.
func (l *list) base64(text string) {
	l.dense(text)
	l.dense(urlAlphabet(text))
}

// urlAlphabet makes URL-safe base64 of standard base64.
func urlAlphabet(text string) string {
	if strings.IndexByte(text, '+') < 0 && strings.IndexByte(text, '/') < 0 {
		return text
	}
	return strings.NewReplacer("+", "-", "/", "_").Replace(text)
}

// encoded adds that, and base64 of base64.
func (l *list) encoded(v string) {
	l.digits(v)
	for before := range 3 {
		inner := stable(before, v)
		if before == 0 {
			inner = base64.StdEncoding.EncodeToString([]byte(v))
			l.dense(base64.StdEncoding.EncodeToString([]byte(inner)))
			l.dense(base64.RawStdEncoding.EncodeToString([]byte(inner)))
			if wrapped := wrap(inner, 76); wrapped != inner { // as base64(1) hands it to the next
				l.dense(stable(0, wrapped))
			}
		}
		for outer := range 3 {
			l.base64(stable(outer, inner))
			if other := urlAlphabet(inner); other != inner {
				l.dense(stable(outer, other))
			}
		}
	}
}

// stable is the part of a value's base64 that does not depend on what stands
// before and after it: three bytes make four characters, so a value that
// begins at byte 0, 1 or 2 of such a group has one of three texts.
func stable(before int, value string) string {
	text := base64.RawStdEncoding.EncodeToString(append(make([]byte, before, before+len(value)), value...))
	from, to := (before*8+5)/6, (before+len(value))*8/6
	return text[min(from, to):to]
}

func wrap(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\n")
		s = s[width:]
	}
	return b.String() + s
}

// backwards reverses bytes, reversed characters.
func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

func reversed(s string) string {
	if !utf8.ValidString(s) {
		return s
	}
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// htmlForms: every escaper knows & < >, and each writes quotes as it likes.
func htmlForms(v string) []string {
	if !strings.ContainsAny(v, "&<>\"'/\n\r\t") {
		return nil
	}
	all := []string{html.EscapeString(v)}
	for _, r := range htmlEscapers() {
		all = append(all, r.Replace(v))
	}
	return all
}

// htmlEscapers are made once: each costs as much as escaping with all of them.
var htmlEscapers = sync.OnceValue(func() (all []*strings.Replacer) {
	text := []string{"&", "&amp;", "<", "&lt;", ">", "&gt;"}
	for _, more := range [][]string{
		nil,
		{`"`, "&quot;"},
		{`"`, "&quot;", "'", "&#39;"},
		{`"`, "&quot;", "'", "&#x27;"},
		{`"`, "&quot;", "'", "&#039;"},
		{`"`, "&quot;", "'", "&apos;"},
		{`"`, "&quot;", "'", "&#x27;", "/", "&#x2F;"},
		{`"`, "&quot;", "\n", "&#10;", "\r", "&#13;", "\t", "&#9;"},
		{`"`, "&#34;", "'", "&#39;", "\t", "&#x9;", "\n", "&#xA;", "\r", "&#xD;"}, // encoding/xml
	} {
		all = append(all, strings.NewReplacer(append(more, text...)...))
	}
	return all
})

// The characters that URL encoders leave as they are, besides letters and
// digits.
var urlSafe = []string{
	"-._~",                 // RFC 3986's unreserved; curl, Go's url.QueryEscape
	"-._",                  // PHP's urlencode; Java's has * too
	"*-._",                 // WHATWG's form encoding
	"-._~/",                // Python's quote
	"-._~!'()*",            // encodeURIComponent
	"-._~$&+:=@",           // Go's url.PathEscape
	"-._~$&+:=@/",          // and a path of Go's
	"-._~$&+,;=",           // Go's user information
	"-._~!$&'()*+,;=",      // RFC 3986's user information
	"-._~!$&'()*+,;=:@",    // a segment of a path
	"-._~!$&'()*+,;=:@/?",  // a query, a fragment
	"-._~;,/?:@&=+$!*'()#", // encodeURI
}

func urlForms(v string) (all []string) {
	for _, digits := range []string{"0123456789ABCDEF", "0123456789abcdef"} {
		for _, safe := range urlSafe {
			for _, space := range []string{"%20", "+"} {
				if space == "+" && strings.IndexByte(v, ' ') < 0 {
					continue
				}
				var b strings.Builder
				b.Grow(2 * len(v))
				for _, c := range []byte(v) {
					switch {
					case alphanumeric(c) || strings.IndexByte(safe, c) >= 0:
						b.WriteByte(c)
					case c == ' ':
						b.WriteString(space)
					default:
						b.Write([]byte{'%', digits[c>>4], digits[c&15]})
					}
				}
				all = append(all, b.String())
			}
		}
	}
	return all
}
