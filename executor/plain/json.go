package plain

import (
	"bytes"
	"fmt"
	"unicode"
)

// JSON is the same JSON with each character that does something to a terminal
// escaped, which encoding/json does with some of them only.
func JSON(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) { // all that is not ASCII stands in strings, and line ends and tabs in none
		switch {
		case r == '\n', r == '\t', unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}
