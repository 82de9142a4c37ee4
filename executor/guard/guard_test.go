package guard

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"reflect"
	"strings"
	"sync"
	"testing"

	"cleanroom/executor/redact"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const canary = "tr0ub4dorandthree"

func matcher(t testing.TB) *redact.Matcher { return matcherOf(t, canary) }

func matcherOf(t testing.TB, value string) *redact.Matcher {
	t.Helper()
	m, err := redact.NewMatcher([]redact.Secret{{Name: "CANARY", Value: value}}, redact.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func searchAll(t testing.TB, b []byte, o Options) []string { return searchWith(t, matcher(t), b, o) }

func searchWith(t testing.TB, m *redact.Matcher, b []byte, o Options) (all []string) {
	t.Helper()
	sum := sha256.New()
	err := New(m, o).SearchSum(context.Background(), "f", bytes.NewReader(b), int64(len(b)), func(f Finding) {
		all = append(all, strings.TrimPrefix(f.Error(), "f, "))
	}, sum)
	if err != nil {
		t.Fatal(err)
	}
	summed(t, b, sum, len(all) > maxFindings)
	return all
}

// summed expects the hash of the whole file, whatever archives are in it,
// unless there was too much to find.
func summed(t testing.TB, b []byte, sum hash.Hash, ended bool) {
	t.Helper()
	if want := sha256.Sum256(b); !ended && !bytes.Equal(sum.Sum(nil), want[:]) {
		t.Errorf("the hash of %d bytes is not that of the file", len(b))
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func gz(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	must(io.WriteString(w, s))
	check(w.Close())
	return b.String()
}

func xzOf(s string) string {
	var b bytes.Buffer
	w := must(xz.NewWriter(&b))
	must(io.WriteString(w, s))
	check(w.Close())
	return b.String()
}

func zstdOf(s string) string {
	return string(must(zstd.NewWriter(nil)).EncodeAll([]byte(s), nil))
}

func bzip2Of() string {
	return string(must(base64.StdEncoding.DecodeString(bzipped)))
}

// file is one of an archive.
type file struct{ name, text string }

func tarOf(files ...file) string {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		check(w.WriteHeader(&tar.Header{Name: f.name, Size: int64(len(f.text)), Mode: 0o644}))
		must(io.WriteString(w, f.text))
	}
	check(w.Close())
	return b.String()
}

func zipWith(method uint16, files ...file) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		must(io.WriteString(must(w.CreateHeader(&zip.FileHeader{Name: f.name, Method: method})), f.text))
	}
	check(w.Close())
	return b.String()
}

func zipOf(files ...file) string  { return zipWith(zip.Deflate, files...) }
func zip0Of(files ...file) string { return zipWith(zip.Store, files...) }

const (
	text = "the key is " + canary + ", keep it\n"
	// What bzip2 and xz --x86 made of text.
	bzipped = "QlpoOTFBWSZTWTzRqKAAABDZgAAQQAREADZp3iAgADFMJpoDTEIp6maNDRPTyp0y2gohTAmzD1YTiJPWqXKCzl/xdyRThQkDzRqKAA=="
	xzX86   = "/Td6WFoAAATm1rRGAgEEACEBFgANhjUfAQAldGhlIGtleSBpcyB0cjB1YjRkb3JhbmR0aHJlZSwga2VlcCBpdAoAAAC4QMwkeId8BQABPiarK06zH7bzfQEAAAAABFla"
)

var noise = func() string {
	b := make([]byte, 3<<19)
	x := uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return string(b)
}()

var letters = hex.EncodeToString([]byte(noise))

func TestSearch(t *testing.T) {
	plain := file{"b/settings.env", text}
	other := file{"a/readme", strings.Repeat("nothing here ", 100)}
	big := file{"big", noise}
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"empty", "", nil},
		{"nothing", "nothing", nil},
		{"plain", text, []string{"byte 11: secret CANARY"}},
		{"plain, behind a megabyte", strings.Repeat("x", step-5) + text, []string{"byte 1048582: secret CANARY"}},
		{"base64", "x " + base64.StdEncoding.EncodeToString([]byte(canary)), []string{"byte 2: secret CANARY"}},
		{"gzip", gz(text), []string{"byte 11: secret CANARY"}},
		{"gzip of two members, the value in both", gz(text[:20]) + gz(text[20:]), []string{"byte 11: secret CANARY"}},
		{"gzip and more", gz("nothing") + strings.Repeat("\x00", 100) + "x" + gz(text), []string{"member gzip at byte 132, byte 11: secret CANARY"}},
		{"gzip with a name", gzNamed(canary, "nothing"), []string{"byte 10: secret CANARY"}},
		{"gzip with a long name", gzNamed(strings.Repeat("n", 70000), text), []string{"byte 11: secret CANARY"}},
		{"gzip, cut", gz(text + letters)[:1<<20], []string{"byte 11: secret CANARY"}},
		{"gzip, broken", gz(text + letters)[:1<<20] + noise[:5000], []string{"byte 11: secret CANARY", "f: not searched: " + Broken}},
		{"bzip2", bzip2Of(), []string{"byte 11: secret CANARY"}},
		{"bzip2 and more", bzip2Of() + "xyz" + gz(text), []string{"byte 11: secret CANARY", "member gzip at byte 79, byte 11: secret CANARY"}},
		{"xz", xzOf(text + letters[:5000]), []string{"byte 11: secret CANARY"}},
		{"xz twice", xzOf(text[:20]) + "\x00\x00\x00\x00" + xzOf(text[20:]), []string{"byte 11: secret CANARY"}},
		{"xz, filtered", string(must(base64.StdEncoding.DecodeString(xzX86))), []string{"f: not searched: " + otherPacking, "byte 38: secret CANARY"}},
		{"zstd", zstdOf(strings.Repeat(letters[:1000], 50) + text), []string{"byte 50011: secret CANARY"}},
		{"zstd twice, and more", zstdOf(text[:20]) + zstdOf(text[20:]) + gz(text), []string{"byte 11: secret CANARY", "member gzip at byte 64, byte 11: secret CANARY"}},
		{"tar", tarOf(other, plain, big), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"tar.gz", gz(tarOf(other, plain)), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"tar.gz, at its end", gz(tarOf(other, big, plain)), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"two tars", tarOf(other) + tarOf(plain), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"tar in tar", tarOf(file{"in.tar", tarOf(other, plain)}, file{"c", text}), []string{"member in.tar, member b/settings.env, byte 11: secret CANARY", "member c, byte 11: secret CANARY"}},
		{"zip", zipOf(other, plain), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"zip, stored", zip0Of(other, big, plain), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"zip behind a script", "#!/bin/sh\nexec x\n" + zipOf(other, plain), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"zip before noise", zipOf(other, plain) + noise, []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"zip, large, in gzip", gz(zipOf(big, plain)), []string{"member b/settings.env, byte 11: secret CANARY"}},
		{"7z", "7z\xbc\xaf\x27\x1c\x00", []string{"f: not searched: 7z is not looked into"}},
		{"rar in tar", tarOf(file{"x", "Rar!\x1a\x07\x00"}), []string{"member x: not searched: rar is not looked into"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := searchAll(t, []byte(c.content), Options{}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func gzNamed(name, s string) string {
	plain := gz(s)
	return plain[:3] + "\x08" + plain[4:10] + name + "\x00" + plain[10:]
}

func TestErrors(t *testing.T) {
	g := New(matcher(t), Options{})
	quiet := func(f Finding) { t.Errorf("%v", f) }
	if err := g.Search(context.Background(), "f", strings.NewReader("short"), 10, quiet); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Search(ctx, "f", strings.NewReader(text), int64(len(text)), quiet); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestName(t *testing.T) {
	var got []string
	New(matcher(t), Options{}).Name("logs/x", "logs/"+canary+"/"+hex.EncodeToString([]byte(canary)), func(f Finding) { got = append(got, f.String()) })
	if want := []string{"logs/x, byte 5: secret CANARY", "logs/x, byte 23: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestString(t *testing.T) {
	long := strings.Repeat("\u20ac", 100)
	for want, f := range map[string]Finding{
		"dist/app.tar.gz, member conf/settings.env, byte 120: secret DATABASE_URL":                                 {Path: "dist/app.tar.gz", Members: []string{"conf/settings.env"}, Offset: 120, Secret: "DATABASE_URL"},
		`"a\n\x1b[1m", member "b, byte 1: secret X": not searched: why`:                                            {Path: "a\n\x1b[1m", Members: []string{"b, byte 1: secret X"}, Unsearched: "why"},
		long[:198] + "..., byte 0: secret S":                                                                       {Path: long, Secret: "S"},
		"p, member 1, member 2, member 3, member 4, ..., member 6, member 7, member 8, member 9, byte 0: secret S": {Path: "p", Members: strings.Split("123456789", ""), Secret: "S"},
	} {
		if got := f.Error(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAtOnce(t *testing.T) {
	g, content := New(matcher(t), Options{}), gz(tarOf(file{"a", text}, file{"b.zip", zipOf(file{"c", text})}))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			n := 0
			err := g.Search(context.Background(), "f", strings.NewReader(content), int64(len(content)), func(Finding) { n++ })
			if err != nil || n != 2 {
				t.Errorf("%v, %d findings", err, n)
			}
		})
	}
	group.Wait()
}
