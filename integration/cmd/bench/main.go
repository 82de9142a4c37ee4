// Command bench measures what cleanroom costs beside what it takes the place
// of. The same jobs go through the same gitlab-runner under several executors
// in one run, in turns, job by job, so that whatever else the machine does
// meets all of them. A job's time is from hand-out to final state, by the
// stand-in GitLab's clock; the wipe of a room is in it.
//
// Then: jobs per minute with several at once, processor and memory of the
// driver's own processes, the speed of redaction beside its rivals, of the
// guard, and of an audit log with a million records.
//
//	bench [flags] [PART...]
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
	parts    []string
	lanes    []string
	markdown string // file; empty: none is written
	atMost   time.Duration
	quick    bool
	notes    []string // what the page is to say besides
}

// Parts besides the jobs by themselves, whose parts have their names.
const (
	throughputPart = "throughput"
	usagePart      = "usage"
	redactPart     = "redact"
	guardPart      = "guard"
	auditPart      = "audit"
)

// ownPage is the file that a whole run writes, in the folder of integration.
const (
	ownPage     = "BENCH.md"
	enoughRuns  = 20 // for it
	usualAtMost = 3 * time.Hour
)

func parts() []string {
	return append(workNames(), throughputPart, usagePart, redactPart, guardPart, auditPart)
}

func main() {
	var o options
	var lanes string
	flag.IntVar(&o.runs, "runs", enoughRuns, "jobs of each kind to time under each executor, after one that warms up")
	flag.StringVar(&lanes, "lanes", "", "executors, of "+strings.Join(laneNames(), ",")+" (all; warm if cleanroom has a pool)")
	flag.StringVar(&o.markdown, "markdown", "", "write the results to a Markdown `file` (default "+ownPage+" if everything is measured, else none)")
	flag.DurationVar(&o.atMost, "at-most", usualAtMost, "give up when it is going to take longer")
	flag.BoolVar(&o.quick, "quick", false, "one run of small jobs, to see that everything works")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: bench [flags] [PART...]\nparts, without any all of them: %s\n", strings.Join(parts(), " "))
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := o.choose(flag.Args(), lanes, poolExists())
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// choose takes what the flags and arguments say.
func (o *options) choose(wanted []string, lanes string, pool bool) (err error) {
	if o.quick {
		o.runs = 1
	}
	if o.runs < 1 {
		return errors.New("--runs must be at least 1")
	}
	if o.parts, err = picked("part", wanted, parts()); err != nil {
		return err
	}
	all := laneNames()
	if !pool {
		all = slices.DeleteFunc(all, func(s string) bool { return s == warmLane })
		o.notes = append(o.notes, noPool)
	}
	if o.lanes, err = picked("--lanes", strings.FieldsFunc(lanes, func(r rune) bool { return r == ',' }), all); err != nil {
		return err
	}
	if len(o.parts) == len(parts()) && len(o.lanes) == len(all) && o.runs >= enoughRuns && o.markdown == "" {
		o.markdown = ownPage
	}
	return nil
}

// has tells whether a part is to be measured.
func (o *options) has(part string) bool { return slices.Contains(o.parts, part) }

// needsEngine tells whether jobs are run.
func (o *options) needsEngine() bool {
	return slices.ContainsFunc(append(workNames(), throughputPart, usagePart), o.has)
}

// picked are some words, in the order of all; none stands for all.
func picked(name string, wanted, all []string) ([]string, error) {
	if len(wanted) == 0 {
		return all, nil
	}
	for _, w := range wanted {
		if !slices.Contains(all, w) {
			return nil, fmt.Errorf("%s %q: give some of %s", name, w, strings.Join(all, " "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !slices.Contains(wanted, s) }), nil
}

func run(ctx context.Context, o options) (err error) {
	began := time.Now()
	p := &page{options: o, took: map[string]times{}, rates: map[int]times{}}
	if o.needsEngine() || o.markdown != "" {
		if p.machine, err = describe(ctx); err != nil {
			return err
		}
		fmt.Println(p.machine)
	}
	if o.needsEngine() {
		err = measure(ctx, p)
	} else {
		err = (&forecast{}).tell(o)
	}
	for _, part := range []struct {
		name string
		do   func(context.Context) error
	}{{redactPart, p.redaction}, {guardPart, p.guard}, {auditPart, p.audit}} {
		if err == nil && o.has(part.name) {
			fmt.Fprintf(os.Stderr, "\n%s\n", part.name)
			err = p.part(part.name, func() error { return part.do(ctx) })
		}
	}
	if err != nil && (ctx.Err() == nil || len(p.done) == 0) {
		return err
	}
	if err != nil { // somebody's patience ended, not what was measured
		p.notes = append(p.notes, p.missing())
	}
	if err := p.targets(); err != nil {
		return err
	}
	p.whole = time.Since(began)
	if o.markdown == "" {
		return err
	}
	if err := p.save(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "\nwritten: %s, after %s\n", o.markdown, p.whole.Round(time.Second))
	return err
}

// measure is all that needs an engine.
func measure(ctx context.Context, p *page) (err error) {
	dir, err := os.MkdirTemp("", "cleanroom-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	set, err := prepare(dir, p.quick)
	if err != nil {
		return err
	}
	var lanes []*lane
	defer func() { err = errors.Join(err, closeAll(lanes)) }()
	for _, name := range p.lanes {
		l, err := open(ctx, filepath.Join(dir, name), name, set)
		if l.rig != nil {
			lanes = append(lanes, l)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	f, err := p.rehearse(ctx, lanes, set.works)
	if err != nil {
		return err
	}
	if err := f.tell(p.options); err != nil {
		return err
	}
	for _, w := range set.works {
		if !p.has(w.name) {
			continue
		}
		if err := p.part(w.name, func() error { return p.race(ctx, lanes, w) }); err != nil {
			return err
		}
	}
	if p.has(throughputPart) {
		if err := p.part(throughputPart, func() error { return p.throughput(ctx, lanes, set.works[0]) }); err != nil {
			return err
		}
	}
	if p.has(usagePart) {
		return p.part(usagePart, func() error { return p.usage(ctx, dir, lanes, set.works) })
	}
	return nil
}
