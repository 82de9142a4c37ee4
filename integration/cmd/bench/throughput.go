package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"cleanroom/integration/rig"
)

// batches is how many each lane gets.
func (p *page) batches() int { return max(1, min(3, p.runs/5)) }

func (p *page) concurrencies() []int {
	if p.quick {
		return []int{1, 4}
	}
	return []int{1, 4, 8}
}

// batch is how many jobs are handed in at once for a runner that takes so
// many: more, so that places are filled again while others are emptied, and in
// all batches together as many as of other jobs.
func (p *page) batch(atOnce int) int {
	return max(2*atOnce, (p.runs+p.batches()-1)/p.batches())
}

// throughput has the lanes run batches of a job in turns.
func (p *page) throughput(ctx context.Context, lanes []*lane, w work) error {
	all := p.concurrencies()
	fmt.Fprintf(os.Stderr, "\n%s: %d lanes, %d at once\n", throughputPart, len(lanes), all)
	n := len(all) * len(lanes) * p.batches()
	done := 0
	for _, atOnce := range all {
		p.rates[atOnce] = times{}
		for _, l := range lanes {
			if err := l.start(ctx, atOnce, "", nil); err != nil {
				return err
			}
			if _, err := l.once(ctx, w); err != nil { // warms up
				return err
			}
		}
		for i := range p.batches() {
			for j := range lanes {
				l := lanes[(i+j)%len(lanes)]
				took, err := l.batch(ctx, w, p.batch(atOnce))
				if err != nil {
					return err
				}
				p.rates[atOnce][l.name] = append(p.rates[atOnce][l.name], took)
				done++
				rig.Bar(os.Stderr, done, n, "batches")
			}
		}
	}
	return p.add(p.rateTable(lanes))
}

// batch runs jobs, and tells how long one of them took of the time from the
// first one's hand-out to the last one's end.
func (l *lane) batch(ctx context.Context, w work, n int) (time.Duration, error) {
	if err := l.fill(ctx, w); err != nil {
		return 0, err
	}
	ids := make([]int64, n)
	for i := range ids {
		var err error
		if ids[i], err = l.submit(ctx, w); err != nil {
			return 0, err
		}
	}
	var first, last time.Time
	for _, id := range ids {
		st, err := l.await(ctx, id, w)
		if err != nil {
			return 0, err
		}
		if first.IsZero() || st.HandedAt.Before(first) {
			first = st.HandedAt
		}
		if st.FinalAt.After(last) {
			last = st.FinalAt
		}
	}
	return last.Sub(first) / time.Duration(n), l.fill(ctx, w)
}

// perMinute is how many jobs there are in a minute.
func perMinute(one time.Duration) string {
	return fmt.Sprintf("%.0f", float64(time.Minute)/float64(one))
}

// batchNote says what the numbers are of.
func (p *page) batchNote() string {
	var sizes []string
	for _, n := range p.concurrencies() {
		sizes = append(sizes, fmt.Sprint(p.batch(n)))
	}
	return fmt.Sprintf("The median of %d batches of %s jobs; in brackets the slowest and the fastest batch.", p.batches(), strings.Join(sizes, ", "))
}

func (p *page) rateTable(lanes []*lane) grid {
	g := grid{title: "Jobs per minute (`true`, without a repository)", head: []string{""},
		note: p.batchNote()}
	for _, n := range p.concurrencies() {
		g.head = append(g.head, fmt.Sprintf("%d at once", n), "of docker executor")
	}
	for _, l := range lanes {
		row := []string{l.label()}
		for _, n := range p.concurrencies() {
			s, docker := spreadOf(p.rates[n][l.name]), spreadOf(p.rates[n][dockerLane])
			if s.n == 0 {
				row = append(row, none, none)
				continue
			}
			row = append(row, fmt.Sprintf("%s (%s to %s)", perMinute(s.median), perMinute(s.max), perMinute(s.min)), ratio(docker.median, s.median))
		}
		g.rows = append(g.rows, row)
	}
	return g
}
