package redact

import (
	"bytes"
	"slices"
	"strings"
)

// reference says what a redactor shows, slowly: it looks for every form at
// every place of each view of the whole text.
func reference(text string, secrets []Secret, o Options) string {
	forms, err := allForms(secrets, o)
	if err != nil {
		panic(err)
	}
	matches := append(naive(text, forms, false), naive(text, forms, true)...)
	return replaced(text, matches, len(text))
}

// referenceSoFar is what is shown when the text may go on.
func referenceSoFar(text string, forms []form) string {
	matches, hold := []match(nil), len(text)
	for _, faded := range []bool{false, true} {
		matches = append(matches, naive(text, forms, faded)...)
		v := viewOf(text, faded)
		if v.gap > maxGap {
			continue
		}
		for _, f := range forms {
			for n := 1; n < min(len(f.text), len(v.letters)+1); n++ {
				at := len(v.letters) - n
				if string(v.letters[at:]) != f.text[:n] {
					continue
				}
				from, ok := v.from(at, n)
				if end := bytes.LastIndexAny(v.text[len(v.text)-v.gap:], "\r\n"); n < early && end >= 0 {
					from = len(v.text) - v.gap + end + 1
				}
				if ok {
					hold = min(hold, from)
				}
			}
		}
	}
	return replaced(text, matches, hold)
}

// view is a text without noise.
type view struct {
	text    []byte
	letters []byte
	places  []int // of the letters
	gap     int   // behind the last
}

func viewOf(text string, faded bool) (v view) {
	v.text = []byte(text)
	if faded {
		var e escapes
		for i, c := range v.text {
			if e.takes(c) {
				v.text[i] = 0
			}
		}
	}
	for i, c := range v.text {
		v.gap++
		if dense[c] == 1 {
			v.letters, v.places, v.gap = append(v.letters, c), append(v.places, i), 0
		}
	}
	return v
}

// from is where n letters are hidden from, unless a gap parts them.
func (v view) from(at, n int) (from int, ok bool) {
	from = v.places[at]
	for i := at + 1; i < at+n; i++ {
		gap := v.text[v.places[i-1]+1 : v.places[i]]
		if len(gap) > maxGap {
			return 0, false
		}
		if end := bytes.LastIndexAny(gap, "\r\n"); i < at+early && end >= 0 {
			from = v.places[i-1] + 1 + end + 1
		}
	}
	return from, true
}

// naive finds every form in a view of a text.
func naive(text string, forms []form, faded bool) (all []match) {
	v := viewOf(text, faded)
	for _, f := range forms {
		for at := 0; at+len(f.text) <= len(v.letters); at++ {
			if string(v.letters[at:at+len(f.text)]) != f.text {
				continue
			}
			if from, ok := v.from(at, len(f.text)); ok {
				all = append(all, match{int64(from), int64(v.places[at+len(f.text)-1] + 1), int64(v.places[at]), f.name})
			}
		}
	}
	return all
}

// replaced shows the text up to a limit, with each run of matches that overlap
// (or touch, and have one name) replaced if it begins there.
func replaced(text string, matches []match, limit int) string {
	slices.SortFunc(matches, func(x, y match) int {
		if x.before(y) {
			return -1
		}
		if y.before(x) {
			return 1
		}
		return 0
	})
	var out strings.Builder
	shown, hidden, name := int64(0), int64(-1), ""
	for i := 0; i < len(matches) && (matches[i].from < int64(limit) || limit == len(text)); {
		from, to, lead := matches[i].from, matches[i].to, matches[i].name
		for i++; i < len(matches) && matches[i].from < to; i++ {
			to = max(to, matches[i].to)
		}
		out.WriteString(text[shown:from])
		if from != hidden || lead != name {
			out.WriteString("[cleanroom: " + lead + "]")
		}
		shown, hidden, name = to, to, lead
	}
	return out.String() + text[shown:max(shown, int64(limit))]
}

// redacted is what a redactor shows of a text that is written in pieces.
func redacted(pieces []string, secrets []Secret, o Options) (string, error) {
	var out strings.Builder
	r, err := New(&out, secrets, o)
	if err != nil {
		return "", err
	}
	for _, p := range pieces {
		if _, err := r.Write([]byte(p)); err != nil {
			return "", err
		}
	}
	err = r.Close()
	return out.String(), err
}
