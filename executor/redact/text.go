package redact

import "bytes"

// What is read of a text is its dense part: every byte that is no noise.
const (
	// maxGap is how much noise may stand between two bytes of a match. It
	// bounds what is held back: without it a job could print the first half of
	// a value and then blanks for ever. An escape sequence with a hyperlink
	// fits, as do the blanks with which a line is filled up.
	maxGap = 1024
	// early is how many bytes of a match a line end must not separate. The last
	// letter of most lines is the first of some form; were it held back with
	// its line end until the next line came, no line would appear as printed.
	early = 4
	// block is how many bytes of a text share one entry of the index by which
	// the place of a dense byte is found again.
	block = 64
	// chunk is how much of a text is looked at in one go.
	chunk = 32 << 10
)

func lineEnd(c byte) bool { return c == '\n' || c == '\r' }

// bare is the dense part of a value, as it is or without its escape sequences.
func bare(value string, fade bool) string {
	clean := 0
	for clean < len(value) && dense[value[clean]] == 1 { // ESC is not dense
		clean++
	}
	if clean == len(value) {
		return value
	}
	b := []byte(value)
	if fade {
		new(escapes).blank(b)
	}
	kept := b[:0]
	for _, c := range b {
		if dense[c] == 1 {
			kept = append(kept, c)
		}
	}
	return string(kept)
}

// escapes finds ANSI escape sequences (ECMA-48; OSC as xterm has it) in a text
// that comes in pieces. It decides about each byte when it sees it: whatever
// comes later changes nothing, so it does not matter how the text was cut.
type escapes struct{ state escape }

type escape uint8

const (
	ground    escape = iota
	escaped          // ESC
	nF               // ESC and intermediates: ESC ( B
	csi              // ESC [: parameters, intermediates, one final byte
	str              // ESC ] and its kin, until BEL or ESC \
	strEscape        // ESC in a string
)

// blank overwrites the sequences in b by NULs. Their places remain: what is
// found in b is found at the same place in the text.
func (e *escapes) blank(b []byte) {
	for i := 0; i < len(b); {
		if e.state == ground {
			n := bytes.IndexByte(b[i:], 0x1b)
			if n < 0 {
				return
			}
			i += n
			if n := colour(b[i:]); n > 0 {
				clear(b[i : i+n])
				i += n
				continue
			}
		}
		if e.takes(b[i]) {
			b[i] = 0
		}
		i++
	}
}

// colour is how long the sequence is that b begins with, if it is one that
// begins with ESC [ and ends in b. Nearly all are: this is takes, but faster.
func colour(b []byte) int {
	if len(b) < 3 || b[1] != '[' {
		return 0
	}
	for i, c := range b[2:] {
		if c < 0x20 || c > 0x3f {
			if c >= 0x40 && c <= 0x7e {
				return i + 3
			}
			break
		}
	}
	return 0
}

// takes says whether a byte is part of a sequence. A sequence that is none
// ends where that shows. A string ends with its line: a sequence that never
// ends shall not blind us for the rest of a log.
func (e *escapes) takes(c byte) bool {
	if c == 0x1b {
		if e.state == str {
			e.state = strEscape
		} else {
			e.state = escaped
		}
		return true
	}
	was := e.state
	e.state = ground
	switch {
	case was == ground:
		return false
	case was == str || was == strEscape && c != '\\':
		if was == strEscape { // not its end, so ESC began another sequence
			e.state = escaped
			return e.takes(c)
		}
		if lineEnd(c) {
			return false
		}
		if c != 0x07 && c != 0x18 && c != 0x1a { // BEL; CAN and SUB give up
			e.state = str
		}
		return true
	case was == strEscape:
		return true
	case was == escaped && c == '[':
		e.state = csi
		return true
	case was == escaped && bytes.IndexByte([]byte("]PX^_"), c) >= 0:
		e.state = str
		return true
	case (was == escaped || was == nF) && c >= 0x20 && c <= 0x2f:
		e.state = nF
		return true
	case was == csi && c >= 0x20 && c <= 0x3f:
		e.state = csi
		return true
	case was == csi:
		return c >= 0x40 && c <= 0x7e
	default: // the last byte of a sequence without parameters
		return c >= 0x30 && c <= 0x7e
	}
}
