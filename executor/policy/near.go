package policy

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxQuote bounds what a message repeats of a name or a value, in bytes.
const maxQuote = 100

// shortQuote shows a text on one line, whatever is in it.
func shortQuote(s string) string { return strconv.Quote(short(s, maxQuote)) }

// short keeps the beginning of a text.
func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "..."
}

// didYouMean names the candidate that is nearest, if one is near.
func didYouMean(name string, candidates []string) string {
	if near := nearest(name, candidates); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// nearest is the candidate at most a third of its letters away (two, which is
// two letters in the wrong order, where there are few), or nothing.
func nearest(name string, candidates []string) string {
	best, found := min(max(2, len(name)/3)+1, len(name)), ""
	if len(name) > maxQuote {
		return ""
	}
	for _, c := range candidates {
		if len(c) > maxQuote {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(c)); d < best {
			best, found = d, c
		}
	}
	return found
}

// distance is how many letters have to be put in, taken out or changed
// (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
