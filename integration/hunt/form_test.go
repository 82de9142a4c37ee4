package hunt

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const awkward = "p+w/\"<&> \\ é\tand a rest of it"

var long = "-----BEGIN PRIVATE KEY-----\n" + strings.Repeat("MIIEvQIBADANBgkqhkiG9w0B", 3) + "\n" + strings.Repeat("xyz0", 16) + "\n-----END PRIVATE KEY-----\n"

func TestForms(t *testing.T) {
	inJSON, _ := json.Marshal(awkward)
	var notHTML bytes.Buffer
	e := json.NewEncoder(&notHTML)
	e.SetEscapeHTML(false)
	e.Encode(awkward)
	wrapped := func(s string, width int) (out string) {
		for s = base64.StdEncoding.EncodeToString([]byte(s)); len(s) > width; s = s[width:] {
			out += s[:width] + "\n"
		}
		return out + s
	}
	for name, c := range map[string]struct {
		value, text string
		form        Form
	}{
		"plain":            {awkward, "a=" + awkward + ";", Plain},
		"base64, first":    {awkward, base64.StdEncoding.EncodeToString([]byte("abc" + awkward + "defg")), Base64},
		"base64, second":   {awkward, base64.StdEncoding.EncodeToString([]byte("abcd" + awkward + "efg")), Base64},
		"base64, third":    {awkward, base64.StdEncoding.EncodeToString([]byte("abcde" + awkward)), Base64},
		"base64, url's":    {awkward, base64.RawURLEncoding.EncodeToString([]byte("a" + awkward)), Base64},
		"base64, wrapped":  {long, wrapped(long, 76), Base64},
		"base64, in a PEM": {long, wrapped(long, 64), Base64},
		"hex":              {awkward, hex.EncodeToString([]byte("a" + awkward + "b")), Hex},
		"hex, upper":       {awkward, fmt.Sprintf("%X", awkward), Hex},
		"query":            {awkward, url.Values{"a": {awkward}}.Encode(), URL},
		"path":             {awkward, "https://h/" + url.PathEscape(awkward), URL},
		"JSON":             {awkward, string(inJSON), Quoted},
		"JSON, not HTML":   {awkward, notHTML.String(), Quoted},
		"Go":               {awkward + "\a", fmt.Sprintf("%q", awkward+"\a"), Quoted},
		"a line":           {long, "2026-01-01 00O " + strings.Repeat("xyz0", 16) + "\r\n", Line},
	} {
		t.Run(name, func(t *testing.T) {
			h := New(map[string]string{"key": c.value, "other": "not in any of the texts"})
			if err := h.Text("a log", c.text); err != nil {
				t.Fatal(err)
			}
			found := h.Report().Finds
			for _, f := range found {
				if f.Canary != "key" || f.Where != "a log" {
					t.Errorf("found %v", f)
				}
				if f.Form == c.form {
					return
				}
			}
			t.Errorf("found %v, want one as %s", found, c.form)
		})
	}
}

func TestNotFound(t *testing.T) {
	h := New(map[string]string{"key": long, "token": awkward})
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n", awkward[1:], awkward[:len(awkward)-1]} {
		if err := h.Text("a log", text); err != nil {
			t.Fatal(err)
		}
	}
	if r := h.Report(); len(r.Finds) > 0 || r.Documents != 4 {
		t.Errorf("got %v", r)
	}
}

func TestNotACanary(t *testing.T) {
	for name, canaries := range map[string]map[string]string{
		"none": {}, "short": {"a": "fifteen bytes.."}, "NUL": {"a": "sixteen bytes..\x00"}, "named by itself": {awkward: awkward},
	} {
		h := New(canaries)
		for what, err := range map[string]error{
			"Text": h.Text("a", "b"), "Files": h.Files(t.Context(), FileScope{In: []string{t.TempDir()}}), "Processes": h.Processes(t.Context(), ProcessScope{}),
			"Memory": h.Memory(t.Context(), 1), "Inside": h.Inside(t.Context(), 1), "Dumps": h.Dumps(t.Context()),
			"Engine": h.Engine(t.Context(), At("/")), "Recorded": h.Recorded(t.Context(), &Recorder{}), "Machine": h.Machine(t.Context(), At("/"), FileScope{}, ProcessScope{}),
		} {
			if !errors.Is(err, ErrCanary) {
				t.Errorf("%s: %s: got %v, want ErrCanary", name, what, err)
			} else if v := canaries["a"] + canaries[awkward]; v != "" && strings.Contains(err.Error(), v) {
				t.Errorf("%s: the error says the value", name)
			}
		}
	}
}

