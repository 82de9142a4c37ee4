package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"cleanroom/integration/rig"
)

// times are what the runs of one job took, by lane.
type times map[string][]time.Duration

// race has all lanes run a job in turns, and prints what it took.
func (p *page) race(ctx context.Context, lanes []*lane, w work) error {
	took := times{}
	var in []*lane
	for _, l := range lanes {
		if l.does(w) {
			in = append(in, l)
		}
	}
	fmt.Fprintf(os.Stderr, "\n%s: %d lanes, %d runs each\n", w.name, len(in), p.runs)
	for i := range p.runs {
		for j := range in {
			l := in[(i+j)%len(in)] // each is the first of a round as often
			st, err := l.once(ctx, w)
			if err != nil {
				return err
			}
			took[l.name] = append(took[l.name], st.FinalAt.Sub(st.HandedAt))
			rig.Bar(os.Stderr, i*len(in)+j+1, p.runs*len(in), "jobs")
		}
	}
	p.took[w.name] = took
	return p.add(raceTable(w, lanes, took))
}

// raceTable has a row for each lane. Ratios are of medians.
func raceTable(w work, lanes []*lane, took times) grid {
	g := grid{title: w.title, head: []string{"", "median", "middle half", "least to most", "of docker executor", "over shell executor", "of docker executor's"}}
	docker, shell := spreadOf(took[dockerLane]), spreadOf(took[shellLane])
	for _, l := range lanes {
		s := spreadOf(took[l.name])
		row := []string{l.label(), none, none, none, none, none, none}
		if s.n > 0 {
			row[1], row[2], row[3] = seconds(s.median), seconds(s.low)+" to "+seconds(s.high), seconds(s.min)+" to "+seconds(s.max)
			if docker.n > 0 {
				row[4] = ratio(s.median, docker.median)
			}
			if shell.n > 0 && l.name != shellLane {
				row[5] = seconds(s.median - shell.median)
				if docker.n > 0 {
					row[6] = ratio(s.median-shell.median, docker.median-shell.median)
				}
			}
		}
		g.rows = append(g.rows, row)
	}
	if w.noShell != "" {
		g.note = "The shell executor cannot run it: " + w.noShell + "."
	}
	return g
}
