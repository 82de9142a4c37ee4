package executor

import "context"

// CleanupStage wipes the room. It works whatever came before: a prepare that
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
	evidence, err := x.Engine.Wipe(ctx, name)
	log := x.Log.WithField("removed", len(evidence.Removed)).WithField("left", len(evidence.Left))
	if err != nil {
		log.WithError(err).Error("the wipe is not finished: run `cleanroom room wipe " + name + "`")
		return err
	}
	log.Info("room wiped")
	return nil
}
