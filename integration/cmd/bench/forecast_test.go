package main

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      options
		wanted []string
		lanes  string
		pool   bool
		file   string
		notes  int
		fails  string
	}{
		{name: "everything makes the page", o: options{runs: 20}, pool: true, file: ownPage},
		{name: "without a pool too, and it says so", o: options{runs: 20}, file: ownPage, notes: 1},
		{name: "too few runs", o: options{runs: 19}, pool: true},
		{name: "quick", o: options{runs: 20, quick: true}, pool: true},
		{name: "a part", o: options{runs: 20}, wanted: []string{"true", "log"}, pool: true},
		{name: "some lanes", o: options{runs: 20}, lanes: "shell,cold", pool: true},
		{name: "a file was named", o: options{runs: 3, markdown: "x"}, wanted: []string{"true"}, pool: true, file: "x"},
		{name: "no such part", o: options{runs: 20}, wanted: []string{"tru"}, fails: "true clone"},
		{name: "no pool for warm", o: options{runs: 20}, lanes: "warm", fails: "shell docker"},
		{name: "no runs", fails: "at least 1"},
	} {
		err := c.o.choose(c.wanted, c.lanes, c.pool)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil || c.o.markdown != c.file || len(c.o.notes) != c.notes || slices.Contains(c.o.lanes, warmLane) != (c.pool && c.lanes == "") {
			t.Errorf("%s: %+v, %v", c.name, c.o, err)
		}
	}
}

func TestForecast(t *testing.T) {
	one := func(d time.Duration) []time.Duration { return []time.Duration{d} }
	f := &forecast{one: map[string]times{
		"true": {shellLane: one(time.Second), execLane: one(2 * time.Second), coldLane: one(3 * time.Second)},
		"log":  {shellLane: one(10 * time.Second), coldLane: one(20 * time.Second)},
	}}
	o := options{runs: 20, parts: []string{"true", "log", usagePart, throughputPart}, lanes: []string{shellLane, execLane, coldLane}, atMost: time.Hour}
	if got, want := f.part(o, "true"), 120*time.Second; got != want {
		t.Errorf("true: %s, want %s", got, want)
	}
	// What is spied on: 20 times true in two lanes, 5 times log in one.
	if got, want := f.part(o, usagePart), 200*time.Second+4*starting; got != want {
		t.Errorf("usage: %s, want %s", got, want)
	}
	if got := f.part(o, throughputPart); got < time.Minute || got > 20*time.Minute {
		t.Errorf("throughput: %s", got)
	}
	if err := f.tell(o); err != nil {
		t.Error(err)
	}
	o.atMost = 10 * time.Minute
	if err := f.tell(o); !errors.Is(err, errTooLong) || !strings.Contains(err.Error(), "--runs") {
		t.Errorf("more than 10 minutes: %v", err)
	}
}
