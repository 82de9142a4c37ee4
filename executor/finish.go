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

// revokeTime bounds how long the leases of one provider may take to revoke:
// what is not done by then stays in the journal, for `cleanroom reap`.
const revokeTime = time.Minute

// lockTime is how long cleanup waits for another process that has the journal:
// a prepare that is dying, or what a program of a killed one has left.
const lockTime = 30 * time.Second

// Ended is what ending a room did.
type Ended struct {
	Leases   []secret.Ending
	Evidence sandbox.Evidence
}

// Finish ends a room, whoever made it and whatever became of it: its leases
// are revoked, its sealed secrets and everything on the engine are removed.
// It can be called again and again. Another process may work on the leases: the
// room is wiped all the same, and the error is secret.ErrLocked.
func Finish(ctx context.Context, c config.Config, engine sandbox.Engine, room string) (Ended, error) {
	journal, err := secret.Find(c.DataDir, room, lockTime)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return finish(ctx, c, engine, room, journal, err)
}

// finish is Finish with the journal in our hands; nil where there is none.
func finish(ctx context.Context, c config.Config, engine sandbox.Engine, room string, journal *secret.Journal, err error) (Ended, error) {
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
	host, err := hostkey.Open(c.DataDir)
	if err != nil {
		return nil, err
	}
	return journal.Revoke(ctx, host, provider.Opener(c.DataDir), revokeTime)
}
