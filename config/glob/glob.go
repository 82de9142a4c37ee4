// Package glob matches names that a job's author chooses against patterns that
// an admin writes (doublestar's: * stops at a slash, ** does not), in bounded
// time.
package glob

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Bounds.
const (
	MaxPattern      = 512  // bytes of a pattern
	MaxName         = 4096 // bytes of a name; a longer one matches nothing
	maxAlternatives = 64   // patterns that braces stand for
)

// IsPattern says whether a pattern is more than a plain name.
func IsPattern(pattern string) bool { return strings.ContainsAny(pattern, `*?[{\`) }

// Check says what is wrong with a pattern.
func Check(pattern string) error {
	switch {
	case pattern == "":
		return errors.New("an empty glob matches nothing: remove it")
	case len(pattern) > MaxPattern:
		return fmt.Errorf("a glob of %d bytes, at most %d are possible", len(pattern), MaxPattern)
	case !doublestar.ValidatePattern(pattern):
		return fmt.Errorf("%.100q is no glob: close its brackets and braces, or escape them with \\", pattern)
	}
	all, ok := Alternatives(pattern)
	if !ok {
		return fmt.Errorf("%.100q stands for more than %d patterns: write fewer braces", pattern, maxAlternatives)
	}
	if slices.ContainsFunc(all, func(p string) bool { return !doublestar.ValidatePattern(p) }) {
		return fmt.Errorf("%.100q is no glob: a class in braces must not hold a comma or a brace", pattern)
	}
	return nil
}

// Match is doublestar's, but for braces: we take them apart first. Doublestar
// goes through them by recursion, in a time that grows with a power of the
// name's length (and images are names that a job's author chooses), and takes
// ** after a brace for one that crosses slashes ("app{**,x}" would match
// "app/../other").
func Match(pattern, name string) bool {
	if len(name) > MaxName {
		return false
	}
	all, ok := Alternatives(pattern)
	return ok && slices.ContainsFunc(all, func(p string) bool { return doublestar.MatchUnvalidated(p, name) })
}

// Alternatives are the patterns without braces that one with braces stands
// for; not ok when they are too many.
func Alternatives(pattern string) (all []string, ok bool) {
	todo := []string{pattern}
	for len(todo) > 0 {
		if len(todo)+len(all) > maxAlternatives {
			return nil, false
		}
		p := todo[0]
		todo = todo[1:]
		open := openingBrace(p)
		if open < 0 {
			all = append(all, p)
			continue
		}
		choices, rest, closed := cutBraces(p[open+1:])
		if !closed || len(choices) > maxAlternatives {
			return nil, false
		}
		for _, choice := range choices {
			todo = append(todo, p[:open]+choice+rest)
		}
	}
	return all, true
}

// openingBrace is where the first one is, outside of classes; or -1.
func openingBrace(p string) int {
	class := false
	for i := 0; i < len(p); i++ {
		switch {
		case p[i] == '\\':
			i++
		case class:
			class = p[i] != ']'
		case p[i] == '[':
			class = true
		case p[i] == '{':
			return i
		}
	}
	return -1
}

// cutBraces takes apart what follows an opening brace.
func cutBraces(s string) (choices []string, rest string, closed bool) {
	depth, from := 1, 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '{':
			depth++
		case ',':
			if depth == 1 {
				choices, from = append(choices, s[from:i]), i+1
			}
		case '}':
			if depth--; depth == 0 {
				return append(choices, s[from:i]), s[i+1:], true
			}
		}
	}
	return nil, "", false
}
