package redact

import (
	"fmt"
	"strings"
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
