package executor

import (
	"context"
	"time"
)

// PrepareStage decides what the job gets, has its secrets issued, and makes
// its room.
func (x *Executor) PrepareStage(ctx context.Context) (err error) {
	name, key, err := x.room()
	if err != nil {
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
	grants, err := x.grants(job, who)
	if err != nil {
		return err
	}
	if err := x.checkTokens(ctx, who); err != nil {
		return err
	}
	began := time.Now()
	x.sayf("Room %s, profile %s", name, spec.Profile)
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
	x.sayf("Room is ready (%.1f s)", time.Since(began).Seconds())
	x.Log.WithField("seconds", time.Since(began).Seconds()).Info("room made")
	return nil
}
