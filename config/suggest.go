package config

import "strings"

// suggest is a hint for an unknown key: the known one that is nearest, whole
// or in its last part (a key in the wrong table).
func suggest(name string, known []key) string {
	near := nearest(name, known, func(k key) string { return k.name })
	if near == "" {
		last := name[strings.LastIndexByte(name, '.')+1:]
		for _, k := range known {
			if k.name[strings.LastIndexByte(k.name, '.')+1:] == last {
				near = k.name
				break
			}
		}
	}
	return didYouMean(near)
}

func didYouMean(near string) string {
	if near == "" {
		return "; the example configuration lists all keys"
	}
	return "; did you mean " + near + "?"
}

// nearest is the known name at most a third of its letters away, or nothing.
func nearest(name string, known []key, text func(key) string) string {
	best, found := len(name)/3+1, ""
	if len(name) > 100 {
		return ""
	}
	for _, k := range known {
		if d := distance(strings.ToLower(name), strings.ToLower(text(k))); d < best {
			best, found = d, text(k)
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
