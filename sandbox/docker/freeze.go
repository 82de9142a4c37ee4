package docker

import (
	"context"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"

	"cleanroom/sandbox"
)

// While files are looked through and stored the job's container is frozen: what
// its ENTRYPOINT left running could change them in between. Services do not
// have the builds volume, and nothing of a stage outlives it in the helper's.

// freeze stops all that runs in the job's container; one that has ended or is
// gone cannot write either.
func (e *Engine) freeze(ctx context.Context, room string) error {
	job, err := e.recall(ctx, room, sandbox.Job)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	// Noted first: a driver that dies in between leaves a note too many, which
	// thaw can tell from the truth.
	if err := e.noteFrozen(room, true); err != nil {
		return err
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	err = e.api.ContainerPause(ctx, job.ID)
	if err == nil {
		return nil
	}
	c, gone := e.api.ContainerInspect(ctx, job.ID)
	if cerrdefs.IsNotFound(gone) || gone == nil && c.State != nil && (c.State.Paused || !c.State.Running) {
		return nil
	}
	return fmt.Errorf("freeze the job container before its files are stored: %w", err)
}

// thaw lets a frozen container go on.
func (e *Engine) thaw(ctx context.Context, room string, job way) error {
	short, cancel := e.short(ctx)
	defer cancel()
	if err := e.api.ContainerUnpause(short, job.ID); err != nil {
		c, gone := e.api.ContainerInspect(short, job.ID)
		if gone == nil && c.State != nil && c.State.Paused {
			return fmt.Errorf("let the job container go on: %w", err)
		} // else it is not frozen, and what is wrong with it the stage will tell
	}
	return e.noteFrozen(room, false)
}

// noteFrozen keeps it in the room's state. Without a state the engine is asked
// before each stage anyway.
func (e *Engine) noteFrozen(room string, frozen bool) error {
	f, ok := e.remembered(room)
	if !ok || f.Job.Frozen == frozen {
		return nil
	}
	f.Job.Frozen = frozen
	err := e.remember(room, f)
	if err != nil && e.unremember(room) == nil { // as without a state: the folder may be full
		return nil
	}
	return err
}
