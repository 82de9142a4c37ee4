package guard

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"reflect"
	"strings"
	"testing"
)

func deflate(s string) string {
	var b bytes.Buffer
	w := must(flate.NewWriter(&b, 9))
	must(io.WriteString(w, s))
	check(w.Close())
	return b.String()
}

// part is a member of a zip as it is written by hand: what its local header
// says, and what the directory does.
type part struct {
	name                string
	flags               uint16
	local, central      uint16 // methods
	noLocal, noCentral  bool
	localSize           int // -1: none
	data, behind, extra string
	at                  int // of its local header, if that is not its own
}

// byHand makes a zip of parts.
func byHand(before string, parts ...part) string {
	var b, dir bytes.Buffer
	put := func(w *bytes.Buffer, fields ...any) {
		for _, f := range fields {
			check(binary.Write(w, binary.LittleEndian, f))
		}
	}
	n := uint16(0)
	for _, p := range parts {
		at := b.Len()
		if p.at > 0 {
			at = p.at - 1
		}
		if !p.noLocal {
			size := len(p.data)
			if p.localSize != 0 {
				size = max(p.localSize, 0)
			}
			put(&b, []byte("PK\x03\x04"), uint16(20), p.flags, p.local, uint32(0), crc32.ChecksumIEEE([]byte(p.data)),
				uint32(size), uint32(size), uint16(len(p.name)), uint16(len(p.extra)))
			b.WriteString(p.name + p.extra + p.data + p.behind)
		}
		if !p.noCentral {
			n++
			put(&dir, []byte("PK\x01\x02"), uint16(20), uint16(20), p.flags, p.central, uint32(0), crc32.ChecksumIEEE([]byte(p.data)),
				uint32(len(p.data)), uint32(len(p.data)), uint16(len(p.name)), uint16(0), uint16(0), uint16(0), uint16(0), uint32(0), uint32(at))
			dir.WriteString(p.name)
		}
	}
	at := b.Len()
	b.Write(dir.Bytes())
	put(&b, []byte("PK\x05\x06"), uint16(0), uint16(0), n, n, uint32(dir.Len()), uint32(at), uint16(0))
	return before + b.String()
}

func TestZip(t *testing.T) {
	packed := deflate(text + letters[:3000])
	inner := gz(text)
	descriptor := func(size int) string {
		return "PK\x07\x08" + string(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(make([]byte, 4), uint32(size)), uint32(size)))
	}
	found := func(names ...string) (all []string) {
		for _, n := range names {
			all = append(all, "member "+n+", byte 11: secret CANARY")
		}
		return all
	}
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"by hand", byHand("", part{name: "a", local: 8, central: 8, data: packed}, part{name: "b", data: text}), found("a", "b")},
		{"not in the directory", byHand("", part{name: "a", local: 8, noCentral: true, data: packed}, part{name: "b", data: "x"}), found("a")},
		{"not in the directory, stored", byHand("", part{name: "a", noCentral: true, data: inner}, part{name: "b", data: "x"}), found("a")},
		{"packed only for the directory", byHand("", part{name: "a", local: 0, central: 8, data: packed}), found("a")},
		{"and behind something else", byHand("xxx", part{name: "a", local: 0, central: 8, data: packed}), found("a")},
		{"and that in gzip", gz(byHand("", part{name: "a", local: 0, central: 8, data: packed})), found("a")},
		{"packed only for the local header", byHand("", part{name: "a", local: 8, central: 0, data: packed}), found("a")},
		{"stored only for the directory", byHand("", part{name: "a", local: 8, central: 0, data: inner}), []string{"f, member a: not searched: " + Broken, "member gzip at byte 31, byte 11: secret CANARY", "member a, byte 11: secret CANARY"}},
		{"inside of another", byHand("", part{name: "a", data: byHand("", part{name: "b", local: 0, noCentral: true, data: packed})}, part{name: "c", at: 32, noLocal: true, central: 8}), found("c")},
		{"directory points to nothing", byHand("", part{name: "a", at: 10, noLocal: true}), []string{"f, member a: not searched: " + unreachable}},
		{"encrypted", byHand("", part{name: "a", flags: 1, local: 8, central: 8, data: "rubbish"}, part{name: "b", local: 8, central: 8, data: packed}), append([]string{"member a: not searched: " + encrypted}, found("b")...)},
		{"encrypted only for the local header", byHand("", part{name: "a", flags: 1, local: 8, noCentral: true, data: packed}, part{name: "a", at: 1, noLocal: true, central: 8, data: packed}), append([]string{"member a: not searched: " + encrypted}, found("a")...)},
		{"deflate64", byHand("", part{name: "a", local: 9, central: 9, data: "rubbish"}), []string{"f, member a: not searched: zip method 9 is not looked into"}},
		{"zstd", byHand("", part{name: "a", local: 93, central: 93, data: zstdOf(strings.Repeat(letters[:1000], 50) + text)}), []string{"member a, byte 50011: secret CANARY"}},
		{"sizes behind, packed", byHand("", part{name: "a", flags: 8, localSize: -1, local: 8, central: 8, data: packed, behind: descriptor(len(packed))}, part{name: "b", data: text}), found("a", "b")},
		{"sizes behind, stored", byHand("", part{name: "a", flags: 8, localSize: -1, data: inner, behind: descriptor(len(inner))}, part{name: "b", data: text}), found("a", "b")},
		{"secret name", byHand("", part{name: canary, data: "x"}), []string{"byte 30: secret CANARY", "byte 94: secret CANARY"}},
		{"secret extra field", byHand("", part{name: "a", extra: canary, data: "x"}), []string{"byte 31: secret CANARY"}},
		{"zip64", byHand("", part{name: "a", localSize: 1<<32 - 1, extra: "\x01\x00\x10\x00" + string(binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), uint64(len(text)))), data: text}, part{name: "b", data: text}), found("a", "b")},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.want {
				c.want[i] = strings.TrimPrefix(c.want[i], "f, ")
			}
			if got := searchAll(t, []byte(c.content), Options{}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestZipComment(t *testing.T) {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	check(w.SetComment("made with " + canary))
	check(w.Close())
	if got, want := searchAll(t, b.Bytes(), Options{}), []string{"byte 32: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}
