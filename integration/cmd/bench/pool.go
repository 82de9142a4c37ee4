package main

import (
	"context"
	"fmt"
	"os/exec"
)

// All that the bench knows of cleanroom's pool is in this file.

// noPool is what the page says where the installed cleanroom has no pool.
const noPool = "The lane \"cleanroom, warm\" is left out: this cleanroom has no `pool` command."

// poolExists tells whether this cleanroom can have rooms ready.
func poolExists() bool {
	return exec.Command("../bin/cleanroom", "pool", "fill", "--help").Run() == nil
}

// poolConfig has as many rooms ready as the runner takes jobs.
func poolConfig(atOnce int) string {
	return fmt.Sprintf("[pool]\nsize = %d\nmax = %d\nmemory = \"4g\"\n", atOnce, max(8, atOnce))
}

// fill waits until rooms are ready for jobs as there were: the one that warms up
// is the first. After a job it waits for
// what the job's cleanup left to a process of its own, which would take time
// from the next lane. Other lanes have no pool.
func (l *lane) fill(ctx context.Context, _ work) error {
	if l.name != warmLane {
		return nil
	}
	return l.cleanroom(ctx, "pool", "fill")
}

// drain removes the rooms that are ready, whatever ended the bench.
func (l *lane) drain() error {
	if l.name != warmLane {
		return nil
	}
	return l.cleanroom(context.Background(), "pool", "drain")
}
