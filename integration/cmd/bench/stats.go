package main

import (
	"fmt"
	"slices"
	"time"
)

// none stands where there is no number.
const none = "–"

// spread is what several runs took. low and high are the quartiles.
type spread struct {
	n                           int
	min, low, median, high, max time.Duration
}

func spreadOf(times []time.Duration) spread {
	if len(times) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(times))
	at := func(q float64) time.Duration { return quantile(sorted, q) }
	return spread{len(sorted), at(0), at(0.25), at(0.5), at(0.75), at(1)}
}

// quantile of sorted times, on a straight line between the two nearest.
func quantile(sorted []time.Duration, q float64) time.Duration {
	place := q * float64(len(sorted)-1)
	below := int(place)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + time.Duration((place-float64(below))*float64(sorted[above]-sorted[below]))
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

func ratio(a, b time.Duration) string {
	if b <= 0 {
		return none
	}
	return fmt.Sprintf("%.2f", a.Seconds()/b.Seconds())
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
