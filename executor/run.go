package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"cleanroom/executor/contract"
	"cleanroom/executor/metrics"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// RunStage runs one script of the runner in the container it belongs to.
func (x *Executor) RunStage(ctx context.Context, script, stage string) (err error) {
	name, key, err := x.room()
	if err != nil {
		return err
	}
	role := sandbox.Helper
	start, end := time.Now(), x.follow(ctx, name, stage)
	defer func() { err = end(metrics.Stage.Took(string(role), time.Since(start)), err) }()
	kind, err := contract.Classify(stage)
	if err != nil {
		return err
	}
	if kind == contract.User {
		role = sandbox.Job
	}
	if err := fault.At("run.begun"); err != nil {
		return err
	}
	if contract.RunsNothing(stage) {
		return x.retire(ctx, name, key, stage)
	}
	f, err := os.Open(script)
	if err != nil {
		return fmt.Errorf("script of stage %s: %w", stage, err)
	}
	defer f.Close()
	sealed := x.sealed
	if sealed == nil {
		sealed, err = secret.Unseal(x.Config.StateDir, name, key)
	}
	if errors.Is(err, secret.ErrNoSeal) {
		return fmt.Errorf("%w: %s: %w", sandbox.ErrNoRoom, name, err)
	}
	if err != nil {
		return err
	}
	if err := fault.At("run.unsealed"); err != nil {
		return err
	}
	var keep func(secret.Hidden) error
	if kind == contract.User {
		keep = func(one secret.Hidden) error {
			return sealed.Change(x.Config.StateDir, name, key, func(s *secret.Sealed) { s.Hidden = append(s.Hidden, one) })
		}
	}
	hiding, err := x.redacted(sealed, keep)
	if err != nil {
		return err
	}
	defer func() { err = hiding.done(err) }()
	defer x.keepAlive(ctx, name, key, sealed)()
	store, bring, err := x.guarded(stage, sealed)
	if err != nil {
		return err
	}
	caches, err := x.caching(stage, f, sealed, func(b secret.Brought) error {
		return sealed.Change(x.Config.StateDir, name, key, func(s *secret.Sealed) { s.Brought = append(s.Brought, b) })
	})
	if err != nil {
		return err
	}
	before, after := caches.hooks()
	if bring != nil { // an upload, which has nothing to do with caches
		before = bring
	}
	env, files := handed(sealed.Deliveries, stage)
	result, err := x.Engine.Run(ctx, sandbox.Stage{
		Room: name, Key: key, Name: stage, Role: role, Env: env, Files: files, Store: store, Before: before, After: after,
		Script: f, Output: x.Out, Mask: hiding.mask, Grace: x.Config.Room.StageGrace,
	})
	if err != nil {
		return err
	}
	x.gather.exit(result)
	if err := fault.At("run.ended"); err != nil {
		return err
	}
	log := x.Log.WithField("stage", stage).WithField("exit_code", result.ExitCode)
	if result.Canceled {
		log.WithField("cause", context.Cause(ctx)).Info("stage ended early")
		if ctx.Err() == nil {
			x.sayf("The %s container was told to end by one of its own processes (TERM to process 1)", role)
		}
		return stageError{result.ExitCode}
	}
	log.Info("stage ended")
	if result.ExitCode == 0 {
		return nil
	}
	if result.OOM {
		limit := map[sandbox.Role]string{sandbox.Job: x.Config.Limits.Memory, sandbox.Helper: x.Config.Limits.HelperMemory}[role]
		x.sayf("The %s container ran out of memory (limit %s); ask for less, or the runner's admin for more", role, limit)
	}
	if err := x.Call.WriteBuildExitCode(result.ExitCode); err != nil {
		return err
	}
	return stageError{result.ExitCode}
}

// retire is the stage that runs nothing: the room begins to end.
func (x *Executor) retire(ctx context.Context, room string, key [32]byte, stage string) error {
	if err := x.Engine.Retire(ctx, room, key); err != nil {
		return err
	}
	x.Log.WithField("stage", stage).Info("the room ends: its files go with it")
	return ctx.Err()
}
