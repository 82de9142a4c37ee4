package report

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"time"
)

// level is a share of 1 for a count of at most so many.
func level(n, most int32) float64 {
	switch {
	case n <= 0:
		return 0
	case most <= 1:
		return .5
	}
	return .2 + .8*math.Log(float64(n))/math.Log(float64(most))
}

// count is a number with commas.
func count(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if rest, ok := strings.CutSuffix(what, "y"); ok {
		return count(n) + " " + rest + "ies"
	}
	return count(n) + " " + what + "s"
}

// span is a duration in its two largest units.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	switch {
	case d < 0:
		return "–"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return two(d, time.Minute, "min", time.Second, "s")
	case d < 24*time.Hour:
		return two(d, time.Hour, "h", time.Minute, "min")
	default:
		return two(d, 24*time.Hour, "d", time.Hour, "h")
	}
}

func two(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	s := fmt.Sprintf("%d %s", d/big, bigName)
	if rest := d % big / small; rest > 0 {
		s += fmt.Sprintf(" %d %s", rest, smallName)
	}
	return s
}

func utc(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return t.UTC().Format(time.DateTime)
}

func iso(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// few is a list as text, and some is one for lines of their own.
func few(all []string) string { return strings.Join(some(all), ", ") }

func some(all []string) []string {
	if more := len(all) - maxSaid; more > 0 {
		return append(append([]string{}, all[:maxSaid]...), fmt.Sprintf("and %d more", more))
	}
	return all
}

// short is a hash for people to compare with another.
func short(hash string) string {
	if len(hash) > 12 {
		return hash[:12]
	}
	return cmp.Or(hash, "nothing known")
}
