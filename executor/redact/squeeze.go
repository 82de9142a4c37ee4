package redact

import "encoding/binary"

// dense is 1 for a byte that counts. White space does not, nor do the other
// control characters: what a terminal or a table adds between the letters of a
// value does not hide it, and the NULs of UTF-16 are no letters.
var dense = func() (t [256]uint8) {
	for c := range t {
		if c > ' ' && c != 0x7f {
			t[c] = 1
		}
	}
	return t
}()

// squeeze copies the dense part of src, which is at most a chunk, and says how
// long it is. dst has room for src. index gets, for each block of src, how many
// dense bytes stand before it.
//
// It is the one thing that is done to every byte. On amd64 packBlocks does it
// for sixteen at a time.
func squeeze(dst, src []byte, index []int32) int {
	n := squeezeBlocks(dst, src, index)
	if rest := len(src) % block; rest > 0 {
		index[len(src)/block] = int32(n)
		src := src[len(src)-rest:]
		for ; len(src) >= 8; src = src[8:] {
			n = squeezeWord(dst, n, binary.LittleEndian.Uint64(src))
		}
		for _, c := range src {
			dst[n] = c
			n += int(dense[c])
		}
	}
	return n
}

// squeezeBytes does the blocks byte by byte.
func squeezeBytes(dst, src []byte, index []int32) (n int) {
	for i := 0; len(src)-i >= block; i += block {
		index[i/block] = int32(n)
		for k := i; k < i+block; k += 8 {
			n = squeezeWord(dst, n, binary.LittleEndian.Uint64(src[k:]))
		}
	}
	return n
}

// squeezeWord adds the dense bytes of eight to n. It writes every byte and
// moves on only behind a dense one: a branch for each blank would cost more
// than the whole copy, since nothing predicts them.
func squeezeWord(dst []byte, n int, x uint64) int {
	for range 8 {
		dst[n] = byte(x)
		n += int(dense[byte(x)])
		x >>= 8
	}
	return n
}
