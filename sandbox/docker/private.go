package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/pulled"
)

// An image that somebody's login brought stays on the engine, where no
// registry guards it any more. So it is given away only when its registry,
// asked with the login of who wants it, says so.

func (e *Engine) book() pulled.Book { return pulled.Book{Kept: e.options.Pulled} }

// change alters the record, with the engine's ID at hand.
func (e *Engine) change(ctx context.Context, change func(ctx context.Context, r *pulled.Record, engine string) error) error {
	if err := e.learn(ctx); err != nil {
		return err
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	return e.book().Change(ctx, func(r *pulled.Record) error { return change(ctx, r, e.learned.ID) })
}

// list is every image of the engine.
func (e *Engine) list(ctx context.Context) (all []pulled.Present, err error) {
	found, err := e.api.ImageList(ctx, image.ListOptions{All: true})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	for _, i := range found {
		all = append(all, pulled.Present{ID: i.ID, Tags: i.RepoTags, Digests: i.RepoDigests})
	}
	return all, nil
}

// withheldError is of an image that is present, and not for this job. Its
// words are for the job's author.
type withheldError struct{ error }

func (e withheldError) Unwrap() error { return e.error }

// present finds an image that is on the engine and that this job may have.
func (e *Engine) present(ctx context.Context, c sandbox.Container, ref reference.Named, spec sandbox.Spec, w io.Writer) (picture, error) {
	p, err := e.inspect(ctx, c, ref.String())
	if err != nil {
		return picture{}, err
	}
	return p, e.give(ctx, c, ref, p, spec, w)
}

// give fails where an image is private and not for this job.
func (e *Engine) give(ctx context.Context, c sandbox.Container, ref reference.Named, p picture, spec sandbox.Spec, w io.Writer) error {
	record, err := e.book().Read() // after the image was seen: see there
	if err != nil {
		return fmt.Errorf("image %s: %w", c.Image, err)
	}
	private := record.Private(pulled.Present{ID: p.id, Digests: p.digests}, ref.Name())
	if len(private) == 0 {
		return nil
	}
	if err := e.ask(ctx, c, p, offers(ref, p, private)); err != nil {
		return withheldError{withheld(c.Image, err)}
	}
	sayf(w, "Image %s was pulled with a login, and this job may have it: its registry says so", c.Image)
	if !e.options.RemovePulled {
		return nil
	}
	return e.change(ctx, func(ctx context.Context, r *pulled.Record, engine string) error {
		if _, err := e.inspect(ctx, c, p.id); err != nil { // removed meanwhile
			return err
		}
		r.Use(p.id, engine, spec.Name, spec.Deadline)
		return nil
	})
}

func withheld(name string, err error) error {
	if errors.Is(err, sandbox.ErrUser) {
		return userErrorf("image %s is on this runner, but a login brought it and its registry refuses it to this job (%w): give the job a login with DOCKER_AUTH_CONFIG, or use another image", name, err)
	}
	return fmt.Errorf("image %s is on this runner, but a login brought it and its registry does not say now that this job may have it: %w", name, err)
}

// offer is one answer that would do: whoever gets this may have the image.
type offer struct {
	from  reference.Canonical
	named bool // by the job itself
}

// offers are the digests of an image in the repository that the job names, and
// in those that logins brought it from.
func offers(ref reference.Named, p picture, private []pulled.Source) (all []offer) {
	add := func(name string, named bool) {
		parsed, _ := reference.ParseNormalizedNamed(name)
		from, ok := parsed.(reference.Canonical)
		if ok && !slices.ContainsFunc(all, func(o offer) bool { return o.from.String() == from.String() }) {
			all = append(all, offer{from, named})
		}
	}
	for _, d := range p.digests {
		if n, err := reference.ParseNormalizedNamed(d); err == nil && n.Name() == ref.Name() {
			add(d, true)
		}
	}
	for _, s := range private {
		add(s.Repository+"@"+s.Digest, s.Repository == ref.Name())
	}
	return all
}

// errOther stands for what the registry of another name said: that name is
// not this job's to know.
var errOther = errors.New("under the name that it was pulled by")

// ask asks registries until one gives its offer. One that refuses is the
// job's to mend, all else is not.
func (e *Engine) ask(ctx context.Context, c sandbox.Container, p picture, offers []offer) error {
	ctx, cancel := e.short(ctx)
	defer cancel()
	failures := make([]error, len(offers)) // the named offer's first: it tells the author more
	answered := make(chan int, len(offers))
	for i, o := range offers {
		go func() {
			err := e.askFor(ctx, c, p, o.from)
			switch {
			case err == nil:
			case !refused(err) && !o.named:
				err = fmt.Errorf("registry out of reach, %w", errOther)
			case !refused(err):
			case !o.named:
				err = userErrorf("refused %w", errOther)
			default:
				err = userError{err}
			}
			failures[i] = err
			answered <- i
		}()
	}
	for range offers {
		if failures[<-answered] == nil {
			return nil
		}
	}
	return worst(failures)
}

// askFor asks one registry for one digest, as this job and as nobody at the
// same time: what everybody may have needs no asking again.
func (e *Engine) askFor(ctx context.Context, c sandbox.Container, p picture, from reference.Canonical) error {
	auth, _, err := login(ctx, c, from)
	if err != nil {
		return err
	}
	var g errgroup.Group
	var mine error
	if auth != "" {
		g.Go(func() error {
			mine = e.has(ctx, from, auth)
			return nil
		})
	}
	anybody := e.has(ctx, from, "")
	_ = g.Wait()
	switch {
	case anybody == nil:
		_ = e.opened(ctx, p.id, from.Name()) // else the next one asks again
		return nil
	case auth == "":
		return anybody
	}
	return mine
}

// has asks a registry whether it has an image for a login. The engine's own
// store is not asked.
func (e *Engine) has(ctx context.Context, image reference.Named, auth string) error {
	ctx, cancel := e.short(ctx)
	defer cancel()
	_, err := e.api.DistributionInspect(ctx, image.String(), auth)
	return err
}

// opened notes that everybody may have what a login brought once.
func (e *Engine) opened(ctx context.Context, id, repository string) error {
	return e.change(ctx, func(_ context.Context, r *pulled.Record, _ string) error {
		r.Opened(id, repository, time.Now().UTC())
		return nil
	})
}
