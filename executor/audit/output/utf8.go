package output

import "unicode/utf8"

// repairer makes valid UTF-8, as the runner does: each byte that is part of no
// character becomes U+FFFD.
type repairer struct {
	held []byte // the beginning of a character
	out  []byte
}

// text gives what may be let out, which is good until the next call.
func (r *repairer) text(p []byte, end bool) []byte {
	if len(r.held) == 0 && utf8.Valid(p) {
		return p
	}
	b := append(r.held, p...)
	r.out = r.out[:0]
	for len(b) > 0 {
		c, size := utf8.DecodeRune(b)
		if c == utf8.RuneError && size == 1 {
			if !end && !utf8.FullRune(b) {
				break
			}
			r.out = append(r.out, "\ufffd"...)
		} else {
			r.out = append(r.out, b[:size]...)
		}
		b = b[size:]
	}
	r.held = append([]byte(nil), b...)
	return r.out
}
