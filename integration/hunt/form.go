package hunt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// Form is how a value is written.
type Form string

// Forms.
const (
	Plain  Form = "plain"
	Base64 Form = "base64"   // RFC 4648 sections 4 and 5, at each of the three alignments; wrapped at 64 and 76 too
	Hex    Form = "hex"      // lower or upper case
	URL    Form = "url"      // RFC 3986 section 2.1, as a query or as a path has it
	Quoted Form = "quoted"   // as JSON, or Go's %q, write it
	Line   Form = "one line" // of a value of several, in which a log puts something before each
)

// pattern is what to look for.
type pattern struct {
	text   []byte
	canary string
	form   Form
}

// forms returns each distinct way a value may be written.
func forms(name, value string) (all []pattern) {
	seen := map[string]bool{"": true}
	add := func(form Form, texts ...string) {
		for _, t := range texts {
			if !seen[t] && len(t) >= minimum {
				seen[t] = true
				all = append(all, pattern{[]byte(t), name, form})
			}
		}
	}
	add(Plain, value)
	for alignment := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			add(Base64, aligned(encoding, alignment, value))
		}
	}
	whole := base64.RawStdEncoding.EncodeToString([]byte(value))
	for _, width := range []int{64, 76} { // PEM's, and MIME's, which base64(1) takes
		add(Base64, wrapped(whole[:len(value)*8/6], width))
	}
	low := hex.EncodeToString([]byte(value))
	add(Hex, low, strings.ToUpper(low))
	add(URL, url.QueryEscape(value), url.PathEscape(value))
	add(Quoted, inJSON(value, true), inJSON(value, false), inner(strconv.Quote(value)))
	if lines := strings.Split(value, "\n"); len(lines) > 1 {
		for _, l := range lines {
			if !strings.HasPrefix(l, "-----") { // PEM's borders are the same for all
				add(Line, strings.TrimSuffix(l, "\r"))
			}
		}
	}
	return all
}

// aligned is the part of a value's base64 that does not depend on what stands
// before and after it: three bytes make four characters, so a value that
// begins at byte 0, 1 or 2 of a group has one of three texts.
func aligned(e *base64.Encoding, before int, value string) string {
	text := e.EncodeToString(append(make([]byte, before), value...))
	return text[(before*8+5)/6 : (before+len(value))*8/6]
}

func wrapped(s string, width int) string {
	var b strings.Builder
	for len(s) > width {
		b.WriteString(s[:width] + "\n")
		s = s[width:]
	}
	return b.String() + s
}

// inJSON is a JSON string without its quotes. Go's encoder, and so the
// engine's, escapes HTML's characters; others do not.
func inJSON(s string, html bool) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(html)
	if err := e.Encode(s); err != nil {
		return "" // a string always encodes
	}
	return inner(strings.TrimSpace(b.String()))
}

func inner(quoted string) string { return quoted[1 : len(quoted)-1] }