// A value is found wherever the border of two reads cuts it, and however far
// the matcher's window has to move to it. The longest form is the one that
// needs all of what is kept from the read before.
func TestBorder(t *testing.T) {
	value := []byte("a value of no great length")
	text := hex.EncodeToString(value)
	at := func(before int, read func(io.Reader) io.Reader) {
		t.Helper()
		h := New(map[string]string{"token": string(value)})
		in := strings.NewReader(strings.Repeat("~", before) + text + "~~~")
		if _, err := h.stream(t.Context(), "a log", read(in), 7); err != nil {
			t.Fatal(err)
		}
		if want := []Find{{"token", "a log", int64(7 + before), Hex}}; !slices.Equal(h.Report().Finds, want) {
			t.Errorf("%d bytes before: got %v, want %v", before, h.Report().Finds, want)
		}
	}
	whole := func(r io.Reader) io.Reader { return r }
	buffer := len(*New(map[string]string{"token": string(value)}).buffers.Get().(*[]byte))
	for cut := range len(text) + 1 {
		at(buffer-cut, whole)
		at(buffer+buffer-len(text)+1-cut, whole)
	}
	for before := range 3 * len(text) {
		at(before, whole)
		at(before, iotest.OneByteReader)
		at(before, iotest.DataErrReader)
	}
}

// The first pair of bytes may be one that stands nowhere else in any form.
func TestWindow(t *testing.T) {
	for before := range 3 * minimum {
		h := New(map[string]string{"token": "!?0123456789abcd"})
		if err := h.Text("a log", strings.Repeat("~", before)+"!?0123456789abcd"); err != nil {
			t.Fatal(err)
		}
		if found := h.Report().Finds; len(found) != 1 || found[0].Offset != int64(before) {
			t.Errorf("%d bytes before: found %v", before, found)
		}
	}
}

// A Hunt, a Find and a Report are printed without a value, though its place
// has it in its name.
func TestSaysNoValue(t *testing.T) {
	h := New(map[string]string{"token": awkward})
	if err := h.Text("log of "+awkward, awkward); err != nil {
		t.Fatal(err)
	}
	h.skip("/tmp/"+awkward, "a reason")
	said := fmt.Sprintf("%v %+v %#v %s %v %v", h, h, h, h, h.Report(), h.unreadable(awkward, errors.New("open "+url.QueryEscape(awkward))))
	for _, p := range h.patterns {
		if strings.Contains(said, string(p.text)) {
			t.Errorf("it says the value as %s", p.form)
		}
	}
	if !strings.Contains(said, "log of [token]") {
		t.Errorf("no place in %s", said)
	}
}

// The matcher finds what one search for each pattern finds.
func FuzzScan(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("cdef0123456789abcdef0123456789abcdef"), uint16(3))
	f.Add([]byte("aaaaaaaaaaaaaaaa"), []byte("aaaaaaaaaaaaaaaaaa"), uint16(0))
	f.Fuzz(func(t *testing.T, value, text []byte, cut uint16) {
		if len(value) < minimum || bytes.ContainsRune(value, 0) {
			return
		}
		all := forms("a", string(value))
		if n := minimum + int(cut); n < len(value) {
			all = append(all, pattern{value[n-minimum : n], "b", Plain})
		}
		if i := int(cut); i < len(text) {
			text = append(append(bytes.Clone(text[:i]), all[int(cut)%len(all)].text...), text[i:]...)
		}
		m := newMatcher(all)
		type hit struct {
			at int
			p  *pattern
		}
		got, want := map[hit]bool{}, map[hit]bool{}
		m.scan(text, func(at int, p *pattern) { got[hit{at, p}] = true })
		for i := range m.patterns {
			for at := range text {
				if bytes.HasPrefix(text[at:], m.patterns[i].text) {
					want[hit{at, &m.patterns[i]}] = true
				}
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %d, want %d", len(got), len(want))
		}
	})
}
