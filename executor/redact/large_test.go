package redact

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// Values longer than a form may be are hidden in pieces: no part of one is
// left, in the forms that files have.
func TestLarge(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 9))
	binary := make([]byte, 20<<10)
	for i := range binary {
		binary[i] = byte(r.Uint32())
	}
	for _, value := range []string{
		string(binary), string(binary[:2500]),
		"-----BEGIN KEY-----\n" + wrap(base64.StdEncoding.EncodeToString(binary), 64) + "\n-----END KEY-----\n",
	} {
		secrets := []Secret{{Name: "FILE", Value: value}}
		m, err := NewMatcher(secrets, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range []string{
			value, strings.ReplaceAll(value, "\n", "\r\n"),
			wrap(base64.StdEncoding.EncodeToString([]byte(value)), 76), hex.EncodeToString([]byte(value)),
		} {
			text := "before: " + form + "\n"
			got, err := redacted(cut(r, text), secrets, Options{})
			if err != nil {
				t.Fatal(err)
			}
			rest := strings.ReplaceAll(got, "[cleanroom: FILE]", "")
			if len(strings.TrimLeft(rest, "before: ")) > len(form)/200+4 {
				t.Errorf("%d of %d bytes are left: %.200q", len(rest), len(form), rest)
			}
			if start, end, name, ok := m.Find([]byte(text), 0); !ok || start < 8 || end <= start || name != "FILE" {
				t.Error(start, end, name, ok)
			}
		}
	}
}

// One write of many chunks, with secrets everywhere.
func TestOneWrite(t *testing.T) {
	var text, want strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&text, "%d hunter2hunter2 ~ \x1b[32mhunter2\x1b[mhunter2\n", i)
		fmt.Fprintf(&want, "%d [cleanroom: N] ~ \x1b[32m[cleanroom: N]\n", i)
	}
	got, err := redacted([]string{text.String()}, one, Options{})
	if err != nil || got != want.String() {
		t.Errorf("%d bytes, want %d", len(got), want.Len())
	}
	// The end of a log in each view.
	for text, want := range map[string]string{"~ hunter2\x1b[1mhunter": "~ [cleanroom: N]", "~ \x1b[hunter2hunter": "~ \x1b[[cleanroom: N]"} {
		if got, _ := redacted([]string{text}, one, Options{}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
