package executor

import (
	"context"
	"io"
	"time"

	"cleanroom/executor/metrics"
	"cleanroom/sandbox/fault"
)

// PrepareStage decides what the job gets, has its secrets issued, and makes
// its room. Whatever comes of that, the job's log has the audit log's newest
// checkpoint, before anything that the job prints.
func (x *Executor) PrepareStage(ctx context.Context) (err error) {
	name, key, err := x.room()
	if err != nil {
		return err
	}
	start, made, shown := time.Now(), metrics.Change{}, false
	end := x.follow(ctx, name, prepareStage)
	defer func() { err = end(made, err) }()
	defer func() { // while what is printed is still recorded
		if err == nil || shown {
			return
		}
		if bad := x.showCheckpoint(); bad != nil {
			x.Log.WithError(bad).Error("audit: the log of this job has no checkpoint")
		}
	}()
	if err := fault.At("prepare.begun"); err != nil {
		return err
	}
	job, err := x.Call.Job()
	if err != nil {
		return err
	}
	who, err := x.stand(ctx, job)
	if err != nil {
		return err
	}
	spec, err := x.spec(name, key, who)
	if err != nil {
		return err
	}
	held, err := x.held(name, job)
	if err != nil {
		return err
	}
	defer held.Release()
	x.moveIn(held, &spec)
	grants, err := x.grants(job, who)
	if err != nil {
		return err
	}
	if err := x.checkTokens(ctx, who); err != nil {
		return err
	}
	if err := x.decided(ctx, name, &spec, who); err != nil {
		return err
	}
	began := time.Now()
	if x.Full != nil { // else there was nothing to end a moment ago
		defer x.reapBeside(ctx)()
	}
	x.sayf("Room %s, profile %s", name, spec.Profile)
	shown = true // or it cannot be
	if err := x.showCheckpoint(); err != nil {
		return err
	}
	sealed, err := x.fetch(ctx, name, key, job, who, grants, spec.Deadline)
	if err != nil {
		return err
	}
	if err := place(&spec, sealed.Deliveries); err != nil {
		return err
	}
	log, err := x.redacted(sealed, nil) // a service that has a secret may print it
	if err != nil {
		return err
	}
	defer func() { err = log.done(err) }()
	stop := x.keepAlive(ctx, name, key, sealed) // pulls and services may take longer than a lease
	err = x.Engine.Make(ctx, spec, x.Out)
	stop()
	if err != nil {
		return err
	}
	if err := fault.At("prepare.room.made"); err != nil {
		return err
	}
	x.wanted(job)
	made = metrics.Prepare.Took("", time.Since(start))
	x.sayf("Room is ready (%.1f s)", time.Since(began).Seconds())
	x.Log.WithField("seconds", time.Since(began).Seconds()).Info("room made")
	return nil
}

// reapTime is how long a job waits for the room of an earlier one to be ended
// when its own is ready, in a pass that has begun.
const reapTime = 2 * time.Second

// reapBeside ends what earlier jobs left behind, while this one's room is
// made. Its failures are the admin's to hear of, not this job's.
func (x *Executor) reapBeside(ctx context.Context) (stop func()) {
	next, enough := context.WithCancel(ctx)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	r := &Reaper{Config: x.Config, Engine: x.Engine, Log: x.Log, Out: io.Discard, Audit: x.Audit, Full: x.Full}
	go func() {
		defer close(done)
		if err := r.Quick(ctx, next); err != nil {
			x.Log.WithError(err).Error("rooms of earlier jobs are not ended: run `cleanroom reap`")
		}
	}()
	return func() {
		enough()
		late := time.AfterFunc(reapTime, cancel)
		<-done
		late.Stop()
		cancel()
	}
}
