package guard

import (
	"bytes"
	"encoding/binary"
)

// signature is how something packed begins, wherever that is. It is looked for
// by its rarest byte, which takes little more time than to read.
type signature struct {
	rare byte
	at   int               // where the rare byte is in it
	is   func([]byte) bool // b begins with it
	open func(*content)    // what lies at the place of the sweep
}

const kinds = 5

var signatures [kinds]signature

func init() { // it would lead back to itself
	signatures = [...]signature{
		{0x8b, 1, func(b []byte) bool {
			return len(b) >= 18 && b[0] == 0x1f && b[2] == 8 && b[3] < 0x20
		}, func(c *content) { c.stream("gzip", gunzip) }},
		{'K', 1, isZip, (*content).zip},
		{'&', 7, func(b []byte) bool {
			return len(b) >= 14 && string(b[:3]) == "BZh" && b[3] >= '1' && b[3] <= '9' && string(b[4:10]) == "1AY&SY"
		}, func(c *content) { c.stream("bzip2", bunzip2) }},
		{0xfd, 0, func(b []byte) bool {
			return bytes.HasPrefix(b, []byte(xzMagic))
		}, func(c *content) { c.stream("xz", unxz) }},
		{0xfd, 3, func(b []byte) bool {
			return bytes.HasPrefix(b, []byte("\x28\xb5\x2f\xfd"))
		}, func(c *content) { c.stream("zstd", unzstd) }},
	}
}

// foreign begins what cannot be looked into.
var foreign = []struct{ magic, name string }{
	{"7z\xbc\xaf\x27\x1c", "7z"},
	{"Rar!\x1a\x07", "rar"},
	{"\x04\x22\x4d\x18", "lz4"},
	{"LZIP\x01", "lzip"},
	{"\x5d\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff", "lzma"},
	{"\x1f\x9d", "compress"},
	{"MSCF\x00\x00\x00\x00", "cab"},
	{"hsqs", "squashfs"},
	{"cc=2,\x78", "the cache of a pip before 2018"}, // zlib follows
}

// lookout is the search for one signature.
type lookout struct {
	from int64 // there is none before
	hit  bool  // but one is there
}

// next finds the next one before limit. What is behind limit is only looked at
// to tell whether it is one.
func (l *lookout) next(s *signature, c *source, limit int64) (int64, bool) {
	if l.from < c.pos {
		l.from, l.hit = c.pos, false
	}
	for !l.hit && l.from < limit {
		b := c.buf[l.from-c.base:]
		i := -1
		if to := min(limit-l.from+int64(s.at), int64(len(b))); to > int64(s.at) {
			i = bytes.IndexByte(b[s.at:to], s.rare)
		}
		switch {
		case i < 0:
			l.from = limit
		case s.is(b[i:]):
			l.from, l.hit = l.from+int64(i), true
		default:
			l.from += int64(i) + 1
		}
	}
	return l.from, l.hit && l.from < limit
}

var (
	u16 = binary.LittleEndian.Uint16
	u32 = binary.LittleEndian.Uint32
	u64 = binary.LittleEndian.Uint64
)
