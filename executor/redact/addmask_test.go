package redact

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAddMask(t *testing.T) {
	const seen = "[cleanroom: add-mask]"
	tooLong := strings.Repeat("x", maxMask+1)
	for text, want := range map[string]string{
		"::add-mask::s3cr3t-token\nthe s3cr3t-token":                                        seen + "\nthe " + seen,
		"s3cr3t-token\n::add-mask::s3cr3t-token\r\nczNjcjN0LXRva2Vu":                        "s3cr3t-token\n" + seen + "\n" + seen,
		"x ::add-mask::s3cr3t-token\ns3cr3t-token":                                          "x ::add-mask::s3cr3t-token\ns3cr3t-token",
		"::add-mask:s3cr3t-token\n:\n::add-mask":                                            "::add-mask:s3cr3t-token\n:\n::add-mask",
		"\n\n::add-mask::s3cr3t-token":                                                      "\n\n" + seen,
		"::add-mask::lines%0Atwo, 100%25\nlines\ntwo, 100%":                                 seen + "\n" + seen,
		"::add-mask::short\nshort":                                                          "[cleanroom: add-mask not heeded: value too short]\nshort",
		"::add-mask::short\n::add-mask::short":                                              "[cleanroom: add-mask not heeded: value too short]\n[cleanroom: add-mask not heeded: value too short]",
		"::add-mask::\n":                                                                    "[cleanroom: add-mask not heeded: value too short]\n",
		"::add-mask::" + tooLong + "\nx":                                                    "[cleanroom: add-mask not heeded: value too long]\nx",
		"::add-mask::one-two-three\n::add-mask::four-five-six\nfour-five-six one-two-three": seen + "\n" + seen + "\n" + seen + " " + seen,
		"::add-mask::hunter2hunter2\nhunter2hunter2":                                        seen + "\n[cleanroom: N]",
		"hunter2hu\n::add-mask::nter2-nter2\n":                                              "[cleanroom: N]\n" + seen + "\n",
		"::add-mask::s3cr3t-token\n::add-ms3cr3t-token":                                     seen + "\n::add-m" + seen,
	} {
		pieces := [][]string{{text}, strings.Split(text, "")}
		for at := range min(len(text), 40) {
			pieces = append(pieces, []string{text[:at], text[at:]})
		}
		for _, p := range pieces {
			got, err := redacted(p, one, Options{AddMask: true})
			if err != nil || got != want {
				t.Fatalf("%.80q in %d pieces: %q, want %q", text, len(p), got, want)
			}
		}
	}
}

// Whoever writes the log cannot make us compile for ever.
func TestTooManyMasks(t *testing.T) {
	var text strings.Builder
	for i := range maxMasks + 1 {
		fmt.Fprintf(&text, "::add-mask::value-%06d\n", i)
	}
	text.WriteString("value-000000 value-000255 value-000256")
	got, err := redacted([]string{text.String()}, nil, Options{AddMask: true})
	if err != nil || !strings.HasSuffix(got, "[cleanroom: add-mask not heeded: too many of them]\n[cleanroom: add-mask] [cleanroom: add-mask] value-000256") {
		t.Errorf("%q", got[max(0, len(got)-300):])
	}
}

// A caller learns of each value once, when it can still hide what follows in
// other logs, and may call back.
func TestMasked(t *testing.T) {
	const text = "x hunter2hu\n::add-mask::s3cr3t-token\ns3cr3t-token other-token\n::add-mask::short\n::add-mask::s3cr3t-token\n" +
		"::add-mask::a%0Ab, 100%25 of it\n::add-mask::a%0Ab, 100%25 of it"
	const want = "x [cleanroom: N]\n[cleanroom: add-mask]\n[cleanroom: add-mask] [cleanroom: O]\n" +
		"[cleanroom: add-mask not heeded: value too short]\n[cleanroom: add-mask]\n[cleanroom: add-mask]\n[cleanroom: add-mask]"
	for _, pieces := range [][]string{{text}, strings.Split(text, "")} {
		var out strings.Builder
		var told []string
		var r *Redactor
		r, err := New(&out, one, Options{AddMask: true, Masked: func(s Secret) {
			if strings.Contains(out.String(), "token") || r.Counts()["O"] > 0 && len(told) == 0 {
				t.Errorf("told of %q after %q", s.Value, out.String())
			}
			told = append(told, s.Name+" "+s.Value)
			if err := r.Add([]Secret{{Name: "O", Value: "other-token"}}); err != nil {
				t.Error(err)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pieces {
			if n, err := r.Write([]byte(p)); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("got  %q\nwant %q", out.String(), want)
		}
		if got := fmt.Sprintf("%q", told); got != `["add-mask s3cr3t-token" "add-mask a%0Ab, 100%25 of it" "add-mask a\nb, 100% of it"]` {
			t.Error(got)
		}
		if got := fmt.Sprint(r.Counts()); got != "map[N:1 O:1 add-mask:5]" {
			t.Error(got)
		}
	}
}

// Lines of several writers, and values added from without.
func TestMaskedConcurrent(t *testing.T) {
	var out strings.Builder
	var r *Redactor
	var told atomic.Int32
	r, err := New(&out, one, Options{AddMask: true, Masked: func(s Secret) {
		told.Add(1)
		if err := r.Add([]Secret{{Name: "A", Value: "again " + s.Value}}); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 10 {
				value := fmt.Sprintf("value-%d-%04d", i, j)
				fmt.Fprintf(r, "::add-mask::%s\n%s\n", value, value)
			}
		})
		all.Go(func() {
			if err := r.Add([]Secret{{Name: "B", Value: fmt.Sprintf("from without %d", i)}}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat("[cleanroom: add-mask]\n[cleanroom: add-mask]\n", 40); out.String() != want || told.Load() != 40 {
		t.Errorf("told of %d: %q", told.Load(), out.String())
	}
}
