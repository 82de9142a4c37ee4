package redact

import "golang.org/x/sys/cpu"

// packs says that the machine can do what packBlocks does: nearly all since
// 2008 can.
var packs = cpu.X86.HasSSSE3 && cpu.X86.HasPOPCNT

// shuffles are, for each mask of eight bytes in which a bit stands for noise,
// where the others come from.
var shuffles = func() *[256]uint64 {
	var t [256]uint64
	for mask := range t {
		n := 0
		for i := range 8 {
			if mask>>i&1 == 0 {
				t[mask] |= uint64(i) << (8 * n)
				n++
			}
		}
	}
	return &t
}()

//go:noescape
func packBlocks(dst, src *byte, blocks int, index *int32, shuffles *[256]uint64) int

// squeezeBlocks does the blocks of src that are whole.
func squeezeBlocks(dst, src []byte, index []int32) (n int) {
	blocks := len(src) / block
	if blocks == 0 || !packs {
		return squeezeBytes(dst, src, index)
	}
	// packBlocks checks no bounds.
	_, _ = dst[blocks*block-1], index[blocks-1]
	return packBlocks(&dst[0], &src[0], blocks, &index[0], shuffles)
}

//go:noescape
func colonLines(p *byte, places int) bool

// noColonLine says that no line end stands before a colon; false may be wrong.
func noColonLine(p []byte) bool {
	places := len(p) - 1
	return places >= 16 && !colonLines(&p[0], places)
}
