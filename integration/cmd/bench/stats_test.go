package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	got := spreadOf([]time.Duration{5, 1, 4, 2, 3})
	if want := (spread{5, 1, 2, 3, 4, 5}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := spreadOf([]time.Duration{40, 20}); got.median != 30 || got.low != 25 {
		t.Errorf("%+v", got)
	}
	if got := spreadOf([]time.Duration{7}); got.min != 7 || got.median != 7 || got.max != 7 {
		t.Errorf("%+v", got)
	}
	if got := spreadOf(nil); got != (spread{}) {
		t.Errorf("%+v", got)
	}
}

func TestLogLine(t *testing.T) {
	if len(logLine) != 99 || strings.Contains(logLine, "'") {
		t.Errorf("%d bytes; want 99, in quotes", len(logLine))
	}
}

func TestPicked(t *testing.T) {
	all := []string{"a", "b", "c"}
	got, err := picked("--only", "c,a", all)
	if err != nil || strings.Join(got, "") != "ac" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := picked("--only", "d", all); err == nil || !strings.Contains(err.Error(), "a,b,c") {
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
		used: []used{{&lane{name: coldLane}, work{name: "true"}, []cost{{driver: 20e6, init: 4e6}}},
			{&lane{name: secretsLane}, work{name: "log"}, []cost{{driver: 20e6, init: 1e6}, {driver: 19e6, init: 5e6}}}}}
	if err := p.targets(new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"`true` over the shell executor, cleanroom, cold | at most 0.25 of the docker executor's | 0.20 | met",
		"`true` over the shell executor, cleanroom, warm | at most 0.10 of the docker executor's | 0.30 | missed",
		"the log, cleanroom, cold | at most 1.3 of the shell executor's time | 1.30 (docker executor 1.50) | met",
		"the log, cleanroom, cold, 20 secrets | at most 1.3 of the shell executor's time | 1.40 (docker executor 1.50) | missed",
		"jobs per minute, 8 at once, cleanroom, cold | at least 3 of the docker executor's | 3.00 | met",
		"jobs per minute, 8 at once, cleanroom, warm | at least 3 of the docker executor's | 2.00 | missed",
		"memory for a running job, cleanroom, cold | less than 25.0 MB | 24.0 MB (true) | met",
		"memory for a running job, cleanroom, cold, 20 secrets | less than 25.0 MB | 25.0 MB (log) | missed",
	} {
		if !strings.Contains(p.text.String(), "| "+want+" |\n") {
			t.Errorf("no line %q in\n%s", want, &p.text)
		}
	}
	p = &page{}
	if err := p.targets(new(bytes.Buffer)); err != nil || p.text.Len() > 0 {
		t.Errorf("nothing was measured: %v\n%s", err, &p.text)
	}
}
