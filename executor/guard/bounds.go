package guard

import "math"

// What bounds memory and time, whatever is in a file.
const (
	// maxDepth is how many layers are unpacked, one in the other: a tar.gz in
	// the wheel in a tar.gz has three.
	maxDepth  = 8
	mostDepth = maxDepth + 1 // of what is wrapped
	// maxWork is how many bytes are unpacked, or read a second time, for one
	// file: a minute's work.
	maxWork = 16 << 30
	// A file may grow by this when unpacked, all layers together. Text is packed
	// to a tenth, the most repetitive log to a hundredth. Deflate can make a
	// thousandth of zeros, and bombs are made of that. Small files may be as
	// large as freeWork, which takes a second: a coverage report of 1 MB may well
	// be from 250 MB.
	maxGrowth = 200
	freeWork  = 256 << 20
	// maxMembers is how many members and streams are looked at in one file, and
	// memberWork what each of them costs at least.
	maxMembers = 1_000_000
	memberWork = 256
	// maxFindings is how many secrets are named in one file.
	maxFindings = 20
	// maxHeld is how much of zips that are packed themselves is held in memory,
	// all layers together.
	maxHeld = 64 << 20
	// maxDictionary is how much xz and zstd may ask for, all layers together:
	// zstd's own tool takes 128 MiB, xz -9 needs 64. To have it costs time, if
	// less than to fill it: dictionaryWork is by how much.
	maxDictionary  = 192 << 20
	dictionaryWork = 32
	// maxName is how much of a member's name is kept.
	maxName = 4096
	// maxFrames is how many stored members that lie in each other are named.
	maxFrames = 16
)

// Broken is why something that looks packed was not looked into: no unpacker
// makes anything of it. Files of archive libraries' own tests are so.
const Broken = "it is broken"

// Why else something was not looked into.
const (
	tooBig       = "it unpacks to more than 200 times its size (and 256 MiB), or 16 GiB: a bomb, or a very large file"
	tooMany      = "it has too many members"
	tooDeep      = "it is packed deeper than is looked at"
	tooHungry    = "it needs too much memory to be unpacked"
	encrypted    = "it is encrypted"
	unreachable  = "a directory of a zip points to where no member is, or where it cannot be read again"
	otherArchive = "%s is not looked into"
	otherPacking = "it is packed in a way that is not looked into"
	otherMethod  = "zip method %d is not looked into"
	moreFindings = "no more findings in this file are shown, and its rest was not searched"
)

func (o Options) depth() int {
	if o.Wrapped {
		return mostDepth
	}
	return maxDepth
}

func (o Options) members() int {
	if o.Wrapped {
		return 4 * maxMembers
	}
	return maxMembers
}

// work is how much may be unpacked of a file.
func (o Options) work(size int64) int64 {
	most := o.MaxUnpacked
	if most <= 0 {
		most = maxWork
	}
	if o.Wrapped {
		return most
	}
	grown := int64(math.MaxInt64)
	if size < grown/maxGrowth {
		grown = size * maxGrowth
	}
	return min(most, max(freeWork, grown))
}
