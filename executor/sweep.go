package executor

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"cleanroom/executor/pool"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// Sweep throws away what no job would be given any more, and what those left
// who were killed while they made a room or threw one away.
func (s *Stocker) Sweep(ctx context.Context) error {
	p := s.books()
	if !p.Exists() {
		return nil
	}
	failed := []error{p.Abandoned()}
	ready, err := p.Ready() // before the engine is asked: each of them is there then, or taken
	failed = append(failed, err)
	rooms, err := s.Engine.Rooms(ctx)
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	for _, e := range ready {
		if why := s.stale(ctx, e, rooms); why != "" && ctx.Err() == nil {
			failed = append(failed, s.expire(ctx, e, why))
		}
	}
	gone, err := p.Gone()
	failed = append(failed, err)
	for _, room := range gone {
		failed = append(failed, s.wipe(ctx, room, "it was left half made, or half wiped"))
	}
	for _, room := range rooms {
		if pool.Named(room.Name) {
			failed = append(failed, s.orphan(ctx, room))
		}
	}
	return errors.Join(append(failed, p.Tidy())...)
}

// stale says why no job would be given a room.
func (s *Stocker) stale(ctx context.Context, e pool.Entry, rooms []sandbox.RoomInfo) string {
	id, err := s.books().ID()
	key := ""
	if err == nil {
		key, err = keyOf(s.Config, s.Version, id, e.Kind)
	}
	switch {
	case s.Config.Pool.Size == 0:
		return "there is no pool any more"
	case e.Print == "":
		return "nobody can tell what it is"
	case e.Made.After(fault.Now()):
		return "the clock was set back since it was made"
	case fault.Now().Sub(e.Made) > s.Config.Pool.Age:
		return "it has waited for pool.age"
	case err != nil || key != e.Key:
		return "the configuration, the rules or this program are others"
	case !slices.ContainsFunc(rooms, func(r sandbox.RoomInfo) bool { return r.Name == e.Room && r.Running && !r.Stopped }):
		return "it does not run"
	}
	switch fits, err := s.Engine.Fits(ctx, s.spec(e, id, false), e.Print); {
	case errors.Is(err, sandbox.ErrUser):
		return "its image is gone"
	case err != nil: // the engine does not say: then a job will see
		s.Log.WithError(err).WithField("room", e.Room).Warn("pool: whether the room is up to date is not known")
	case !fits:
		return "its image, or what else it was made of, is another"
	}
	return ""
}

// orphan ends a room that the engine has and no books. Of another pool nothing
// is known: it is left until its deadline, or until it has not run for long.
func (s *Stocker) orphan(ctx context.Context, room sandbox.RoomInfo) error {
	known, err := s.books().Known(room.Name)
	if known || err != nil {
		return ofPool(room.Name, err)
	}
	if journal, err := secret.Find(s.Config.DataDir, room.Name, 0); !errors.Is(err, fs.ErrNotExist) { // a job's
		if journal != nil {
			return journal.Keep()
		}
		return nil
	}
	id, err := s.books().ID()
	switch {
	case err != nil:
		return err
	case room.Labels["cleanroom.pool"] == id, passed(room, fault.Now()), !room.Running && time.Since(room.Created) > time.Hour:
		return s.wipe(ctx, room.Name, "nobody has it on the books")
	}
	return nil
}

// byPool ends the rooms that jobs had claimed and whose prepare never came, and
// what Sweep finds.
func (r *Reaper) byPool(ctx context.Context) error {
	p := pool.Of(r.Config.StateDir)
	s := &Stocker{Config: r.Config, Engine: r.Engine, Log: r.Log, Out: r.Out, Version: r.Version}
	failed := []error{s.Sweep(ctx)}
	taken, err := p.Taken()
	failed = append(failed, err)
	for _, room := range taken {
		failed = append(failed, ofPool(room, r.unprepared(ctx, p, room)))
	}
	return errors.Join(failed...)
}

// unprepared ends a claim of a job of which there is nothing else. The lock
// keeps its prepare from beginning meanwhile; of one that has begun, the journal
// tells.
func (r *Reaper) unprepared(ctx context.Context, p pool.Pool, room string) error {
	held, err := p.Hold(room, 0)
	if held == nil || errors.Is(err, pool.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer held.Release()
	if data := held.Claimant.Data; data != "" && data != r.Config.DataDir {
		return nil // its journal is where we cannot see it; its own reap ends it
	}
	if journal, err := secret.Find(r.Config.DataDir, room, 0); !errors.Is(err, fs.ErrNotExist) {
		if journal != nil {
			return journal.Keep()
		}
		return nil // somebody has it, or byJournal has told
	}
	if !held.Late() {
		return nil
	}
	return r.told(room, func() (Ended, error) {
		return r.finisher(byReap).finish(ctx, room, "a job claimed it and never came", nil, nil)
	})
}
