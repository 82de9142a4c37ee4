package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"cleanroom/integration/rig"
)

// cost is what a driver's own processes took for one job: those that the
// runner starts, as the kernel accounts for them, and init in all containers
// of the room, as it was seen. Memory is the most at any time, in bytes.
type cost struct {
	driverCPU, initCPU time.Duration
	running            int64 // resident, of the greatest process that ran one of the job's scripts
	driver             int64 // the same of all: of prepare and cleanup, too
	init               int64 // of all of them at once, shared pages divided
	together           int64 // driver and init at one time, shared pages divided
}

// spiedLanes are those with a driver of the custom executor.
func spiedLanes() []string { return []string{execLane, coldLane, secretsLane, warmLane} }

// spiedRuns is how often a job is spied on: the first kind as often as it is
// timed, others less, for little changes from one to the next.
func (o *options) spiedRuns(work string) int {
	if work == workNames()[0] {
		return o.runs
	}
	return min(o.runs, 5)
}

// usage runs the jobs under the drivers of the custom executor, each called by
// a spy. These runs are not timed. One lane is up at a time: the rooms that wait
// in another would count, too.
func (p *page) usage(ctx context.Context, dir string, lanes []*lane, works []work) error {
	spy := filepath.Join(dir, "spy")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", spy, "./cmd/bench/spy")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the spy: %w\n%s", err, out)
	}
	var in []*lane
	for _, l := range lanes {
		if err := l.stop(); err != nil {
			return err
		}
		if slices.Contains(spiedLanes(), l.name) {
			in = append(in, l)
		}
	}
	each := 0
	for _, w := range works {
		each += p.spiedRuns(w.name)
	}
	fmt.Fprintf(os.Stderr, "\n%s: %d lanes, %d jobs\n", usagePart, len(in), each)
	done := 0
	for _, l := range in {
		file := filepath.Join(dir, "spied-"+l.name)
		if err := l.start(ctx, 1, spy, []string{"BENCH_SPY=" + file}); err != nil {
			return err
		}
		for _, w := range works {
			u := used{lane: l, work: w}
			for range p.spiedRuns(w.name) {
				c, err := l.spied(ctx, w, file)
				if err != nil {
					return err
				}
				u.costs = append(u.costs, c)
				done++
				rig.Bar(os.Stderr, done, len(in)*each, "jobs")
			}
			p.used = append(p.used, u)
		}
		if err := l.stop(); err != nil {
			return err
		}
	}
	return p.add(usageTable(p.used))
}

// spied runs one job and returns what it cost.
func (l *lane) spied(ctx context.Context, w work, file string) (c cost, err error) {
	if err := l.fill(ctx, w); err != nil {
		return c, err
	}
	if err := os.RemoveAll(file); err != nil {
		return c, err
	}
	watch, err := startWatch(l.rig.Bin)
	if err != nil {
		return c, err
	}
	id, err := l.submit(ctx, w)
	if err == nil {
		_, err = l.await(ctx, id, w)
	}
	watched := watch.end()
	if err = errors.Join(err, l.fill(ctx, w)); err != nil {
		return c, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return c, fmt.Errorf("%s: the spy tells nothing: %w", l.name, err)
	}
	for line := range bytes.Lines(text) {
		var stage struct {
			Runs bool          `json:"runs"`
			CPU  time.Duration `json:"cpu_ns"`
			Peak int64         `json:"peak_bytes"`
		}
		if err := json.Unmarshal(line, &stage); err != nil {
			return c, fmt.Errorf("the spy's file: %w", err)
		}
		c.driverCPU += stage.CPU
		c.driver = max(c.driver, stage.Peak)
		if stage.Runs {
			c.running = max(c.running, stage.Peak)
		}
	}
	if l.ours() && watched.init == 0 {
		return c, fmt.Errorf("%s: %s: no init was seen", l.name, w.name)
	}
	c.initCPU, c.init, c.together = watched.initCPU, watched.init, watched.together
	return c, nil
}

// used are the costs of a job's runs in one lane.
type used struct {
	lane  *lane
	work  work
	costs []cost
}

// peak is the most memory of any run, each by itself: those of one run came at
// different times.
func (u used) peak() (most cost) {
	for _, c := range u.costs {
		most.running, most.driver = max(most.running, c.running), max(most.driver, c.driver)
		most.init, most.together = max(most.init, c.init), max(most.together, c.together)
	}
	return most
}

func usageTable(all []used) grid {
	g := grid{title: "Processor and memory of the driver's own processes, per job",
		head: []string{"job", "", "runs", "driver's CPU", "init's CPU", "driver, a script runs", "driver, any time", "init", "sum, a script runs", "sum, any time", "seen at once"}}
	for _, u := range all {
		var driverCPU, initCPU []time.Duration
		for _, c := range u.costs {
			driverCPU, initCPU = append(driverCPU, c.driverCPU), append(initCPU, c.initCPU)
		}
		most := u.peak()
		row := []string{u.work.name, u.lane.label(), fmt.Sprint(len(u.costs)), seconds(spreadOf(driverCPU).median), none,
			megabytes(most.running), megabytes(most.driver), none, none, none, none}
		if u.lane.ours() {
			row[4] = seconds(spreadOf(initCPU).median)
			for i, n := range []int64{most.init, most.running + most.init, most.driver + most.init, most.together} {
				row[7+i] = megabytes(n)
			}
		}
		g.rows = append(g.rows, row)
	}
	return g
}
