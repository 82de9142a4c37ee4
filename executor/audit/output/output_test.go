package output

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"gitlab.com/gitlab-org/gitlab-runner/common/buildlogger"
	"gitlab.com/gitlab-org/gitlab-runner/helpers/trace"

	"cleanroom/executor/audit/record"
)

// through is what a meter makes of a text, written in pieces.
func through(t testing.TB, text []byte, piece int, o Options) ([]byte, record.Output) {
	t.Helper()
	var b bytes.Buffer
	m := New(&b, o)
	for len(text) > 0 {
		n := min(piece, len(text))
		if _, err := m.Write(text[:n]); err != nil {
			t.Fatal(err)
		}
		text = text[n:]
	}
	out, err := m.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), out
}

func TestMeter(t *testing.T) {
	o := Options{Prefixes: []string{"mytoken:", "gld"}, Phrases: []string{"cleanroom", "two\nlines"}}
	for text, want := range map[string]string{
		"":                                "",
		"plain é\n":                       "plain é\n",
		"a glpat-":                        "a glpat-\n",
		"a gldt-x_y=.- b":                 "a gld[MASKED] b",
		"mytoken:abc, mytoken: abc":       "mytoken:[MASKED], mytoken: abc",
		"_gitlab_session=q;":              "_gitlab_session=[MASKED];",
		"its end glpat-x":                 "its end glpat-[MASKED]\n",
		"u?Private_Token=é%20x&b=1":       "u?Private_Token=[MASKED]&b=1",
		"u?Prİvate_to\u212aen=a b":        "u?Prİvate_to\u212aen=[MASKED] b",
		"u?a=1&rss_token=":                "u?a=1&rss_token=[MASKED]",
		"u?rss_token=&b":                  "u?rss_token=[MASKED]&b",
		"u?rss_tokens=1":                  "u?rss_tokens=1",
		"[cleanroom: x]":                  "[[MASKED]: x]",
		"two\nlines, two\nline":           "[MASKED], two\nline",
		"a\xffb\xe2\x82":                  "a\ufffdb\ufffd\ufffd",
		"\xe2\x82\xac\xf0\x9f\x92":        "€\ufffd\ufffd\ufffd",
		"clean" + strings.Repeat("c", 30): "clean" + strings.Repeat("c", 30),
	} {
		for piece := 1; piece <= len(text)+1; piece++ {
			got, out := through(t, []byte(text), piece, o)
			sum := sha256.Sum256([]byte(want))
			if string(got) != want || out.Bytes != int64(len(want)) || out.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("%q in pieces of %d: %q, %+v; want %q", text, piece, got, out, want)
			}
		}
	}
}

// What stands before the meter's end must not be kept back: somebody looks at
// the log while the job runs.
func TestMeterHoldsNothing(t *testing.T) {
	var b bytes.Buffer
	m := New(&b, Options{})
	for _, one := range [][2]string{{"Continue? [y/n] ", "Continue? [y/n] "}, {"loading g", "loading "}, {"lobby\r", "globby\r"}, {"glpat-a", "glpat-[MASKED]"}, {"b\n", "\n"}} {
		b.Reset()
		fmt.Fprint(m, one[0])
		if b.String() != one[1] {
			t.Errorf("%q: %q is shown, want %q", one[0], b.String(), one[1])
		}
	}
}

func TestMarks(t *testing.T) {
	for _, size := range []int{0, 1, 255, 256, 257, 16 * 256, 17*256 - 1, 17 * 256, 18 * 256, 100_000, 5_000_001} {
		text := []byte(strings.Repeat("0123456789\n", size/11+1)[:size])
		_, out := through(t, text, 1000, Options{})
		if len(out.Marks) > maxMarks || size >= 256 && len(out.Marks) < 1 || size >= 32*256 && len(out.Marks) < maxMarks/2 {
			t.Errorf("%d bytes: %d marks", size, len(out.Marks))
		}
		if next := (int64(len(out.Marks)) + 1) * out.Every; out.Every != 0 && next <= int64(size) {
			t.Errorf("%d bytes: a mark at %d is missing", size, next)
		}
		for i, mark := range out.Marks {
			h := sha256.New()
			h.Write(text[:int64(i+1)*out.Every])
			if mark != record.Mark(h) {
				t.Errorf("%d bytes: mark %d", size, i)
			}
		}
	}
}

func TestMeterError(t *testing.T) {
	r, w := io.Pipe()
	r.Close()
	m := New(w, Options{})
	if _, err := m.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v", err)
	}
}

// written is what the runner's own code makes of a stage's output: its
// masking, and its trace.
func written(t testing.TB, text []byte, o buildlogger.Options) []byte {
	t.Helper()
	buffer, err := trace.New()
	if err != nil {
		t.Fatal(err)
	}
	defer buffer.Close()
	buffer.SetLimit(len(text)*20 + 1000)
	log := buildlogger.New(traceOf{buffer}, nil, o)
	stage := log.Stream(buildlogger.StreamWorkLevel, buildlogger.Stdout)
	if _, err := stage.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stage.Close(), log.Close()); err != nil {
		t.Fatal(err)
	}
	buffer.Finish()
	all, err := buffer.Bytes(0, buffer.Size())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

type traceOf struct{ *trace.Buffer }

func (traceOf) IsStdout() bool { return false }

// What the meter lets through, the runner's own code writes on as it is,
// whichever of its maskings are on; and in what pieces it came does not matter.
func FuzzRunnerChangesNothing(f *testing.F) {
	for _, text := range []string{
		"plain\n", "gldt-glpat-abc x", "glpat-glpat-", "?private_token=a&rss_token=b\n", "?a?private_token=glpat-x&y",
		"mytoken:glpat-xyz", "_gitlab_gitlab_session=x", "?private_to\u212aen=abc", "\xff\xe2\x82 \xe2", "?private_token", "[cleanroom: cleanroom]", "gggglpat-a\r\n",
	} {
		f.Add([]byte(text), 3)
	}
	f.Fuzz(func(t *testing.T, text []byte, piece int) {
		if len(text) > 4096 {
			return
		}
		prefixes, phrases := []string{"mytoken:", "foobar-"}, []string{"cleanroom", "hunter22"}
		o := Options{Prefixes: prefixes, Phrases: phrases}
		shown, _ := through(t, text, len(text)+1, o)
		pieces, _ := through(t, text, max(1, piece%7), o)
		if !bytes.Equal(shown, pieces) || !utf8.Valid(shown) {
			t.Errorf("%q whole: %q, in pieces: %q", text, shown, pieces)
		}
		for _, all := range []bool{true, false} {
			got := written(t, shown, buildlogger.Options{MaskPhrases: append([]string{}, phrases...), MaskTokenPrefixes: append([]string{}, prefixes...), MaskAllDefaultTokens: all})
			if !bytes.Equal(got, shown) {
				t.Errorf("%q: we let through %q, the runner wrote %q", text, shown, got)
			}
		}
	})
}

func BenchmarkMeter(b *testing.B) {
	line := []byte("go: downloading gitlab.com/gitlab-org/gitlab-runner v1.11.1 (https://proxy.example.com/?a=b&go-get=1)\n")
	text := bytes.Repeat(line, 300)
	b.SetBytes(int64(len(text)))
	m := New(io.Discard, Options{})
	for b.Loop() {
		m.Write(text)
	}
}
