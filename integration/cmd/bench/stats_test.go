package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSpread: the quartiles are those of R's quantile(x, type = 8).
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		times []time.Duration
		want  spread
	}{
		{nil, spread{}},
		{[]time.Duration{7}, spread{1, 7, 7, 7, 7, 7}},
		{[]time.Duration{40, 20}, spread{2, 20, 20, 30, 40, 40}},
		{[]time.Duration{500, 100, 400, 200, 300}, spread{5, 100, 167, 300, 433, 500}},
		{[]time.Duration{1, 1, 1, 1000, 1, 1, 1}, spread{7, 1, 1, 1, 1, 1000}},
	} {
		before := slices.Clone(c.times)
		if got := spreadOf(c.times); got != c.want {
			t.Errorf("%d: %+v, want %+v", c.times, got, c.want)
		}
		if !slices.Equal(c.times, before) {
			t.Errorf("%d was sorted: %d", before, c.times)
		}
	}
}

func TestNumbers(t *testing.T) {
	for got, want := range map[string]string{
		seconds(83400 * time.Microsecond): "0.083 s",
		seconds(-1500 * time.Millisecond): "-1.50 s",
		seconds(12345 * time.Millisecond): "12.35 s",
		ratio(time.Second, 4*time.Second): "0.25",
		ratio(time.Second, 0):             none,
		perMinute(250 * time.Millisecond): "240",
		megabytes(24_940_000):             "24.9 MB",
		short(1_600 * time.Microsecond):   "1.6 ms",
		short(143 * time.Microsecond):     "143 µs",
		short(41_234 * time.Millisecond):  "41.2 s",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestLogLine(t *testing.T) {
	if len(logLine) != 99 || strings.Contains(logLine, "'") {
		t.Errorf("%d bytes; want 99, in quotes", len(logLine))
	}
}

func TestPicked(t *testing.T) {
	all := []string{"a", "b", "c"}
	got, err := picked("part", []string{"c", "a"}, all)
	if err != nil || strings.Join(got, "") != "ac" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := picked("part", []string{"d"}, all); err == nil || !strings.Contains(err.Error(), "a b c") {
		t.Errorf("an unknown word: %v", err)
	}
}

// TestTargets: each target is there once it was measured, on both sides of its
// bound.
func TestTargets(t *testing.T) {
	one := func(d time.Duration) []time.Duration { return []time.Duration{d * time.Second} }
	p := &page{took: map[string]times{
		"true": {shellLane: one(1), dockerLane: one(11), coldLane: one(3), warmLane: one(4)},
		"log":  {shellLane: one(10), dockerLane: one(15), coldLane: one(13), secretsLane: one(14)},
	}, rates: map[int]times{8: {dockerLane: one(6), coldLane: one(2), warmLane: one(3)}},
		used: []used{{&lane{name: coldLane}, work{name: "true"}, []cost{{running: 10e6, driver: 20e6, init: 4e6}}},
			{&lane{name: secretsLane}, work{name: "true"}, []cost{{driver: 20e6, init: 1e6}, {driver: 19e6, init: 5e6}}},
			{&lane{name: secretsLane}, work{name: "log"}, []cost{{driver: 30e6, init: 1e6}}}}}
	if err := p.targets(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"`true` over the shell executor, cleanroom, cold | at most 0.25 of the docker executor's | 0.200 | met",
		"`true` over the shell executor, cleanroom, warm | at most 0.10 of the docker executor's | 0.300 | missed",
		"the log, cleanroom, cold | at most 1.3 of the shell executor's time | 1.30 (docker executor 1.50) | met",
		"the log, cleanroom, cold, 20 secrets | at most 1.3 of the shell executor's time | 1.40 (docker executor 1.50) | missed",
		"jobs per minute, 8 at once, cleanroom, cold | at least 3 of the docker executor's | 3.00 | met",
		"jobs per minute, 8 at once, cleanroom, warm | at least 3 of the docker executor's | 2.00 | missed",
		"memory while the job runs, cleanroom, cold | less than 25.0 MB | 14.0 MB (the most of all jobs: 14.0 MB, true) | met",
		"memory at any time, cleanroom, cold | less than 25.0 MB | 24.0 MB (the most of all jobs: 24.0 MB, true) | met",
		"memory at any time, cleanroom, cold, 20 secrets | less than 25.0 MB | 25.0 MB (the most of all jobs: 31.0 MB, log) | missed",
	} {
		if !strings.Contains(p.summary.String(), "| "+want+" |\n") {
			t.Errorf("no line %q in\n%s", want, &p.summary)
		}
	}
	p = &page{}
	if err := p.targets(); err != nil || p.summary.Len() > 0 {
		t.Errorf("nothing was measured: %v\n%s", err, &p.summary)
	}
}
