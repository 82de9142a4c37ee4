package executor

import (
	"context"
	"time"
)

// PrepareStage decides what the job gets and makes its room.
func (x *Executor) PrepareStage(ctx context.Context) error {
	name, key, err := x.room()
	if err != nil {
		return err
	}
	spec, err := x.spec(name, key)
	if err != nil {
		return err
	}
	began := time.Now()
	x.sayf("Room %s, profile %s", name, spec.Profile)
	if err := x.Engine.Make(ctx, spec, x.Out); err != nil {
		return err
	}
	x.sayf("Room is ready (%.1f s)", time.Since(began).Seconds())
	x.Log.WithField("seconds", time.Since(began).Seconds()).Info("room made")
	return nil
}
