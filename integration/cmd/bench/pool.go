package main

import (
	"context"
	"os/exec"
)

// poolExists tells whether this cleanroom can have rooms ready.
func poolExists() bool {
	return exec.Command("../bin/cleanroom", "pool", "fill", "--help").Run() == nil
}

// warm waits until as many rooms are ready as the runner takes jobs; other
// lanes have none.
func (l *lane) warm(ctx context.Context, w work) error {
	if l.name != warmLane {
		return nil
	}
	return l.cleanroom(ctx, "pool", "fill", "--image", w.spec.Image.Name)
}

// drain removes the rooms that are ready.
func (l *lane) drain() error {
	return l.cleanroom(context.Background(), "pool", "drain") // whatever ended the bench
}
