package addmask

import (
	"strings"
	"testing"
)

type memory []string

func (m *memory) List() ([]string, error) { return *m, nil }
func (m *memory) Add(p string) error      { *m = append(*m, p); return nil }

// Every case is written whole, byte by byte, and in two pieces split at every place.
func TestMasks(t *testing.T) {
	for _, c := range []struct{ known, in, want, learns string }{
		{"", "plain\n::add-mask\n", "plain\n::add-mask\n", ""},
		{"", "::add-mask::s3cret\r\nx s3cret y\ns3cre", "::add-mask::[MASKED]\r\nx [MASKED] y\ns3cre", "s3cret"},
		{"", "echo ::add-mask::s3cret\ns3cret", "echo ::add-mask::s3cret\ns3cret", ""},
		{"", "::add-mask::\n::add-mask::s3cret", "::add-mask::\n::add-mask::[MASKED]", "s3cret"},
		{"VALUE,VALUE_OTHER", "VALUE VALUE_OTHER VALUE_OTH", "[MASKED] [MASKED] [MASKED]_OTH", ""},
		{"abc,bcde,cd", "xabcdefabccd", "x[MASKED]f[MASKED][MASKED]", ""},
		{"aab,a\nb", "aaab a\nb ba", "a[MASKED] [MASKED] ba", ""},
	} {
		var splits [][]string
		for i := range c.in {
			splits = append(splits, []string{c.in[:i], c.in[i:]})
		}
		for _, pieces := range append(splits, strings.Split(c.in, "")) {
			var store memory
			if c.known != "" {
				store = strings.Split(c.known, ",")
			}
			before := len(store)
			var out strings.Builder
			m, err := New(&store, &out)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pieces {
				if n, err := m.Get(0).Write([]byte(p)); n != len(p) || err != nil {
					t.Fatal(n, err)
				}
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			if out.String() != c.want || strings.Join(store[before:], ",") != c.learns {
				t.Errorf("%q in %d pieces: got %q, learned %q; want %q, %q", c.in, len(pieces), out.String(), store[before:], c.want, c.learns)
			}
		}
	}
}

// What has no chance of becoming a phrase is shown at once: a job's log is watched.
func TestHoldsBackLittle(t *testing.T) {
	var out strings.Builder
	m, _ := New(&memory{"secret"}, &out)
	m.Get(0).Write([]byte("50% done, se"))
	if out.String() != "50% done, " {
		t.Errorf("shown: %q", out.String())
	}
}
