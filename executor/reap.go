package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/contract"
	"cleanroom/executor/metrics"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// Reaper ends rooms that no cleanup has ended.
type Reaper struct {
	Config config.Config
	Engine sandbox.Engine
	Log    *logrus.Entry
	Out    io.Writer // a line a room, for the admin
	Audit  *Audit    // nil: no record is kept
	Full   *Full     // not nil

	Version string // by it rooms that were made ahead by another are known
}

// Reap ends every room whose job is certainly over: by its journal of leases
// its cleanup began, its runner is gone or its deadline has passed; or, where a
// room has no journal, or one that does not tell, by the deadline on the
// engine's labels. A room that cannot be ended is no reason to leave the others.
func (r *Reaper) Reap(ctx context.Context) error {
	if err := fault.At("reap.begun"); err != nil {
		return err
	}
	journals, err := secret.Rooms(r.Config.DataDir)
	failed := []error{err}
	mute := map[string]error{}
	for _, room := range journals {
		if err := r.byJournal(ctx, room); errors.Is(err, secret.ErrMute) {
			mute[room] = err
		} else {
			failed = append(failed, err)
		}
	}
	rooms, err := r.Engine.Rooms(ctx)
	failed = append(failed, err)
	slices.SortFunc(rooms, func(a, b sandbox.RoomInfo) int { return a.Created.Compare(b.Created) })
	for _, room := range rooms {
		_, silent := mute[room.Name]
		switch {
		case !validRoom(room.Name) || slices.Contains(journals, room.Name) && !silent:
		case room.Deadline.IsZero():
			fmt.Fprintf(r.Out, "%s: left alone, its labels tell no deadline: remove it with `cleanroom room wipe %[1]s`\n", room.Name)
		case passed(room, fault.Now()):
			delete(mute, room.Name)
			failed = append(failed, r.byLabel(ctx, room.Name))
		}
	}
	failed = append(failed, r.byPool(ctx))
	for _, room := range slices.Sorted(maps.Keys(mute)) {
		failed = append(failed, mute[room])
	}
	if failed[0] == nil && err == nil { // else we do not know which rooms there are
		failed = append(failed, r.forgetNotes(journals, rooms), r.byDossier(ctx, journals, rooms))
	}
	_, err = Caches(r.Config).Sweep(time.Now())
	return oneLine(append(failed, err, r.Audit.Drain(ctx), r.sweep(ctx), forgetEndings(r.Config.DataDir, time.Now()),
		provenance.Forget(r.Config.DataDir, time.Now().Add(-KeepProvenance)), fault.At("reap.ended")))
}

// passed tells whether the deadline on a room's labels has passed: by the clock
// that nobody sets, where the room was made since this machine started.
func passed(room sandbox.RoomInfo, now time.Time) bool {
	if clock := contract.ParseClock(room.Labels["cleanroom.clock"]); clock.Known() {
		return clock.Passed()
	}
	return now.After(room.Deadline)
}

// forgetNotes is for jobs of which there is nothing but a note.
func (r *Reaper) forgetNotes(journals []string, rooms []sandbox.RoomInfo) error {
	known := slices.Clone(journals)
	for _, room := range rooms {
		known = append(known, room.Name)
	}
	results, err := forgetNotes(r.Config.StateDir, known, time.Now())
	var all []metrics.Change
	for _, result := range results {
		all = append(all, metrics.Jobs.Add(result, 1))
	}
	book(r.Config, r.Log).Count(all...)
	return err
}

// again is how long the passes of prepares leave a room alone that could not
// be ended: its provider may be away for hours, and jobs come by the second.
const again = 5 * time.Minute

// Quick is the pass of a prepare, beside its own work: it ends the rooms whose
// journals say that their job is over, and leaves all else to Reap. It begins
// with no room once next has ended.
func (r *Reaper) Quick(ctx, next context.Context) error {
	journals, err := secret.Rooms(r.Config.DataDir)
	failed := []error{err}
	for _, room := range journals {
		if next.Err() != nil {
			break
		}
		if time.Since(lastEnding(r.Config.DataDir, room)) > again {
			failed = append(failed, r.byJournal(ctx, room))
		}
	}
	return oneLine(failed)
}

// byJournal ends a room if its journal, which is ours alone meanwhile, says
// that its job is over. One that says nothing is secret.ErrMute.
func (r *Reaper) byJournal(ctx context.Context, room string) error {
	if !validRoom(room) {
		return notOurs(r.Config.DataDir, room)
	}
	journal, err := secret.Find(r.Config.DataDir, room, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist): // somebody was first
		return nil
	case errors.Is(err, secret.ErrLocked):
		fmt.Fprintf(r.Out, "%s: left alone, another process works on its leases\n", room)
		return nil
	case err != nil:
		return err
	}
	why := journal.Over(fault.Now())
	if why == "" {
		return errors.Join(journal.Mute, journal.Keep())
	}
	if err := fault.At("reap.found"); err != nil {
		return errors.Join(err, journal.Keep())
	}
	r.Log.WithField("room", room).WithField("why", why).Info("job is over")
	return r.told(room, func() (Ended, error) { return r.finisher(byReap).finish(ctx, room, why, journal, nil) })
}

func (r *Reaper) finisher(by string) finisher {
	return finisher{r.Config, r.Engine, r.Log, by, r.Audit, r.Full}
}

// byLabel ends a room that had no journal a moment ago, or one that is mute. One that is there now
// is of a prepare that has just begun.
func (r *Reaper) byLabel(ctx context.Context, room string) error {
	journal, err := secret.Find(r.Config.DataDir, room, 0)
	switch {
	case journal != nil && journal.Mute == nil:
		return journal.Keep()
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	case journal == nil && !errors.Is(err, secret.ErrMute):
		return nil
	}
	return r.told(room, func() (Ended, error) {
		return r.finisher(byReap).finish(ctx, room, "its deadline has passed", journal, err)
	})
}

// End ends one room now, whatever runs in it, and says what that was.
func (r *Reaper) End(ctx context.Context, room string) error {
	return r.told(room, func() (Ended, error) { return r.finisher("room wipe").Finish(ctx, room, "an admin said so") })
}

func (r *Reaper) told(room string, end func() (Ended, error)) error {
	ended, err := end()
	logLeases(r.Log, ended.Leases)
	fmt.Fprintf(r.Out, "%s: removed %d things", room, len(ended.Evidence.Removed))
	if n := len(ended.Leases); n > 0 {
		revoked := 0
		for _, e := range ended.Leases {
			if e.Outcome == secret.Revoked {
				revoked++
			}
		}
		fmt.Fprintf(r.Out, ", revoked %d of %d leases", revoked, n)
	}
	fmt.Fprintln(r.Out)
	return err
}

// sweep destroys what stores keep of versions whose time is over.
func (r *Reaper) sweep(ctx context.Context) error {
	for _, c := range r.Config.Providers {
		if c.Kind != "store" {
			continue
		}
		p, err := r.Full.providers(r.Config.DataDir)(c)
		if err != nil {
			return err
		}
		if s, ok := p.(interface {
			Sweep(context.Context) (int, error)
		}); ok {
			if _, err := s.Sweep(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// Rooms are the names of all rooms of which there is something: on the
// engine, or a journal of leases.
func (r *Reaper) Rooms(ctx context.Context) ([]string, error) {
	names, err := secret.Rooms(r.Config.DataDir)
	if err != nil {
		return nil, err
	}
	rooms, err := r.Engine.Rooms(ctx)
	for _, room := range rooms {
		names = append(names, room.Name)
	}
	slices.Sort(names)
	return slices.Compact(names), err
}
