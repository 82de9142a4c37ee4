package redact

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// Every way to do it gives the dense bytes and the index, and writes nothing
// behind as many bytes as it was given.
func TestSqueeze(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ways := map[string]func(dst, src []byte, index []int32) int{"squeeze": squeeze, "bytes": squeezeBytes}
	for round := range 20000 {
		src := make([]byte, r.IntN(5*block))
		for i := range src {
			switch r.IntN(4) {
			case 0:
				src[i] = " \n\x00\x1b\x7f\x1f"[r.IntN(6)]
			case 1:
				src[i] = "!~\x80\xff\xa0a"[r.IntN(6)]
			case 2:
				src[i] = src[max(i-1, 0)]
			default:
				src[i] = byte(r.Uint32())
			}
		}
		for name, way := range ways {
			text := src
			if name == "bytes" {
				text = src[:len(src)/block*block]
			}
			var want []byte
			var wantIndex []int32
			for i, c := range text {
				if i%block == 0 {
					wantIndex = append(wantIndex, int32(len(want)))
				}
				if c > ' ' && c != 0x7f {
					want = append(want, c)
				}
			}
			dst, index := bytes.Repeat([]byte{'#'}, len(text)+20), make([]int32, len(wantIndex))
			n := way(dst[:len(text)], text, index)
			if !bytes.Equal(dst[:n], want) || !slices.Equal(index, wantIndex) || bytes.Trim(dst[len(text):], "#") != nil {
				t.Fatalf("round %d, %s: %q of %q, index %v, want %v", round, name, dst[:n], text, index, wantIndex)
			}
		}
	}
}

// What is missed is a command that is not heeded.
func TestNoColonLine(t *testing.T) {
	for size := range 200 {
		p := bytes.Repeat([]byte("\n x:"), size/4+1)[:size]
		if size > 17 && !noColonLine(p) && packs {
			t.Errorf("%d bytes: nothing was there", size)
		}
		for at := range max(size-1, 0) {
			q := slices.Clone(p)
			q[at], q[at+1] = '\n', ':'
			if noColonLine(q) {
				t.Errorf("%d bytes: missed at %d", size, at)
			}
		}
	}
}
