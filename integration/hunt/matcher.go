package hunt

import "bytes"

// matcher finds many patterns at once, most bytes unread (Wu and Manber, "A
// fast algorithm for multi-pattern searching", TR 94-17, University of
// Arizona, 1994).
//
// It looks at the last two bytes of a window as long as the shortest pattern.
// For each pair of bytes a table says how far that pair stands, at least, from
// the end of any pattern's window: so far can the window move without missing
// one. A pair that stands in no pattern moves it by nearly its length. Only
// where the table says 0 are patterns compared, those whose window ends with
// that pair.
type matcher struct {
	patterns []pattern
	window   int
	longest  int
	shift    [1 << 16]uint8
	ends     map[uint16][]int // patterns whose window ends so
}

func newMatcher(patterns []pattern) *matcher {
	m := &matcher{patterns: patterns, window: 128, ends: map[uint16][]int{}}
	for _, p := range patterns {
		m.window, m.longest = min(m.window, len(p.text)), max(m.longest, len(p.text))
	}
	for i := range m.shift {
		m.shift[i] = uint8(m.window - 1)
	}
	for n, p := range patterns {
		for end := 1; end < m.window; end++ {
			k := pair(p.text, end)
			m.shift[k] = min(m.shift[k], uint8(m.window-1-end))
		}
		k := pair(p.text, m.window-1)
		m.ends[k] = append(m.ends[k], n)
	}
	return m
}

func pair(b []byte, end int) uint16 { return uint16(b[end-1])<<8 | uint16(b[end]) }

// scan calls hit for each pattern that stands whole in b, at its first byte.
func (m *matcher) scan(b []byte, hit func(at int, p *pattern)) {
	for end := m.window - 1; end < len(b); {
		k := pair(b, end)
		if s := m.shift[k]; s > 0 {
			end += int(s)
			continue
		}
		at := end - m.window + 1
		for _, n := range m.ends[k] {
			if bytes.HasPrefix(b[at:], m.patterns[n].text) {
				hit(at, &m.patterns[n])
			}
		}
		end++
	}
}

// mask puts the canary's name where its value stands.
func (m *matcher) mask(s string) string {
	for again := true; again; {
		again = false
		m.scan([]byte(s), func(at int, p *pattern) {
			if !again { // the others' places move
				s, again = s[:at]+"["+p.canary+"]"+s[at+len(p.text):], true
			}
		})
	}
	return s
}
