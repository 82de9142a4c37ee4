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

func nearest(name string, known []key, text func(key) string) string {
	var names []string
	for _, k := range known {
		names = append(names, text(k))
	}
	return Nearest(name, names)
}

// maxNear bounds the names that Nearest compares, in bytes.
const maxNear = 100

// Nearest is the candidate at most a third of the name's letters away (two,
// which is two letters in the wrong order, where there are few), or nothing.
func Nearest(name string, candidates []string) string {
	best, found := min(max(2, len(name)/3)+1, len(name)), ""
	if len(name) > maxNear {
		return ""
	}
	for _, c := range candidates {
		if len(c) > maxNear {
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
