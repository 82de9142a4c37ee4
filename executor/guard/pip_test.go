package guard

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"reflect"
	"strings"
	"testing"
)

// oldPip is a file of ~/.cache/pip/http as pips from 10 to 23.2 write it:
// "cc=4," and a map in msgpack, in which the body is one piece of bytes.
func oldPip(body string) string {
	str := func(s string) string { return string(append([]byte{0xd9, byte(len(s))}, s...)) }
	headers := []string{"Content-Type", "binary/octet-stream", "ETag", `"0a1b"`, "Cache-Control", "max-age=365000000, immutable, public"}
	var b bytes.Buffer
	b.WriteString("cc=4,\x82\xa8response\x87\xa4body\xc6")
	b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body))))
	b.WriteString(body + "\xa7headers" + string([]byte{0x80 | byte(len(headers)/2)}))
	for _, h := range headers {
		b.WriteString(str(h))
	}
	b.WriteString("\xa6status\xcc\xc8\xa7version\x0b\xa6reason\xa2OK\xa6strict\x00\xaedecode_content\xc2\xa4vary\x81\xafAccept-Encoding\xa8identity")
	return b.String()
}

func TestPipCache(t *testing.T) {
	var z bytes.Buffer
	w := zlib.NewWriter(&z)
	must(io.WriteString(w, `{"response":{"body":"UEsDBA=="}}`))
	check(w.Close())
	files := []file{{"lib/__init__.py", strings.Repeat("import os\n", 100)}, {"lib/settings.py", text}}
	wheel, sdist := zipOf(files...), gz(tarOf(files...))
	want := []string{"member lib/settings.py, byte 11: secret CANARY"}
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"http-v2, a wheel", wheel, want},
		{"http-v2, an sdist", sdist, want},
		{"http, a wheel", oldPip(wheel), want},
		{"http, a wheel of stored files", oldPip(zip0Of(files...)), want},
		{"http, a wheel that only its directory tells how to read", oldPip(byHand("", part{name: "a", central: 8, data: deflate(text)})), []string{"member a, byte 11: secret CANARY"}},
		{"http, an sdist", oldPip(sdist), []string{"member gzip at byte 26, member lib/settings.py, byte 11: secret CANARY"}},
		{"http, an index", oldPip("<a href=https://user:" + canary + "@host/x>"), []string{"byte 47: secret CANARY"}},
		{"http, before pip 10", "cc=2," + z.String(), []string{"f: not searched: the cache of a pip before 2018 is not looked into"}},
		{"the cache in an archive", gz(tarOf(file{"http/a/b/c", oldPip(wheel)})), []string{"member http/a/b/c, member lib/settings.py, byte 11: secret CANARY"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := searchAll(t, []byte(c.content), Options{}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}
