//go:build !amd64

package redact

const packs = false

// squeezeBlocks does the blocks of src that are whole.
func squeezeBlocks(dst, src []byte, index []int32) int { return squeezeBytes(dst, src, index) }

// noColonLine says that no line end stands before a colon; false may be wrong.
func noColonLine(p []byte) bool { return false }
