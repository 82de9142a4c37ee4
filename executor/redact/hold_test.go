package redact

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// One secret of letters that stand nowhere else, for tests of what is held.
var one = []Secret{{Name: "N", Value: "hunter2hunter2"}}

// What is to be seen after each write, with nothing held that need not be.
func TestHold(t *testing.T) {
	for name, writes := range map[string][][2]string{ // written, and seen so far
		"all at once":            {{"a hunter2hunter2 ~", "a [cleanroom: N] ~"}},
		"a prompt":               {{"Password: ", "Password: "}, {"\n", "Password: \n"}},
		"a progress bar":         {{"\r 45%|####    |", "\r 45%|####    |"}, {"\r 46%|####    |", "\r 45%|####    |\r 46%|####    |"}},
		"the first letter":       {{"with", "wit"}, {" ", "wit"}, {"x", "with x"}},
		"the first letter, line": {{"with", "wit"}, {"\n", "with\n"}, {"unter2hunter2", "with\n[cleanroom: N]"}},
		"four letters, line":     {{"hunt", ""}, {"\n", ""}, {"er2hunter2", "[cleanroom: N]"}},
		"three letters, line":    {{"hun\n", "hun\n"}, {"ter2hunter2", "hun\n[cleanroom: N]"}},
		"a prefix of itself":     {{"hunter2hunter", ""}, {"3", "hunter2hunter3"}},
		"repeated prefix":        {{"hunter2", ""}, {"hunter2h", "[cleanroom: N]"}, {"~", "[cleanroom: N]h~"}}, "overlaps itself": {{"hunter2", ""}, {"hunter2h", "[cleanroom: N]"}, {"unter2~", "[cleanroom: N]~"}},
		"by letters": {{"hunter2hunter", ""}, {"2", "[cleanroom: N]"}},
		"a gap":      {{"hunter" + strings.Repeat(" ", maxGap), ""}, {" ", "hunter" + strings.Repeat(" ", maxGap+1)}},
		"not text":   {{"\xff\xfe\x00\x00\x80\x1b[K", "\xff\xfe\x00\x00\x80\x1b[K"}},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			r, err := New(&out, one, Options{})
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range writes {
				if n, err := r.Write([]byte(w[0])); n != len(w[0]) || err != nil {
					t.Fatal(n, err)
				}
				if got := out.String(); got != w[1] {
					t.Errorf("after %q: %q, want %q", w[0], got, w[1])
				}
			}
		})
	}
}

// gitlab-runner's masker lets out a secret that stands behind a repeated prefix
// of itself: on a mismatch it begins anew after the prefix, not within.
func TestMaskerLeak(t *testing.T) {
	const value, text, want = "s3s3cret", "s3s3s3cret", "s3[cleanroom: N]"
	secrets := []Secret{{Name: "N", Value: value}}
	writes := [][]string{strings.Split(text, "")}
	for i := range text {
		for j := i; j < len(text); j++ {
			writes = append(writes, []string{text[:i], text[i:j], text[j:]})
		}
	}
	for _, pieces := range writes {
		if got, err := redacted(pieces, secrets, Options{}); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", pieces, got, err, want)
		}
	}
}

// The same with other prefixes, repeated more often.
func TestRepeatedPrefix(t *testing.T) {
	for _, value := range []string{"aaaaaaab", "abababac", "hunter2hunter2", "mysecmysecret"} {
		secrets := []Secret{{Name: "N", Value: value}}
		for n := 1; n < len(value); n++ {
			text := strings.Repeat(value[:n], 3) + value
			want := reference(text+settled, secrets, Options{})
			if strings.Contains(want, value) {
				t.Fatal(want)
			}
			for i := range text {
				for j := i; j < len(text); j++ {
					got, err := redacted([]string{text[:i], text[i:j], text[j:] + settled}, secrets, Options{})
					if err != nil || got != want {
						t.Fatalf("%q cut at %d and %d: %q, want %q", text, i, j, got, want)
					}
				}
			}
		}
	}
}

