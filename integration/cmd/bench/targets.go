package main

import (
	"fmt"
	"os"
)

// most are bounds that we set ourselves.
const (
	mostCold   = 0.25 // of what the docker executor takes over the shell executor
	mostWarm   = 0.10
	mostLog    = 1.3 // of the shell executor's time
	leastRate  = 3.0 // of the docker executor's jobs per minute
	mostMemory = 25e6
)

// targets prints what was wanted beside what was measured.
func (p *page) targets() error {
	g := grid{title: "Targets", head: []string{"target", "wanted", "measured", ""}}
	add := func(name, wanted, measured string, met bool) {
		g.rows = append(g.rows, []string{name, wanted, measured, map[bool]string{true: "met", false: "missed"}[met]})
	}
	names := workNames()
	trivial, log := p.took[names[0]], p.took[names[4]]
	shell, docker := spreadOf(trivial[shellLane]).median, spreadOf(trivial[dockerLane]).median
	for _, t := range []struct {
		lane string
		most float64
	}{{coldLane, mostCold}, {warmLane, mostWarm}} {
		if ours := spreadOf(trivial[t.lane]).median; ours > 0 && shell > 0 && docker > shell {
			share := float64(ours-shell) / float64(docker-shell)
			add("`true` over the shell executor, "+labels[t.lane], fmt.Sprintf("at most %.2f of the docker executor's", t.most), fmt.Sprintf("%.3f", share), share <= t.most)
		}
	}
	shell = spreadOf(log[shellLane]).median
	for _, lane := range []string{coldLane, secretsLane, warmLane} {
		if ours := spreadOf(log[lane]).median; ours > 0 && shell > 0 {
			share := float64(ours) / float64(shell)
			add("the log, "+labels[lane], fmt.Sprintf("at most %.1f of the shell executor's time", mostLog),
				fmt.Sprintf("%.2f (docker executor %s)", share, ratio(spreadOf(log[dockerLane]).median, shell)), share <= mostLog)
		}
	}
	all := p.concurrencies()
	for _, lane := range []string{coldLane, warmLane} {
		at := all[len(all)-1]
		ours, docker := spreadOf(p.rates[at][lane]).median, spreadOf(p.rates[at][dockerLane]).median
		if ours > 0 && docker > 0 {
			share := float64(docker) / float64(ours)
			add(fmt.Sprintf("jobs per minute, %d at once, %s", at, labels[lane]), fmt.Sprintf("at least %.0f of the docker executor's", leastRate),
				fmt.Sprintf("%.2f", share), share >= leastRate)
		}
	}
	g.rows = append(g.rows, p.memoryRows()...)
	if len(g.rows) == 0 {
		return nil
	}
	return g.write(os.Stdout, &p.summary)
}

// memoryRows has two for each lane: what the trivial job has while one of its
// scripts runs, and at any time, prepare and cleanup included; the greatest of
// all jobs stands beside it.
func (p *page) memoryRows() (rows [][]string) {
	for _, lane := range []string{coldLane, secretsLane, warmLane} {
		for _, when := range []struct {
			name string
			sum  func(cost) int64
		}{
			{"memory while the job runs", func(c cost) int64 { return c.running + c.init }},
			{"memory at any time", func(c cost) int64 { return c.driver + c.init }},
		} {
			var trivial, most int64
			var job string
			for _, u := range p.used {
				if u.lane.name != lane {
					continue
				}
				sum := when.sum(u.peak())
				if u.work.name == workNames()[0] {
					trivial = sum
				}
				if sum > most {
					most, job = sum, u.work.name
				}
			}
			if trivial > 0 {
				rows = append(rows, []string{when.name + ", " + labels[lane], "less than " + megabytes(mostMemory),
					fmt.Sprintf("%s (the most of all jobs: %s, %s)", megabytes(trivial), megabytes(most), job), map[bool]string{true: "met", false: "missed"}[trivial < mostMemory]})
			}
		}
	}
	return rows
}
