package output

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// masked is what the runner puts in the place of what it hides.
const masked = "[MASKED]"

// DefaultPrefixes are those of GitLab's own tokens, which a runner hides by
// itself (FF_MASK_ALL_DEFAULT_TOKENS; see
// https://docs.gitlab.com/security/tokens/#token-prefixes).
var DefaultPrefixes = []string{
	"glpat-", "gloas-", "gldt-", "glrt-", "glcbt-", "glrtr-", "glptt-", "glft-", "glimt-", "glagent-", "glsoat-", "glffct-",
	"_gitlab_session=", "gltok-",
}

// parameters of URLs whose values a runner hides.
var parameters = []string{"private_token", "authenticity_token", "rss_token", "x-amz-signature", "x-amz-credential", "x-amz-security-token"}

type kind int

const (
	phrase    kind = iota // hidden whole
	prefix                // what follows is hidden, as long as it could be a token
	parameter             // what follows is hidden, as long as it could be a value
)

type word struct {
	text string
	kind kind
}

// masker hides what the runner would, so that the runner has nothing left to
// hide. It takes valid UTF-8.
type masker struct {
	words [256][]word // by first byte; the shortest first: of two at one place it hides more
	in    kind        // prefix or parameter: inside of what one hides
	shown bool        // that it is hidden
	held  []byte      // may be the beginning of a word
	out   []byte
}

func newMasker(prefixes, phrases []string) *masker {
	var words []word
	for _, p := range slices.Concat(DefaultPrefixes, prefixes) {
		words = append(words, word{strings.TrimSpace(p), prefix})
	}
	for _, p := range parameters {
		words = append(words, word{"?" + p + "=", parameter}, word{"&" + p + "=", parameter})
	}
	for _, p := range phrases {
		words = append(words, word{strings.TrimSpace(p), phrase})
	}
	slices.SortStableFunc(words, func(a, b word) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(len(a.text), len(b.text)))
	})
	m := &masker{in: phrase}
	for _, w := range words {
		if w.text != "" {
			m.words[w.text[0]] = append(m.words[w.text[0]], w)
		}
	}
	return m
}

// text gives what may be let out, which is good until the next call. At the
// end nothing is held any more.
func (m *masker) text(p []byte, end bool) []byte {
	b := p
	if len(m.held) > 0 {
		b = append(m.held, p...)
	}
	m.out = m.out[:0]
	rest := m.take(b, end)
	m.held = append(m.held[:0:0], rest...) // b may be where it stands
	return m.out
}

// take reads b and returns what of it cannot be told yet.
func (m *masker) take(b []byte, end bool) (rest []byte) {
	for len(b) > 0 {
		if m.in != phrase {
			n := m.inside(b)
			if n > 0 && !m.shown {
				m.hide()
			}
			if b = b[n:]; len(b) == 0 {
				break
			}
			if m.in == parameter && !m.shown {
				m.hide() // the runner hides one that is empty, too
			}
			m.in = phrase
		}
		n := 0
		for n < len(b) && m.words[b[n]] == nil {
			n++
		}
		m.out = append(m.out, b[:n]...)
		if b = b[n:]; len(b) == 0 {
			break
		}
		w, n, more := m.at(b, end)
		switch {
		case more:
			return b
		case w.text == "":
			m.out, b = append(m.out, b[0]), b[1:]
		case w.kind == phrase:
			m.hide()
			b = b[n:]
		default:
			m.out, b = append(m.out, b[:n]...), b[n:]
			m.in, m.shown = w.kind, false
		}
	}
	switch {
	case !end:
	case m.in == parameter && !m.shown:
		m.hide()
	case m.in == prefix: // at the very end, the runner may write it a second time
		m.out = append(m.out, '\n')
	}
	return nil
}

func (m *masker) hide() {
	m.out = append(m.out, masked...)
	m.shown = true
}

// at is the word that b begins with, and how many bytes that is; more: it may
// be one, if more follows.
func (m *masker) at(b []byte, end bool) (w word, n int, more bool) {
	for _, w := range m.words[b[0]] {
		if len(b) > 1 && len(w.text) > 1 && b[1]|0x20 != w.text[1]|0x20 { // nearly always
			continue
		}
		n, short := w.match(b)
		switch {
		case short:
			more = more || !end
		case n == 0:
		case more: // a phrase comes first, if it is one
			return word{}, 0, true
		default:
			return w, n, false
		}
	}
	return word{}, 0, more
}

// match is how many bytes of b are the word; short: b may be its beginning.
// A parameter's name is compared as the runner does: by unicode's lower case,
// in which characters of several bytes are ASCII letters, too.
func (w word) match(b []byte) (n int, short bool) {
	if w.kind != parameter {
		n = min(len(w.text), len(b))
		switch {
		case string(b[:n]) != w.text[:n]:
			return 0, false
		case n < len(w.text):
			return 0, true
		default:
			return n, false
		}
	}
	for _, want := range w.text {
		if n == len(b) {
			return 0, true
		}
		r, size := utf8.DecodeRune(b[n:])
		if unicode.ToLower(r) != want {
			return 0, false
		}
		n += size
	}
	return n, false
}

// inside is how much of b goes on with what is hidden.
func (m *masker) inside(b []byte) (n int) {
	for n < len(b) {
		if m.in == prefix {
			if !inToken(b[n]) {
				break
			}
			n++
			continue
		}
		r, size := utf8.DecodeRune(b[n:])
		if r == '?' || r == '&' || unicode.IsSpace(r) || unicode.IsControl(r) {
			break
		}
		n += size
	}
	return n
}

func inToken(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '='
}