func TestOverlap(t *testing.T) {
	secrets := []Secret{{Name: "A", Value: "abcdefgh"}, {Name: "B", Value: "efghijkl"}, {Name: "LONG", Value: "abcdefghij"}, {Name: "C", Value: "kl~345678"}}
	for text, want := range map[string]string{
		"abcdefghijkl":       "[cleanroom: LONG]",
		"abcdefghi":          "[cleanroom: A]i",
		"xefghijkl":          "x[cleanroom: B]",
		"abcdefghijkl~34567": "[cleanroom: LONG]~34567",
		"efghijkl~345678":    "[cleanroom: B]",
		"abcdefghabcdefgh":   "[cleanroom: A]",
		"abcdefghefghijkl":   "[cleanroom: A][cleanroom: B]",
	} {
		for _, pieces := range [][]string{{text, settled}, append(strings.Split(text, ""), settled)} {
			if got, err := redacted(pieces, secrets, Options{}); err != nil || got != want+settled {
				t.Errorf("%q: %q, want %q", text, got, want)
			}
		}
	}
}

// The end of a stage: a long beginning is hidden, a short one shown.
func TestClose(t *testing.T) {
	long := []Secret{{Name: "N", Value: "hunter2hunter2-and-more-of-it"}}
	for text, want := range map[string]string{
		"x hunter2":                       "x hunter2",
		"x hunter2h":                      "x [cleanroom: N]",
		"x hunter2 hunter2-and-\n":        "x [cleanroom: N]\n",
		"x hun":                           "x hun",
		"x " + long[0].Value:              "x [cleanroom: N]",
		"x hunter2hunter2-and-more-of-it": "x [cleanroom: N]",
	} {
		if got, _ := redacted([]string{text}, long, Options{}); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	// Of a short one half is long.
	if got, _ := redacted([]string{"x ~1~2~3~4"}, []Secret{{Name: "N", Value: "~1~2~3~4~5"}}, Options{}); got != "x [cleanroom: N]" {
		t.Error(got)
	}
	if got, _ := redacted([]string{"x ~1~2"}, []Secret{{Name: "N", Value: "~1~2~3~4~5"}}, Options{}); got != "x ~1~2" {
		t.Error(got)
	}
	var out strings.Builder
	r, _ := New(&out, one, Options{})
	for range 2 {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := r.Write([]byte("x")); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

func TestAdd(t *testing.T) {
	var out strings.Builder
	r, err := New(&out, one, Options{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(s string) { r.Write([]byte(s)) }
	write("before: s3cr3t-token, held: hunter2hun")
	if err := r.Add([]Secret{{Name: "T", Value: "s3cr3t-token"}, {Name: "H", Value: "ter2hun~~~"}}); err != nil {
		t.Fatal(err)
	}
	write("~~~ s3cr3t-token hunter2hun")
	if err := r.Add([]Secret{{Name: "S", Value: "short"}, {Name: "L", Value: "~~~ s3cr3t"}}); !errors.Is(err, ErrShort) || !strings.Contains(err.Error(), "S: ") || strings.Contains(err.Error(), "short:") {
		t.Error(err)
	}
	write("ter2 short")
	r.Close()
	if want := "before: s3cr3t-token, held: hun[cleanroom: H] [cleanroom: T] [cleanroom: N] short"; out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	if got := fmt.Sprint(r.Counts()); got != "map[H:1 N:1 T:1]" {
		t.Error(got)
	}
}

// Two streams of one log: what is printed by turns is found where it is whole
// in the log; a secret cut by the other stream is not in the log.
func TestConcurrent(t *testing.T) {
	var out strings.Builder
	r, err := New(&out, one, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 500 {
				io.WriteString(r, "a line with hunter2hunter2 in it\n")
			}
		})
	}
	all.Go(func() { r.Add([]Secret{{Name: "M", Value: "another value"}}) })
	all.Wait()
	r.Close()
	if want := strings.Repeat("a line with [cleanroom: N] in it\n", 2000); out.String() != want || r.Counts()["N"] != 2000 {
		t.Error(len(out.String()), r.Counts())
	}
}

// One matcher for many texts at once: whoever first finds the beginning of a
// form makes the tree for all.
func TestShared(t *testing.T) {
	m, err := NewMatcher(one, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			text := strings.Repeat("x ", i) + "hunter2hunter2"
			if start, end, name, ok := m.Find([]byte(text), 0); start != 2*i || end != len(text) || name != "N" || !ok {
				t.Error(start, end, name, ok)
			}
		})
	}
	all.Wait()
}

type broken struct{ after int }

var errBroken = errors.New("broken pipe")

func (b *broken) Write(p []byte) (int, error) {
	if b.after--; b.after < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestWriterFails(t *testing.T) {
	r, err := New(&broken{1}, one, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.Write([]byte("x hunter2hunter2")); !errors.Is(err, errBroken) {
			t.Error(err)
		}
	}
	if err := r.Close(); !errors.Is(err, errBroken) {
		t.Error(err)
	}
}

// Nothing prints a value.
func TestPrint(t *testing.T) {
	r, _ := New(io.Discard, one, Options{})
	r.Write([]byte("hunter2hun"))
	m, _ := NewMatcher(one, Options{})
	s := m.Scan()
	s.Feed([]byte("hunter2hun"), nil)
	_, err := NewMatcher([]Secret{{Name: "N", Value: "hunter2"}, {Name: "E"}}, Options{})
	if !errors.Is(err, ErrShort) {
		t.Error(err)
	}
	for _, v := range []any{one, one[0], &one[0], r, m, *m, s, *s, err, struct{ R *Redactor }{r}, struct{ S Secret }{one[0]}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "hunter2") || strings.Contains(text, "68756e7465723") || strings.Contains(text, "104 117") {
				t.Errorf("%T %s: %s", v, verb, text)
			}
		}
	}
}

