package executor

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/pool"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
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

	note  note // of how the job went
	noted bool // it was there, and we removed it
}

// finisher ends rooms.
type finisher struct {
	config config.Config
	engine sandbox.Engine
	log    *logrus.Entry
	by     string // who: the command
	audit  *Audit
	full   *Full
}

// Finish ends a room, whoever made it and whatever became of it: its leases
// are revoked, its sealed secrets, everything on the engine, and what a killed
// runner left of the job are removed. What was done is kept for Endings.
// It can be called again and again. Another process may work on the leases: the
// room is wiped all the same, and the error is secret.ErrLocked. Without Full,
// leases are ErrFull, and nothing is done.
func (f finisher) Finish(ctx context.Context, room, why string) (Ended, error) {
	if !validRoom(room) {
		return Ended{}, notOurs(f.config.DataDir, room)
	}
	journal, err := secret.Find(f.config.DataDir, room, lockTime)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if journal != nil && len(journal.Open) > 0 && f.full == nil {
		return Ended{}, errors.Join(ErrFull, journal.Keep())
	}
	return f.finish(ctx, room, why, journal, err)
}

// finish is Finish with the journal in our hands; nil where there is none.
func (f finisher) finish(ctx context.Context, room, why string, journal *secret.Journal, err error) (Ended, error) {
	began := time.Now()
	running := openNote(f.config.StateDir, room, false) // nobody's when a stage of the room still has it
	running.begins(f.by)
	defer running.close()
	ended, err := f.end(ctx, room, journal, err)
	record := newEnding(room, f.by, why, began, ended, err)
	if journal != nil {
		record.Job, record.Project, record.Began = journal.Head.Job, journal.Head.Project, journal.Head.Began
		if !journal.Head.Runner.Gone() {
			record.Runners = journal.Head.Temp
		}
	}
	if journal != nil || err != nil || len(ended.Evidence.Removed)+len(ended.Evidence.Left) > 0 {
		err = errors.Join(err, record.keep(f.config.DataDir))
	}
	if err == nil {
		err = fault.At("end.evidence.kept")
	}
	err = f.record(roomEnd{room: room, by: f.by, why: why, began: began, ended: ended, journal: journal, err: err})
	if err == nil {
		err = fault.At("end.recorded")
	}
	switch { // the journal goes last: while it is there, reap knows of the room
	case journal == nil:
	case err == nil:
		err = journal.Close()
	default:
		err = errors.Join(err, journal.Keep())
	}
	if err == nil {
		err = fault.At("end.closed")
	}
	if err == nil && pool.Named(room) {
		err = pool.Of(f.config.StateDir).Forget(room)
	}
	f.count(ended, journal != nil, time.Since(began), err)
	return ended, oneLine([]error{err})
}

var errBlank = errors.New("the room's journal of leases was emptied: revoke by hand what may have been issued for its job")

func (f finisher) end(ctx context.Context, room string, journal *secret.Journal, err error) (Ended, error) {
	failed := []error{err, nil, nil, nil, nil, nil, fault.At("end.begun"), nil, nil, nil, nil}
	var ended Ended
	if pool.Named(room) { // no job is to get it from here on
		failed[10] = pool.Of(f.config.StateDir).Withdraw(room)
	}
	if journal != nil { // whoever comes after us, should we not end it
		failed[7] = journal.Ends()
	}
	if failed[6] == nil {
		failed[6] = fault.At("end.over.noted")
	}
	wiped := make(chan struct{})
	go func() {
		defer close(wiped)
		ended.Evidence, failed[1] = f.engine.Wipe(ctx, room)
	}()
	if journal != nil {
		ended.Leases, failed[2] = revoke(ctx, f.config, f.full, journal)
	}
	<-wiped
	failed[8] = fault.At("end.wiped")
	host := func(at int, kind, name string, remove func() (bool, error)) {
		removed, err := remove()
		switch failed[at] = err; {
		case err != nil:
			ended.Evidence.Left = append(ended.Evidence.Left, sandbox.Item{Kind: kind, Name: name, Why: err.Error()})
		case removed:
			ended.Evidence.Removed = append(ended.Evidence.Removed, sandbox.Item{Kind: kind, Name: name})
		}
	}
	host(3, "sealed secrets", room, func() (bool, error) {
		removed, err := secret.Discard(f.config.StateDir, room)
		return removed, errors.Join(err, fault.At("end.seal.gone"))
	})
	if journal != nil && journal.Blank() && len(ended.Evidence.Removed) > 0 { // the head was written before all of it
		failed[9] = errBlank
	}
	if journal != nil && journal.Head.Runner.Gone() { // a living runner removes it itself, after cleanup
		host(4, "runner's folder", journal.Head.Temp, func() (bool, error) {
			if err := fault.At("end.runner.gone"); err != nil {
				return false, err
			}
			return contract.RemoveTemp(journal.Head.Temp)
		})
	}
	if errors.Join(failed...) == nil { // else whoever ends the room must know as much
		ended.note, _, _ = peekNote(f.config.StateDir, room)
		host(5, "stage note", room, func() (removed bool, err error) {
			ended.noted, err = removeNote(f.config.StateDir, room)
			return ended.noted, errors.Join(err, fault.At("end.note.gone"))
		})
	}
	return ended, errors.Join(failed...)
}

// revoke takes back what a journal holds; the caller closes it.
func revoke(ctx context.Context, c config.Config, full *Full, journal *secret.Journal) ([]secret.Ending, error) {
	var host secret.Sealer
	if len(journal.Open) > 0 {
		var err error
		if host, err = full.hostKey(c.DataDir); err != nil {
			return nil, err
		}
	}
	return journal.Revoke(ctx, host, full.providers(c.DataDir), revokeTime)
}
