package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/store"
	"cleanroom/sandbox"
)

// Reaper ends rooms that no cleanup has ended.
type Reaper struct {
	Config config.Config
	Engine sandbox.Engine
	Log    *logrus.Entry
	Out    io.Writer // a line a room, for the admin
}

// Reap ends every room whose job is certainly over: by its journal of leases
// the runner is gone or the deadline has passed, or by the engine's label the
// deadline has. A room that cannot be ended is no reason to leave the others.
func (r *Reaper) Reap(ctx context.Context) error {
	over, err := r.over(ctx)
	failed := []error{err}
	for _, room := range over {
		failed = append(failed, r.End(ctx, room, false))
	}
	return errors.Join(append(failed, r.sweep(ctx))...)
}

// sweep destroys what stores keep of versions whose time is over.
func (r *Reaper) sweep(ctx context.Context) error {
	for _, c := range r.Config.Providers {
		if c.Kind != "store" {
			continue
		}
		s, err := store.New(c, r.Config.DataDir)
		if err != nil {
			return err
		}
		if _, err := s.Sweep(ctx); err != nil {
			return err
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

// over are the rooms to end, each once.
func (r *Reaper) over(ctx context.Context) ([]string, error) {
	rooms, failed := r.Engine.Rooms(ctx)
	slices.SortFunc(rooms, func(a, b sandbox.RoomInfo) int { return a.Created.Compare(b.Created) })
	var over []string
	for _, room := range rooms {
		if time.Now().After(room.Deadline) {
			over = append(over, room.Name)
		}
	}
	journals, err := secret.Rooms(r.Config.DataDir)
	failed = errors.Join(failed, err)
	for _, room := range journals {
		journal, err := secret.Find(r.Config.DataDir, room, false)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, secret.ErrLocked): // ended, or being worked on
			continue
		case err != nil:
			failed = errors.Join(failed, err)
			continue
		}
		why := journal.Over(time.Now())
		failed = errors.Join(failed, journal.Keep())
		if why != "" && !slices.Contains(over, room) {
			r.Log.WithField("room", room).WithField("why", why).Info("job is over")
			over = append(over, room)
		}
	}
	return over, failed
}

// End ends one room now, whatever runs in it, and says what that was.
func (r *Reaper) End(ctx context.Context, room string, wait bool) error {
	ended, err := Finish(ctx, r.Config, r.Engine, room, wait)
	if errors.Is(err, secret.ErrLocked) {
		fmt.Fprintf(r.Out, "%s: left alone, another process ends it\n", room)
		return nil
	}
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