// Time grows with the text and not with its square, whatever is in it. The
// bound is wide: a search that went back for each byte would take minutes.
func TestLinear(t *testing.T) {
	const k, n = 1000, 1 << 20
	ab := Secret{Name: "AB", Value: strings.Repeat("a", k) + "b"}
	aba := Secret{Name: "ABA", Value: strings.Repeat("ab", k/2) + "c"}
	for name, text := range map[string]string{
		"a^n":             strings.Repeat("a", n),
		"(ab)^n":          strings.Repeat("ab", n/2),
		"(a^k c)^n":       strings.Repeat(strings.Repeat("a", k)+"c", n/k),
		"(a^k b)^n":       strings.Repeat(strings.Repeat("a", k)+"b", n/k),
		"gaps":            strings.Repeat("a"+strings.Repeat(" ", maxGap), n/maxGap),
		"gaps and lines":  strings.Repeat("a"+strings.Repeat("\n ", maxGap/2), n/maxGap),
		"blanks":          strings.Repeat(" ", n),
		"escapes":         strings.Repeat("a\x1b[m", n/4),
		"ESC":             strings.Repeat("\x1b", n),
		"an endless one":  "\x1b]" + strings.Repeat("a", n),
		"lines of masks":  strings.Repeat("\n::add-mas", n/10),
		"base64 of many":  strings.Repeat(base64.StdEncoding.EncodeToString([]byte(ab.Value[:k-1])), n*3/4/k),
		"one long prefix": strings.Repeat("a", k/2) + strings.Repeat(" \x1b[1m", n/5),
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 100, n} {
				r, err := New(io.Discard, []Secret{ab, aba}, Options{AddMask: true})
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				for at := 0; at < len(text); at += size {
					if _, err := r.Write([]byte(text[at:min(at+size, len(text))])); err != nil {
						t.Fatal(err)
					}
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("%d bytes per write: %s", size, took)
				} else {
					t.Logf("%d bytes per write: %s", size, took)
				}
				if held := cap(r.s.buf); held > 2*(maxForm*(maxGap+1)+chunk) {
					t.Errorf("%d bytes held", held)
				}
			}
		})
	}
}
