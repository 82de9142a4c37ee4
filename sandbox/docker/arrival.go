package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/pulled"
)

// arrival is a pull on its way.
type arrival struct {
	engine *Engine
	ref    reference.Named
	room   sandbox.Spec
	login  bool
	pull   pulled.Pull // of a login
	before pulled.Before
	open   chan string // the digest that everybody gets, where that matters
}

// openTime bounds how long a pull that is done waits for what its registry
// tells everybody.
const openTime = 10 * time.Second

// expect writes down a pull with a login before it begins.
func (e *Engine) expect(ctx context.Context, ref reference.Named, login bool, room sandbox.Spec) (*arrival, error) {
	a := &arrival{engine: e, ref: ref, room: room, login: login, open: make(chan string, 1)}
	if !login {
		return a, nil
	}
	err := e.change(ctx, func(ctx context.Context, r *pulled.Record, engine string) error {
		now := time.Now().UTC().Round(0)
		// The engine ends a pull whose client is gone; none lasts longer.
		a.pull = pulled.Pull{Engine: engine, Room: room.Name, Image: ref.String(), Began: now, Until: now.Add(room.PullTimeout + e.options.Timeout + time.Minute)}
		present, err := e.list(ctx)
		if err == nil {
			a.before = r.Begin(a.pull, present)
		}
		return err
	})
	if err == nil && e.options.RemovePulled { // what is no project's own need not go
		go func() {
			got, _ := e.api.DistributionInspect(ctx, ref.String(), "")
			a.open <- got.Descriptor.Digest.String()
		}()
	} else {
		a.open <- ""
	}
	return a, err
}

// failed takes back what by the engine's word has brought nothing. Of any
// other failure nobody knows what the engine still does.
func (a *arrival) failed(ctx context.Context, err error) error {
	var told errPull
	if !a.login || !errors.As(err, &told) && !refused(err) {
		return nil
	}
	return a.drop(ctx)
}

func (a *arrival) drop(ctx context.Context) error {
	return a.engine.change(ctx, func(_ context.Context, r *pulled.Record, _ string) error {
		r.Drop(a.pull)
		return nil
	})
}

// errGone is a pull whose image was removed before we saw it: another room's
// wipe may think that it is nobody's.
var errGone = errors.New("removed as soon as it was pulled")

// landed finds what a pull brought.
func (a *arrival) landed(ctx context.Context, c sandbox.Container, digest string, w io.Writer) (picture, error) {
	e, whatever := a.engine, c
	whatever.Platform = "" // the platform is not what decides whether it is private
	whole, err := reference.ParseNormalizedNamed(a.ref.Name() + "@" + digest)
	if err != nil {
		return picture{}, fmt.Errorf("pull of image %s: the engine does not say what it brought (digest %.80q): cleanroom needs a Docker Engine, 20.10 or later", c.Image, digest)
	}
	var p picture
	find := func(ctx context.Context) (err error) {
		if p, err = e.inspect(ctx, whatever, whole.String()); cerrdefs.IsNotFound(err) {
			err = fmt.Errorf("pull of image %s: %w", c.Image, errGone)
		}
		return err
	}
	if a.login {
		var everybody string
		select {
		case everybody = <-a.open:
		case <-time.After(openTime):
		}
		err = e.change(ctx, func(ctx context.Context, r *pulled.Record, engine string) error {
			if err := find(ctx); err != nil {
				return err
			}
			r.Land(a.pull, a.before, p.id, digest)
			if e.options.RemovePulled {
				r.Use(p.id, engine, a.room.Name, a.room.Deadline)
			}
			if everybody == digest {
				r.Opened(p.id, whole.Name(), time.Now().UTC())
			}
			return nil
		})
		if errors.Is(err, errGone) {
			err = errors.Join(err, a.drop(ctx))
		}
	} else if err = find(ctx); err == nil {
		err = a.anonymous(ctx, c, p, w)
	}
	if err != nil {
		return picture{}, err
	}
	return e.inspect(ctx, c, p.id) // for the platform
}

// anonymous says whether a pull without a login earns what it brought.
func (a *arrival) anonymous(ctx context.Context, c sandbox.Container, p picture, w io.Writer) error {
	if digested(a.ref) {
		return a.engine.give(ctx, c, a.ref, p, a.room, w)
	}
	// A record that cannot be read keeps its images from others, not from
	// whom the registry gave one a moment ago.
	if r, err := a.engine.book().Read(); err == nil && r.Closed(p.id, a.ref.Name()) {
		_ = a.engine.opened(ctx, p.id, a.ref.Name())
	}
	return nil
}
