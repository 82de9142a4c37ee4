package list

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// ErrPeriod is a period that nobody can mean.
var ErrPeriod = errors.New("no period")

// Period is from one time (which is in it) to another (which is not). A zero
// From is the beginning of the log, a zero To its end.
type Period struct{ From, To time.Time }

// Contains says whether a time is in it.
func (p Period) Contains(t time.Time) bool {
	return !t.Before(p.From) && (p.To.IsZero() || t.Before(p.To))
}

// ParsePeriod reads both ends as people write them: 2026-01-02 (a day in UTC;
// as the end, all of it), RFC 3339, or how long before now: 12h, 7d, 2w. Empty
// is the log's own. Errors wrap ErrPeriod.
func ParsePeriod(from, to string, now time.Time) (p Period, err error) {
	if p.From, err = parse(from, now, 0); err != nil {
		return p, fmt.Errorf("from: %w", err)
	}
	if p.To, err = parse(to, now, 1); err != nil {
		return p, fmt.Errorf("to: %w", err)
	}
	if !p.To.IsZero() && !p.From.Before(p.To) {
		return p, fmt.Errorf("%w: it ends before it begins: from %s to %s", ErrPeriod, p.From.Format(time.RFC3339), p.To.Format(time.RFC3339))
	}
	return p, nil
}

var ago = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9]{1,5})([hdw])$`) })

// parse reads one end; of a day that is the one so many days later.
func parse(s string, now time.Time, days int) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if m := ago().FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // five digits
		unit := map[string]time.Duration{"h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}[m[2]]
		return now.UTC().Add(-time.Duration(n) * unit), nil
	}
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t.AddDate(0, 0, days), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%w: %.40q: write 2026-01-02, 2026-01-02T15:04:05Z, or how long ago: 12h, 7d, 2w", ErrPeriod, s)
	}
	return t.UTC(), nil
}
