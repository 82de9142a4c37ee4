package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"cleanroom/integration/rig"
)

// forecast is what parts are going to take, made of what one job of each kind
// took under each executor, everything around it included.
type forecast struct {
	one map[string]times // by job
}

// elsewhere are parts that run no jobs, as they took on a machine of 2 cores.
var elsewhere = map[string]time.Duration{redactPart: 30 * time.Second, guardPart: 30 * time.Second, auditPart: 8 * time.Minute}

// errTooLong is a run that would take more than it may.
var errTooLong = errors.New("it takes too long")

// starting is what a lane takes to begin anew with another number of jobs.
const starting = 3 * time.Second

// rehearse runs each job once in each lane. Nothing of it is counted: it fills
// what is filled only once, as caches and image layers.
func (p *page) rehearse(ctx context.Context, lanes []*lane, works []work) (*forecast, error) {
	f := &forecast{one: map[string]times{}}
	var list []work
	for i, w := range works {
		if p.has(w.name) || p.has(usagePart) || (i == 0 && p.has(throughputPart)) {
			list = append(list, w)
		}
	}
	fmt.Fprintf(os.Stderr, "\nrehearsal: %d jobs in %d lanes\n", len(list), len(lanes))
	for i, w := range list {
		f.one[w.name] = times{}
		for j, l := range lanes {
			if l.does(w) {
				began := time.Now()
				if _, err := l.once(ctx, w); err != nil {
					return nil, err
				}
				f.one[w.name][l.name] = []time.Duration{time.Since(began)}
			}
			rig.Bar(os.Stderr, i*len(lanes)+j+1, len(list)*len(lanes), "jobs")
		}
	}
	return f, nil
}

// sum of one round of a job in some lanes.
func (f *forecast) sum(work string, lanes ...string) (all time.Duration) {
	for lane, took := range f.one[work] {
		if len(lanes) == 0 || slices.Contains(lanes, lane) {
			all += took[0]
		}
	}
	return all
}

// part is what one of them is going to take.
func (f *forecast) part(o options, name string) (all time.Duration) {
	switch name {
	case throughputPart:
		p := page{options: o}
		for _, n := range p.concurrencies() {
			jobs := 1 + float64(p.batches()*p.batch(n))/float64(min(n, runtime.NumCPU()))
			all += time.Duration(len(o.lanes))*starting + time.Duration(float64(f.sum(workNames()[0]))*jobs)
		}
	case usagePart:
		all = time.Duration(len(spiedLanes())) * starting
		for _, w := range workNames() {
			all += time.Duration(o.spiedRuns(w)) * f.sum(w, spiedLanes()...)
		}
	case redactPart, guardPart, auditPart:
		all = elsewhere[name]
	default:
		all = time.Duration(o.runs) * f.sum(name)
	}
	return all
}

// tell says it. The error is that it would take too long.
func (f *forecast) tell(o options) error {
	var all time.Duration
	var each []string
	for _, name := range o.parts {
		took := f.part(o, name)
		all += took
		each = append(each, fmt.Sprintf("%s %.1f", name, took.Minutes()))
	}
	fmt.Fprintf(os.Stderr, "\nIt takes about %.0f minutes from here: %s.\n", max(1, all.Minutes()), strings.Join(each, ", "))
	if all > o.atMost {
		return fmt.Errorf("%w: about %s, and --at-most is %s: pick parts, give less --runs, or more time", errTooLong, all.Round(time.Minute), o.atMost)
	}
	return nil
}
