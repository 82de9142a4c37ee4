package executor

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
	"cleanroom/executor/secret/provider"
	"cleanroom/sandbox"
)

// revokeTime bounds how long one room's leases may take to revoke: what is
// not done by then stays in the journal, for `cleanroom reap`.
const revokeTime = time.Minute

// Ended is what ending a room did.
type Ended struct {
	Leases   []secret.Ending
	Evidence sandbox.Evidence
}

// Finish ends a room, whoever made it and whatever became of it: its leases
// are revoked, its sealed secrets and everything on the engine are removed.
// It can be called again and again. With wait it waits for another process
// that works on the leases; else that is secret.ErrLocked, and nothing is
// done.
func Finish(ctx context.Context, c config.Config, engine sandbox.Engine, room string, wait bool) (Ended, error) {
	journal, err := secret.Find(c.DataDir, room, wait)
	if errors.Is(err, secret.ErrLocked) {
		return Ended{}, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	failed := []error{err, nil, nil, nil}
	var ended Ended
	wiped := make(chan struct{})
	go func() {
		defer close(wiped)
		ended.Evidence, failed[1] = engine.Wipe(ctx, room)
	}()
	if journal != nil {
		ended.Leases, failed[2] = revoke(ctx, c, journal)
	}
	<-wiped
	failed[3] = secret.Discard(c.StateDir, room)
	err = errors.Join(failed...)
	if journal != nil { // it goes last: while it is there, reap knows of the room
		if err == nil {
			err = journal.Close()
		} else {
			err = errors.Join(err, journal.Keep())
		}
	}
	return ended, err
}

// revoke takes back what a journal holds; the caller closes it.
func revoke(ctx context.Context, c config.Config, journal *secret.Journal) ([]secret.Ending, error) {
	ctx, cancel := context.WithTimeout(ctx, revokeTime)
	defer cancel()
	host, err := hostkey.Open(c.DataDir)
	if err != nil {
		return nil, err
	}
	return journal.Revoke(ctx, host, provider.Opener(c.DataDir))
}
