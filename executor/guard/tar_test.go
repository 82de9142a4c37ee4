package guard

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestTar(t *testing.T) {
	long := strings.Repeat("folder/", 30) + "settings.env"
	write := func(h *tar.Header, s string) string {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Size, h.Mode = int64(len(s)), 0o644
		check(w.WriteHeader(h))
		must(io.WriteString(w, s))
		check(w.WriteHeader(&tar.Header{Name: "z", Size: int64(len(text)), Mode: 0o600}))
		must(io.WriteString(w, text))
		check(w.Close())
		return b.String()
	}
	v7 := func(s string) string { // no magic, and its checksum
		b := []byte(s)
		copy(b[257:265], make([]byte, 8))
		sum := 0
		for i, c := range b[:512] {
			if i >= 148 && i < 156 {
				c = ' '
			}
			sum += int(c)
		}
		copy(b[148:156], []byte{'0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0, ' '})
		copy(b[148:], []byte{'0'})
		copy(b[149:], []byte{'0' + byte(sum>>12&7), '0' + byte(sum>>9&7), '0' + byte(sum>>6&7), '0' + byte(sum>>3&7), '0' + byte(sum&7), 0})
		return string(b)
	}
	z := "member z, byte 11: secret CANARY"
	for _, c := range []struct {
		name, content string
		want          []string
	}{
		{"ustar", write(&tar.Header{Name: "a", Format: tar.FormatUSTAR}, text), []string{"member a, byte 11: secret CANARY", z}},
		{"v7", v7(write(&tar.Header{Name: "a", Format: tar.FormatUSTAR}, text)), []string{"member a, byte 11: secret CANARY", z}},
		{"pax, long name", write(&tar.Header{Name: long + "\u20ac", Format: tar.FormatPAX}, text), []string{"member " + clean(long+"\u20ac") + ", byte 11: secret CANARY", z}},
		{"gnu, long name", write(&tar.Header{Name: long, Format: tar.FormatGNU}, text), []string{"member " + clean(long) + ", byte 11: secret CANARY", z}},
		{"ustar, long name", write(&tar.Header{Name: long[:150], Format: tar.FormatUSTAR}, text), []string{"member " + long[:150] + ", byte 11: secret CANARY", z}},
		{"pax value", write(&tar.Header{Name: "a", Format: tar.FormatPAX, PAXRecords: map[string]string{"SCHILY.xattr.user.x": canary}}, "x"), []string{"byte 535: secret CANARY", z}},
		{"link target", write(&tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: "../" + canary}, ""), []string{"byte 160: secret CANARY", z}},
		{"long link target", write(&tar.Header{Name: "a", Typeflag: tar.TypeSymlink, Linkname: long + canary}, ""), []string{"byte 747: secret CANARY", z}},
		{"gzip in it", write(&tar.Header{Name: "a"}, gz(text)), []string{"member a, byte 11: secret CANARY", z}},
		{"gzip in it, cut", write(&tar.Header{Name: "a"}, gz(text + letters)[:1<<20]), []string{"member a, byte 11: secret CANARY", z}},
		{"gzip in it, cut, all that packed", gz(write(&tar.Header{Name: "a"}, gz(text + letters)[:1<<19])), []string{"member a, byte 11: secret CANARY", z}},
		{"too large a size", strings.Replace(tarOf(file{"a", text}), "00000000046", "77777777777", 1), []string{"byte 523: secret CANARY"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := searchAll(t, []byte(c.content), Options{})
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// A value whose slash became the border of two fields of the header.
func TestTarName(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	check(w.WriteHeader(&tar.Header{Name: strings.Repeat("p", 100) + "tr0ub4dor/andthree" + strings.Repeat("n", 80), Format: tar.FormatUSTAR}))
	check(w.Close())
	m := matcherOf(t, "tr0ub4dor/andthree")
	if got, want := searchWith(t, m, b.Bytes(), Options{}), []string{"byte 100: secret CANARY"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

// What GNU tar makes of a file with holes, in each of its formats.
func TestSparse(t *testing.T) {
	gnu, err := exec.LookPath("tar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := must(os.Create(filepath.Join(dir, "sparse")))
	for i := range 30 { // more pieces than the header has room for
		must(f.WriteAt([]byte("piece"), int64(i)<<20))
	}
	must(f.WriteAt([]byte(text), 40<<20))
	check(f.Close())
	check(os.WriteFile(filepath.Join(dir, "z"), []byte(text), 0o600))
	for _, format := range [][]string{{"--format=gnu"}, {"--format=pax", "--sparse-version=0.1"}, {"--format=pax", "--sparse-version=1.0"}} {
		b, err := exec.Command(gnu, append(format, "-S", "-C", dir, "-cf", "-", "sparse", "z")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		got := searchAll(t, b, Options{})
		if len(got) != 2 || !strings.HasPrefix(got[0], "member sparse, byte ") || got[1] != "member z, byte 11: secret CANARY" {
			t.Errorf("%s: %q", format, got)
		}
	}
}
