package executor

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"cleanroom/executor/secret"
	"cleanroom/sandbox/fault"
)

// CleanupStage ends the room. It works whatever came before: a prepare that
// never ran, ran half, or ran three times.
func (x *Executor) CleanupStage(ctx context.Context) error {
	if x.Call.Room == "" { // config never answered: nothing was made
		x.Log.Info("no room to wipe")
		return nil
	}
	name, err := x.named() // a wipe needs no key
	if err != nil {
		return err
	}
	if err := fault.At("cleanup.begun"); err != nil {
		return err
	}
	ended, err := finisher{x.Config, x.Engine, x.Log, "cleanup", x.Audit, x.Full}.Finish(ctx, name, "the job is over")
	if errors.Is(err, ErrFull) {
		return err
	}
	logLeases(x.Log, ended.Leases)
	log := x.Log.WithField("removed", len(ended.Evidence.Removed)).WithField("left", len(ended.Evidence.Left))
	if err != nil {
		log.WithError(err).Error("the wipe is not finished: run `cleanroom room wipe " + name + "`")
		return err
	}
	log.Info("room wiped")
	return nil
}

func logLeases(log *logrus.Entry, endings []secret.Ending) {
	for _, e := range endings {
		log := log.WithFields(logrus.Fields{"secret": e.Entry.Secret, "provider": e.Entry.Provider, "lease": e.Entry.ID})
		switch e.Outcome {
		case secret.Revoked:
			log.Info("lease revoked")
		case secret.Expires:
			logTime(log, "expires", e.Entry.Expires).Warn("lease cannot be revoked: what it gave ends by itself, or when its source rotates it")
		default:
			log.WithError(e.Err).Error("lease not revoked: `cleanroom reap` tries again")
		}
	}
}
