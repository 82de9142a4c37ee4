package executor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/pool"
	"cleanroom/executor/registry"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// Stocker makes rooms ahead of their jobs, and throws them away. It knows the
// configuration and which kinds of rooms jobs had, and no job.
type Stocker struct {
	Config  config.Config
	Engine  sandbox.Engine
	Log     *logrus.Entry
	Out     io.Writer // a line a room, for the admin
	Version string
}

func (s *Stocker) books() pool.Pool { return pool.Of(s.Config.StateDir) }

const (
	assumed   = 64 << 20        // bytes that a room holds of which none was measured
	failedFor = 5 * time.Minute // how long no other room is tried of a kind that could not be made
)

// Fill throws away what no job would be given, and makes what is missing: rooms
// of the kinds that jobs had last, and for pool.images. For an admin it waits for
// another process that fills, and pulls images that are missing; else there is
// nothing to do then, as that one looks again when it is done.
func (s *Stocker) Fill(ctx context.Context, admin bool) error {
	p := s.books()
	for {
		lock, err := p.Lock(ctx, admin)
		if errors.Is(err, durable.ErrHeld) {
			return nil
		}
		if err != nil {
			return err
		}
		before := s.latest()
		swept := s.Sweep(ctx)
		more, err := s.fill(ctx, admin)
		err = errors.Join(swept, err, lock.Unlock())
		if err != nil || ctx.Err() != nil || !more && !s.latest().After(before) {
			return oneLine([]error{err})
		}
	}
}

// latest is when a job last had a room.
func (s *Stocker) latest() (at time.Time) {
	if all, _ := s.books().Wishes(); len(all) > 0 {
		at = all[0].At
	}
	return at
}

// wishes are the kinds of rooms that are to wait, the most wanted first: the
// admin's, then those that jobs had last.
func (s *Stocker) wishes(all bool) (found []pool.Wish, err error) {
	p := s.books()
	id, err := p.ID()
	if err != nil {
		return nil, err
	}
	known, err := p.Wishes()
	if err != nil {
		return nil, err
	}
	helper := s.Config.Images.Helper
	if helper == "" && len(known) > 0 {
		helper = known[0].Kind.Helper
	}
	if len(s.Config.Pool.Images) > 0 && helper == "" && all {
		return nil, errors.New("pool.images needs images.helper, as no job has told yet which runner's helper image it has: set it")
	}
	var wanted []pool.Wish
	for _, image := range s.Config.Pool.Images {
		if helper != "" {
			wanted = append(wanted, pool.Wish{Kind: pool.Kind{Image: image, Helper: helper, Profile: s.Config.Profile}})
		}
	}
	since := fault.Now().Add(-s.Config.Pool.Age)
	for n, w := range append(wanted, known...) {
		if w.Key, err = keyOf(s.Config, s.Version, id, w.Kind); err != nil {
			return nil, err
		}
		i := slices.IndexFunc(found, func(o pool.Wish) bool { return o.Key == w.Key })
		switch {
		case i < 0 && (n < len(wanted) || !w.At.Before(since)):
			found = append(found, w)
		case i >= 0 && found[i].At.IsZero(): // an admin's, of which the books tell more
			found[i] = w
		}
	}
	return found, nil
}

// fill makes what is missing, as far as there is place. more: a kind was measured
// for the first time, and there may be place for more.
func (s *Stocker) fill(ctx context.Context, pull bool) (more bool, err error) {
	if s.Config.Pool.Size == 0 {
		return false, nil
	}
	p := s.books()
	wishes, err := s.wishes(pull)
	if err != nil {
		return false, err
	}
	ready, err := p.Ready()
	if err != nil {
		return false, err
	}
	place := places(wishes, s.Config.Pool, s.Config.Sizes().Pool)
	var failed []error
	for _, e := range slices.Backward(ready) { // of what there is no place for the oldest goes
		i := slices.IndexFunc(wishes, func(w pool.Wish) bool { return w.Key == e.Key })
		if i >= 0 && e.Until.Before(fault.Now().Add(wishes[i].Timeout+deadlineGrace)) {
			failed = append(failed, s.expire(ctx, e, "jobs may take longer than it lasts"))
		} else if place[e.Key]--; place[e.Key] < 0 {
			failed = append(failed, s.expire(ctx, e, "there is no place for it"))
		}
	}
	for _, w := range wishes {
		if !pull && time.Since(w.Failed) < failedFor {
			continue
		}
		for range max(0, place[w.Key]) {
			if ctx.Err() != nil {
				return false, errors.Join(append(failed, ctx.Err())...)
			}
			room, err := s.one(ctx, w, pull)
			if err != nil {
				w.Failed = time.Now()
				failed = append(failed, fmt.Errorf("image %s: %w", w.Kind.Image, err), p.Want(w))
				break
			}
			if w.Memory == 0 {
				w.Memory = s.measure(ctx, w, room)
				more = more || w.Memory > 0
			}
		}
	}
	return more, errors.Join(failed...)
}

