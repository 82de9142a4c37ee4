//go:build !amd64

package redact

// squeezeBlocks does the blocks of src that are whole.
func squeezeBlocks(dst, src []byte, index []int32) int { return squeezeBytes(dst, src, index) }
