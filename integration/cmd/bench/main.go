// Command bench measures what cleanroom costs beside what it takes the place
// of. The same jobs go through the same gitlab-runner under several executors
// in one run, in turns, job by job, so that whatever else the machine does
// meets all of them. A job's time is from hand-out to final state, by the
// stand-in GitLab's clock; the wipe of a room is in it.
//
// Then: jobs per minute with several at once, processor and memory of the
// driver's own processes, and the speed of redaction beside its rivals.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are what one call measures.
type options struct {
	runs     int
	only     []string // jobs and sections
	lanes    []string
	markdown string
	quick    bool
}

// Sections besides the jobs by themselves.
const (
	throughputSection = "throughput"
	usageSection      = "usage"
	redactSection     = "redact"
)

func main() {
	var o options
	var only, lanes string
	flag.IntVar(&o.runs, "runs", 20, "jobs of each kind to time under each executor, after one that warms up")
	flag.StringVar(&only, "only", "", "what to measure, of "+strings.Join(sections(), ", ")+" (everything)")
	flag.StringVar(&lanes, "lanes", "", "under what, of "+strings.Join(laneNames(), ", ")+" (all; warm if cleanroom has a pool)")
	flag.StringVar(&o.markdown, "markdown", "", "write the results to a Markdown `file`, too")
	flag.BoolVar(&o.quick, "quick", false, "one run of small jobs, to see that everything works")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.choose(only, lanes)
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func sections() []string { return append(workNames(), throughputSection, usageSection, redactSection) }

// choose takes what the flags say.
func (o *options) choose(only, lanes string) (err error) {
	if o.quick {
		o.runs = 1
	}
	if o.runs < 1 {
		return errors.New("--runs must be at least 1")
	}
	if o.only, err = picked("--only", only, sections()); err != nil {
		return err
	}
	if only == "" && o.quick {
		o.only = slices.DeleteFunc(o.only, func(s string) bool { return s == redactSection })
	}
	if o.markdown != "" && slices.Equal(o.only, []string{redactSection}) {
		return errors.New("--markdown is for a comparison of executors: measure more than redact")
	}
	all := laneNames()
	if lanes == "" && !poolExists() {
		all = slices.DeleteFunc(all, func(s string) bool { return s == warmLane })
	}
	o.lanes, err = picked("--lanes", lanes, all)
	return err
}

// picked are the words of a list, in the order of all; none stands for all.
func picked(name, list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.Contains(all, w) {
			return nil, fmt.Errorf("%s %s: give some of %s", name, w, strings.Join(all, ","))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !slices.Contains(wanted, s) }), nil
}

func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	p := &page{options: o, took: map[string]times{}, rates: map[int]times{}}
	if len(o.only) > 1 || o.only[0] != redactSection {
		if p.machine, err = describe(ctx); err != nil {
			return err
		}
		fmt.Println(p.machine)
		if err := measure(ctx, o, p); err != nil {
			return err
		}
		if err := p.targets(os.Stdout); err != nil {
			return err
		}
	}
	if slices.Contains(o.only, redactSection) {
		if err := p.redaction(ctx, os.Stdout); err != nil {
			return err
		}
	}
	p.whole = time.Since(began)
	if o.markdown != "" && p.machine != "" {
		return p.save()
	}
	return nil
}

// measure is all that needs an engine.
func measure(ctx context.Context, o options, p *page) (err error) {
	dir, err := os.MkdirTemp("", "cleanroom-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	set, err := prepare(dir, o.quick)
	if err != nil {
		return err
	}
	var lanes []*lane
	defer func() { err = errors.Join(err, closeAll(lanes)) }()
	for _, name := range o.lanes {
		l, err := open(ctx, filepath.Join(dir, name), name, set)
		if l.rig != nil {
			lanes = append(lanes, l)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, w := range set.works {
		if !slices.Contains(o.only, w.name) {
			continue
		}
		if err := p.race(ctx, lanes, w); err != nil {
			return err
		}
	}
	if slices.Contains(o.only, throughputSection) {
		if err := p.throughput(ctx, lanes, set.works[0]); err != nil {
			return err
		}
	}
	if slices.Contains(o.only, usageSection) {
		return p.usage(ctx, dir, lanes, set.works)
	}
	return nil
}