// places are how many rooms of each kind may wait, by its key, where all may hold
// so much memory.
func places(wishes []pool.Wish, c config.Pool, memory int64) map[string]int {
	place, left := map[string]int{}, c.Max
	unknown := min(assumed, memory) // one of the first kind at least is made, and measured
	for _, w := range wishes {
		each := cmp.Or(w.Memory, unknown)
		n := min(c.Size, left, int(memory/each))
		place[w.Key], left, memory = n, left-n, memory-int64(n)*each
	}
	return place
}

func (s *Stocker) one(ctx context.Context, w pool.Wish, pull bool) (room string, err error) {
	p := s.books()
	id, err := p.ID()
	if err != nil {
		return "", err
	}
	until := fault.Now().Add(s.Config.Pool.Age + max(w.Timeout, timeout(&contract.Job{})) + deadlineGrace)
	f, err := p.Fill(w.Key, w.Kind, until)
	if err != nil {
		return "", err
	}
	began := time.Now()
	print, err := s.Engine.Stock(ctx, s.spec(f.Entry, id, pull), io.Discard)
	done := false
	if err == nil {
		done, err = f.Done(print)
	} else {
		err = errors.Join(err, f.Fail())
	}
	if !done {
		return "", errors.Join(err, s.wipe(context.WithoutCancel(ctx), f.Room, "it could not be made"))
	}
	s.Log.WithField("room", f.Room).WithField("image", w.Kind.Image).Info("room made ahead")
	fmt.Fprintf(s.Out, "%s: made for %s, %s (%.1f s)\n", f.Room, w.Kind.Image, w.Kind.Profile, time.Since(began).Seconds())
	return f.Room, nil
}

// spec is a room of a kind, without a job.
func (s *Stocker) spec(e pool.Entry, id string, pull bool) sandbox.Spec {
	x := &Executor{Config: s.Config}
	r := x.walls(e.Room, sandbox.Profile(e.Kind.Profile), e.Kind.Cache)
	r.Deadline = e.Until
	r.Labels = map[string]string{"pool": id, "clock": contract.ClockIn(time.Until(e.Until)).String()}
	policies := []string{"never"} // pulling is for jobs, and admins
	if pull {
		policies = append([]string{"if-not-present"}, policies...)
		auth := registry.Sources{Admin: s.Config.Images.AuthConfig}.Find // the admin's own login, no job's
		r.Helper.Auth, r.Job.Auth = auth, auth
	}
	r.Helper.Image, r.Helper.PullPolicies = e.Kind.Helper, policies
	r.Job.Image, r.Job.PullPolicies = e.Kind.Image, policies
	r.Job.User, r.Job.Platform = e.Kind.User, e.Kind.Platform
	return r
}

// measure notes what a room of a kind holds while it waits.
func (s *Stocker) measure(ctx context.Context, w pool.Wish, room string) int64 {
	usage, err := s.Engine.Usage(ctx)
	if u := usage[room]; err == nil && u.Known && u.Memory > 0 {
		w.Memory = u.Memory
		err = s.books().Want(w)
	}
	if err != nil {
		s.Log.WithError(err).Warn("pool: what a room holds is not known")
	}
	return w.Memory
}

// expire throws a room away, unless a job was first.
func (s *Stocker) expire(ctx context.Context, e pool.Entry, why string) error {
	ok, err := s.books().Expire(e)
	if !ok || err != nil {
		return ofPool(e.Room, err)
	}
	return s.wipe(ctx, e.Room, why)
}

// wipe ends a room that is off the list.
func (s *Stocker) wipe(ctx context.Context, room, why string) error {
	evidence, err := s.Engine.Wipe(ctx, room)
	if err == nil {
		err = fault.At("expire.wiped")
	}
	if err == nil {
		err = s.books().Forget(room)
	}
	if err != nil {
		return ofPool(room, err)
	}
	if n := len(evidence.Removed); n > 0 {
		fmt.Fprintf(s.Out, "%s: removed %d things, %s\n", room, n, why)
		s.Log.WithField("room", room).WithField("why", why).Info("room of the pool thrown away")
	}
	return nil
}

func ofPool(room string, err error) error {
	if err != nil {
		return fmt.Errorf("room %s of the pool: %w", room, err)
	}
	return nil
}

// Drain throws away all rooms that wait; while it does nobody makes any.
func (s *Stocker) Drain(ctx context.Context) error {
	lock, err := s.books().Lock(ctx, true)
	if err != nil {
		return err
	}
	all, err := s.books().Ready()
	failed := []error{err}
	for _, e := range all {
		failed = append(failed, s.expire(ctx, e, "an admin said so"))
	}
	return oneLine(append(failed, s.Sweep(ctx), lock.Unlock()))
}

// Ready are the rooms that wait, oldest first.
func (s *Stocker) Ready() ([]pool.Entry, error) { return s.books().Ready() }
