package list

import (
	"errors"
	"testing"
	"time"
)

func TestParsePeriod(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 0, time.FixedZone("", 3600))
	const never = "0001-01-01T00:00:00Z"
	for _, c := range []struct{ from, to, wantFrom, wantTo string }{
		{"", "", never, never},
		{"2026-01-02", "2026-01-02", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z"},
		{"2026-01-31", "2026-02-28", "2026-01-31T00:00:00Z", "2026-03-01T00:00:00Z"},
		{"7d", "", "2026-11-19T11:00:00Z", never},
		{"2w", "12h", "2026-11-12T11:00:00Z", "2026-11-25T23:00:00Z"},
		{"2026-01-02T03:04:05+02:00", "2026-01-02T06:00:00.5+02:00", "2026-01-02T01:04:05Z", "2026-01-02T04:00:00.5Z"},
		{"2026-01-02", "2026-01-01", "", ""},
		{"1d", "1d", "", ""},
		{"yesterday", "", "", ""},
		{"2026-02-30", "", "", ""},
		{"-7d", "", "", ""},
		{"7", "", "", ""},
		{"999999d", "", "", ""},
		{"", "\x1b", "", ""},
	} {
		p, err := ParsePeriod(c.from, c.to, now)
		if c.wantFrom == "" {
			if !errors.Is(err, ErrPeriod) {
				t.Errorf("%q to %q: %v, %v", c.from, c.to, p, err)
			}
			continue
		}
		if err != nil || p.From.Format(time.RFC3339Nano) != c.wantFrom || p.To.Format(time.RFC3339Nano) != c.wantTo {
			t.Errorf("%q to %q: %v, %v", c.from, c.to, p, err)
		}
	}
	p := Period{From: now, To: now.Add(time.Hour)}
	if !p.Contains(now) || p.Contains(p.To) || p.Contains(now.Add(-1)) || !(Period{}).Contains(now) {
		t.Error("the beginning is in it, the end is not")
	}
}
