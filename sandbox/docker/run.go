package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
	"cleanroom/sandbox/initproto"
)

// reachTime is how long an init may take to answer, besides ending a stage
// whose driver died: it has nothing else to do.
const reachTime = 15 * time.Second

// errMute is an init that does not answer in time.
var errMute = errors.New("init does not answer")

// Run runs one stage over the container's init.
func (e *Engine) Run(ctx context.Context, s sandbox.Stage) (sandbox.Result, error) {
	w, err := e.recall(ctx, s.Room, s.Role)
	if err != nil {
		return sandbox.Result{}, err
	}
	stage := initproto.Stage{
		Name: s.Name, Env: s.Env, Grace: s.Grace, Script: s.Script, Output: s.Output, Mask: s.Mask,
	}
	if len(s.Files) > 0 {
		if w.Files == "" {
			return sandbox.Result{}, fmt.Errorf("stage %s has files, but the %s container was made without a folder for them: set its FilesDir", s.Name, s.Role)
		}
		stage.FilesDir, stage.Files = w.Files, filesOf(s.Files)
	}
	if s.Role == sandbox.Job && w.Frozen {
		if err := e.thaw(ctx, s.Room, w); err != nil {
			return sandbox.Result{}, err
		}
	}
	if s.Store != nil {
		if s.Role == sandbox.Job {
			return sandbox.Result{}, fmt.Errorf("stage %s stores files from the job container: only the helper can", s.Name)
		}
		if err := e.freeze(ctx, s.Room); err != nil {
			return sandbox.Result{}, err
		}
		if err := fault.At("run.frozen"); err != nil {
			return sandbox.Result{}, err
		}
	}
	dialing, cancel := context.WithTimeoutCause(ctx, reachTime+s.Grace, errMute)
	defer cancel()
	r := &running{plan: plan{name: containerName(s.Room, s.Role)}, id: w.ID, way: w, engine: e}
	c, err := r.client(dialing, s.Key, initproto.Redial)
	if err != nil {
		if errors.Is(context.Cause(dialing), errMute) && !errors.Is(err, errMute) {
			err = fmt.Errorf("%w: %w", errMute, err)
		}
		return sandbox.Result{}, e.whyGone(ctx, s, w, err)
	}
	defer c.Close()
	if err := fault.At("run.reached"); err != nil {
		return sandbox.Result{}, err
	}
	var again func(context.Context, []sandbox.Entry) error
	if s.Store != nil {
		if again, err = look(ctx, c, s.Store); err != nil {
			return sandbox.Result{}, e.whyNot(ctx, s, w, err)
		}
		if err := fault.At("run.searched"); err != nil {
			return sandbox.Result{}, err
		}
	}
	in := &inside{c: c}
	if s.Before != nil {
		if err := s.Before(ctx, in); err != nil {
			return sandbox.Result{}, e.whyNot(ctx, s, w, err)
		}
	}
	exit, err := c.RunStage(ctx, stage)
	if err != nil {
		return sandbox.Result{}, e.whyGone(ctx, s, w, err)
	}
	if s.Store != nil && !exit.Canceled {
		if err := fault.At("run.stored"); err != nil {
			return sandbox.Result{}, err
		}
		if err := again(ctx, in.brought); err != nil {
			return sandbox.Result{}, e.whyNot(ctx, s, w, err)
		}
		if err := fault.At("run.compared"); err != nil {
			return sandbox.Result{}, err
		}
	}
	if s.After != nil && !exit.Canceled && exit.Code == 0 {
		if err := s.After(ctx, in); err != nil {
			return sandbox.Result{}, e.whyNot(ctx, s, w, err)
		}
	}
	if exit.Canceled && ctx.Err() == nil {
		if err := e.fromOutside(ctx, s); err != nil {
			return sandbox.Result{}, err
		}
	}
	return sandbox.Result{ExitCode: exit.Code, Signal: exit.Signal, OOM: exit.OOM, Canceled: exit.Canceled}, nil
}

// fromOutside is an error if a container that was told to end was not by its
// own processes: they reach no other container of the room, an engine that stops
// ends all.
func (e *Engine) fromOutside(ctx context.Context, s sandbox.Stage) error {
	other := sandbox.Helper
	if s.Role == sandbox.Helper {
		other = sandbox.Job
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	for range 10 {
		c, err := e.api.ContainerInspect(ctx, containerName(s.Room, other))
		switch {
		case err != nil:
			return fmt.Errorf("the %s container was told to end from outside, and of the %s container the engine says: %w", s.Role, other, err)
		case c.State != nil && !c.State.Running:
			return fmt.Errorf("the %s container was told to end from outside, as the %s container was: was the engine stopped?", s.Role, other)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(100 * time.Millisecond):
		}
	}
	return nil
}

// whyNot explains an error of looking through files. That of who looked, and
// that of what was seen, explain themselves.
func (e *Engine) whyNot(ctx context.Context, s sandbox.Stage, w way, err error) error {
	var list listError
	switch {
	case !errors.As(err, &list):
		return err
	case errors.Is(err, initproto.ErrTooMany):
		return userErrorf("stage %s: %w", s.Name, initproto.ErrTooMany)
	}
	return e.whyGone(ctx, s, w, list.error)
}

// whyGone asks the engine what became of a container that stopped answering.
func (e *Engine) whyGone(ctx context.Context, s sandbox.Stage, w way, err error) error {
	var exec *initproto.ExecError
	if errors.As(err, &exec) { // the shell is gone, or the environment is too large for it
		return userErrorf("stage %s cannot start: %w", s.Name, err)
	}
	ctx, cancel := e.short(context.WithoutCancel(ctx))
	defer cancel()
	err = fmt.Errorf("%s container: %w", s.Role, err)
	c, gone := e.api.ContainerInspect(ctx, w.ID)
	switch {
	case cerrdefs.IsNotFound(gone):
		return fmt.Errorf("%w; the container is gone: somebody removed it while the job ran", err)
	case gone != nil:
		return errors.Join(err, gone)
	case c.State != nil && c.State.OOMKilled:
		return userErrorf("the %s container ran out of memory (limit %d MiB) and was killed: %w", s.Role, c.HostConfig.Memory>>20, err)
	case c.State != nil && !c.State.Running:
		return fmt.Errorf("%w; the container has ended (exit code %d)", err, c.State.ExitCode)
	case s.Role == sandbox.Job && errors.Is(err, errMute):
		return userErrorf("%w: did the job remove or replace /.cleanroom/run, or end the process that runs its stages?", err)
	}
	return err
}
