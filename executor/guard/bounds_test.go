package guard

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestDepth(t *testing.T) {
	s := text + letters[:100]
	for range maxDepth {
		s = gz(s)
	}
	if got, want := searchAll(t, []byte(s), Options{}), []string{"byte 11: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if got, want := searchAll(t, []byte(gz(s)), Options{}), []string{"f: not searched: " + tooDeep}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	// An archive of what may be as deep.
	wrapped := zipOf(file{"a", s})
	if got, want := searchAll(t, []byte(wrapped), Options{Wrapped: true}), []string{"member a, byte 11: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if got := searchAll(t, []byte(zipOf(file{"a", gz(s)})), Options{Wrapped: true}); len(got) != 1 || !strings.HasSuffix(got[0], tooDeep) {
		t.Errorf("%q", got)
	}
}

// What many files may grow to, an archive of them may, whatever its size.
func TestWrapped(t *testing.T) {
	large := zipOf(file{"a", strings.Repeat("\x00", 1<<20)}, file{"b", text})
	if got, want := searchAll(t, []byte(large), Options{Wrapped: true, MaxUnpacked: 2 << 20}), []string{"member b, byte 11: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
	if got := searchAll(t, []byte(large), Options{Wrapped: true, MaxUnpacked: 1 << 20}); len(got) == 0 || got[0] != "f: not searched: "+tooBig {
		t.Errorf("%q", got)
	}
	if plain, wrapped := (Options{}).work(1000), (Options{Wrapped: true}).work(1000); plain != freeWork || wrapped != maxWork {
		t.Error(plain, wrapped)
	}
}

// Bombs: one finding, soon, and what is behind them is still seen.
func TestBombs(t *testing.T) {
	zeros := strings.Repeat("\x00", 1<<20)
	ten := gz(strings.Repeat(zeros, 32))
	for name, bomb := range map[string]string{
		"gzip":    ten,
		"gzips":   gz(ten),
		"zip":     zipOf(file{"a", zeros}, file{"b", zeros}, file{"c", strings.Repeat(zeros, 31)}),
		"zstd":    zstdOf(strings.Repeat(zeros, 32)),
		"overlap": overlapping(100, deflate(zeros)),
		"quine":   gz(strings.Repeat(gz(zeros), 100)),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			got := searchAll(t, []byte(bomb+text), Options{MaxUnpacked: 16 << 20})
			runtime.ReadMemStats(&after)
			if name == "overlap" && len(got) > 0 { // the headers in the members
				got = got[1:]
			}
			want := []string{"f: not searched: " + tooBig, fmt.Sprintf("byte %d: secret CANARY", len(bomb)+11)}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			t.Log(time.Since(start), (after.TotalAlloc-before.TotalAlloc)>>20, "MB")
		})
	}
	large := strings.Repeat(ten, 9)
	if got, want := searchAll(t, []byte(large), Options{}), []string{"f: not searched: " + tooBig}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

// overlapping is a zip as David Fifield makes bombs: all its members end with
// the same data, and each has the local headers of those behind it in a block
// that is not packed.
func overlapping(n int, data string) string {
	var parts []part
	for i := range n {
		name := fmt.Sprintf("%05d", n-i)
		header := byHand("", part{name: name, local: 8, data: data, noCentral: true})[:30+len(name)]
		parts = append(parts, part{name: name, noLocal: true, central: 8})
		data = header + data
		if i < n-1 {
			data = "\x00" + string([]byte{byte(len(header)), 0, ^byte(len(header)), 0xff}) + data
		}
	}
	for i := range parts { // from the last to the first, a header and a block in front of each other
		parts[i].at = (n-1-i)*(30+5+5) + 1
	}
	dir := byHand("", parts...)
	end := len(dir) - 6
	return data + dir[:end] + string(binary.LittleEndian.AppendUint32(nil, uint32(len(data)))) + dir[end+4:]
}

// A zip that is packed itself and too large to be held is read front to back;
// what only its directory knows of is not seen, and that is said.
func TestHeld(t *testing.T) {
	big := file{"big", strings.Repeat("x", maxHeld+2*window)}
	for name, c := range map[string]struct {
		content string
		want    []string
	}{
		"a member": {zip0Of(big, file{"a", gz(text)}), []string{"member a, byte 11: secret CANARY"}},
		"only in the directory": {
			byHand("", part{name: "a", central: 8, data: deflate(text + letters[:3000])}, part{name: "big", data: big.text}),
			[]string{"member a: not searched: " + unreachable},
		},
	} {
		if got := searchAll(t, []byte(inParts(c.content)), Options{}); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %q", name, got)
		}
	}
	small := byHand("", part{name: "big", data: noise}, part{name: "a", central: 8, data: deflate(text + letters[:3000])})
	if got, want := searchAll(t, []byte(gz(small)), Options{}), []string{"member a, byte 11: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
}

// inParts packs a text that is mostly the same megabyte, in no time.
func inParts(s string) string {
	known := map[string]string{}
	var b strings.Builder
	for len(s) > 0 {
		part := s[:min(len(s), 1<<20)]
		s = s[len(part):]
		if known[part] == "" {
			known[part] = gz(part)
		}
		b.WriteString(known[part])
	}
	return b.String()
}

// Zips of many small members, and streams of many parts, are no bombs.
func TestNoBomb(t *testing.T) {
	var files []file
	for i := range 20_000 {
		files = append(files, file{fmt.Sprint(i), "x"})
	}
	for name, content := range map[string]string{
		"zip":           zipOf(files...) + "x" + gz(text),
		"tar.gz":        gz(tarOf(files...)) + "x" + gz(text),
		"gzip in parts": strings.Repeat(gz(""), 20_000) + gz(text),
	} {
		start := time.Now()
		got := searchAll(t, []byte(content), Options{})
		if len(got) != 1 || !strings.HasSuffix(got[0], "byte 11: secret CANARY") {
			t.Errorf("%s: %q", name, got)
		}
		t.Log(name, time.Since(start))
	}
}

func TestMany(t *testing.T) {
	got := searchAll(t, []byte(strings.Repeat(text, 100)), Options{})
	if len(got) != maxFindings+1 || got[maxFindings] != "f: not searched: "+moreFindings {
		t.Errorf("%q", got)
	}
	got = searchAll(t, []byte(gz(strings.Repeat(text, 100)+letters)), Options{})
	if len(got) != maxFindings+1 || got[maxFindings] != "f: not searched: "+moreFindings {
		t.Errorf("%q", got)
	}
}

// Files that seem to be full of archives take no more than their time.
func TestHostile(t *testing.T) {
	for name, piece := range map[string]string{
		"gzip":      "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\xff\xff",
		"zip":       "PK\x03\x04\x14\x00\x00\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff",
		"stored":    "PK\x03\x04\x14\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x00\xff\xff\xff\x00\x00\x00\x00\x00",
		"directory": "PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"bzip2":     "BZh91AY&SY\x00\x00\x00\x00\x00",
		"xz":        xzOf(strings.Repeat("\x00", 100)),
		"zstd":      "\x28\xb5\x2f\xfd\x00\x58\x01\x00\x00",
		"tar":       tarOf(file{"a", ""})[:512],
	} {
		t.Run(name, func(t *testing.T) {
			b := []byte(strings.Repeat(piece, 1<<20/len(piece)) + text)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			start := time.Now()
			var got []string
			if err := New(matcher(t), Options{MaxUnpacked: 8 << 20}).Search(ctx, "f", bytes.NewReader(b), int64(len(b)), func(f Finding) { got = append(got, f.String()) }); err != nil {
				t.Error(err)
			}
			if len(got) == 0 || !strings.HasSuffix(got[len(got)-1], "secret CANARY") {
				t.Errorf("%q", got)
			}
			t.Log(time.Since(start), got)
		})
	}
}
