package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"cleanroom/executor/audit/record"
)

const (
	steps   = 360 // of a timeline: none can be told from its neighbour by eye
	maxBars = 3   // of one kind below a timeline
	ticks   = 6   // at most, of an axis
)

// scale is the period, as pictures draw it.
type scale struct {
	starts []time.Time // of its slots: hours, days, weeks or months
	ends   time.Time
	unit   string
	layout string // of a slot's name
}

// scaleOf chooses slots so that there are about a hundred at most.
func scaleOf(from, to time.Time) scale {
	from, to = from.UTC(), to.UTC()
	s := scale{unit: "month", layout: "2006-01"}
	at := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC)
	next := func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }
	day := time.Date(from.Year(), from.Month(), from.Day(), 0, 0, 0, 0, time.UTC)
	switch length := to.Sub(from); {
	case length <= 3*24*time.Hour:
		s.unit, s.layout, at = "hour", "2006-01-02 15:04", from.Truncate(time.Hour)
		next = func(t time.Time) time.Time { return t.Add(time.Hour) }
	case length <= 100*24*time.Hour:
		s.unit, s.layout, at = "day", time.DateOnly, day
		next = func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }
	case length <= 100*7*24*time.Hour:
		s.unit, s.layout, at = "week", time.DateOnly, day.AddDate(0, 0, -(int(day.Weekday())+6)%7) // Monday
		next = func(t time.Time) time.Time { return t.AddDate(0, 0, 7) }
	}
	const most = 600 // half a century; a wrong clock is no reason to run out of memory
	for at.Before(to) && len(s.starts) < most {
		s.starts = append(s.starts, at)
		at = next(at)
	}
	s.ends = at
	return s
}

func (s scale) from() time.Time { return s.starts[0] }
func (s scale) to() time.Time   { return s.ends }

// share is where a time is, from 0 to 1.
func (s scale) share(t time.Time) float64 {
	return min(max(float64(t.Sub(s.from()))/float64(s.to().Sub(s.from())), 0), 1)
}

// step is where a time is on a timeline.
func (s scale) step(t time.Time) int { return min(int(s.share(t)*steps), steps-1) }

// slot is the one that a time is in, or the nearest.
func (s scale) slot(t time.Time) int {
	i, found := slices.BinarySearchFunc(s.starts, t, time.Time.Compare)
	if found {
		return i
	}
	return max(0, i-1)
}

// Tick is a line of an axis, with what it says.
type Tick struct {
	X     string // percent
	Label string
	Minor bool // left out where there is little room
}

// axis has ticks where slots begin.
func (s scale) axis() (all []Tick) {
	every := (len(s.starts) + ticks - 1) / ticks
	for i := 0; i < len(s.starts); i += every {
		layout := map[string]string{"hour": "15:04", "day": "2 Jan", "week": "2 Jan", "month": "Jan 2006"}[s.unit]
		if s.unit == "hour" && (i == 0 || s.starts[i].Day() != s.starts[i-every].Day()) {
			layout = "2 Jan"
		}
		if s.share(s.starts[i]) > 0.92 { // the label would not fit
			break
		}
		all = append(all, Tick{percent(s.share(s.starts[i])), s.starts[i].Format(layout), i/every%2 == 1})
	}
	return all
}

func percent(share float64) string { return fmt.Sprintf("%.3f%%", share*100) }

// slot is the jobs of one hour, day, week or month.
type slot struct{ n [5]int64 }

// outcomes in the order in which they are shown.
var outcomes = [5]record.Outcome{record.OK, record.Failed, record.Canceled, record.Refused, record.System}

func (s *slot) add(o record.Outcome) {
	if i := slices.Index(outcomes[:], o); i >= 0 {
		s.n[i]++
	}
}

func (s slot) total() (n int64) {
	for _, of := range s.n {
		n += of
	}
	return n
}

// Column is a slot as a picture and as a row.
type Column struct {
	X, Width string // percent
	Name     string
	Parts    []Part
	Counts   [5]int64
	Total    int64
}

// Part is a piece of a column, in pixels.
type Part struct {
	Class     string
	Y, Height int
}

// chartHeight is the tallest column's, in pixels; above it is room for what is
// rare, and drawn larger than it is.
const (
	chartHeight = 132
	chartRoom   = 8
)

func (r *Report) columns() (all []Column) {
	var most int64 = 1
	for _, s := range r.slots {
		most = max(most, s.total())
	}
	for i, s := range r.slots {
		end := r.scale.to()
		if i+1 < len(r.slots) {
			end = r.scale.starts[i+1]
		}
		x, next := r.scale.share(r.scale.starts[i]), r.scale.share(end)
		c := Column{X: percent(x + (next-x)*.1), Width: percent((next - x) * .8), Name: r.scale.starts[i].Format(r.scale.layout), Counts: s.n, Total: s.total()}
		y := chartHeight + chartRoom
		for kind, n := range s.n {
			if n == 0 {
				continue
			}
			h := max(2, int(n*chartHeight/most)) // what is rare is what matters
			y -= h
			c.Parts = append(c.Parts, Part{"c-" + string(outcomes[kind]), y, h})
		}
		all = append(all, c)
	}
	return all
}

// area is a path over steps by 100: how many there are at each, in steps of a
// logarithm, so that one can still be seen beside a thousand.
func area(alive []int32, most int32) string {
	var b strings.Builder
	b.WriteString("M0 100")
	var n, last int32
	for x, more := range alive[:steps] {
		if n += more; n != last {
			fmt.Fprintf(&b, "H%dV%.1f", x, 100-100*level(n, most))
			last = n
		}
	}
	fmt.Fprintf(&b, "H%dV100Z", steps)
	return b.String()
}
