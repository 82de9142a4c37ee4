package main

import (
	"fmt"
	"math"
	"time"

	"github.com/aclements/go-moremath/stats"
)

// none stands where there is no number.
const none = "–"

// spread is what several runs took. low and high are the quartiles.
type spread struct {
	n                           int
	min, low, median, high, max time.Duration
}

// spreadOf takes the quantiles as benchstat does (method R8 of Hyndman and Fan).
func spreadOf(times []time.Duration) spread {
	if len(times) == 0 {
		return spread{}
	}
	s := stats.Sample{Xs: make([]float64, len(times))}
	for i, t := range times {
		s.Xs[i] = float64(t)
	}
	s.Sort()
	at := func(q float64) time.Duration { return time.Duration(math.Round(s.Quantile(q))) }
	return spread{len(times), at(0), at(0.25), at(0.5), at(0.75), at(1)}
}

// seconds has three figures at least, for a stage takes milliseconds and a log
// many seconds.
func seconds(d time.Duration) string {
	if d.Abs() < time.Second {
		return fmt.Sprintf("%.3f s", d.Seconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func ratio(a, b time.Duration) string {
	if b <= 0 {
		return none
	}
	return fmt.Sprintf("%.2f", a.Seconds()/b.Seconds())
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
