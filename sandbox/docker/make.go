package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// Make builds the room whole, all that can at the same time.
func (e *Engine) Make(ctx context.Context, room sandbox.Spec, w io.Writer) error {
	w = &lockedWriter{w: w}
	if err := e.ownState(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // ends the attached streams and the watching
	end := func() {}
	defer func() { end() }() // unless we are killed
	var still func() error
	if room.Stocked == nil {
		var err error
		if end, err = e.clear(ctx, room.Name); err != nil {
			return err
		}
	} else {
		still = e.recallStock(ctx, room.Name)
	}
	l, err := e.layOut(ctx, room, w)
	if err != nil {
		return err
	}
	if room.Stocked != nil {
		err := e.take(ctx, room, l, still, w)
		if tell := room.Stocked.Told; tell != nil && (err == nil || errors.As(err, &errUnfit{})) {
			tell(err)
		}
		if !errors.As(err, &errUnfit{}) {
			return err
		}
		e.unlearn() // it may be why
		if end, err = e.clear(ctx, room.Name); err != nil {
			return err
		}
		if l, err = e.layOut(ctx, room, io.Discard); err != nil {
			return err
		}
	}
	if err := e.furnish(ctx, room, l); err != nil {
		return err
	}
	helper, job, services, err := e.populate(ctx, cancel, room, l.plans, w)
	if err != nil {
		return err
	}
	if err := e.keepWays(room, found{}, helper, job); err != nil {
		return err
	}
	if err := fault.At("room.remembered"); err != nil {
		return err
	}
	if err := waitReady(ctx, room, helper, services, w); err != nil {
		return err
	}
	return fault.At("room.services.ready")
}

// clear removes what may be there of the name, and marks the room as one that
// is being made, until end.
func (e *Engine) clear(ctx context.Context, room string) (end func(), err error) {
	go func() { _ = e.learn(ctx) }() // takes the engine long, and whoever needs it hears why not
	if _, err := e.wipe(ctx, room, e.unheardOf(room)); err != nil {
		return func() {}, fmt.Errorf("half a room of the same name: %w", err)
	}
	if end, err = e.begin(room); err != nil {
		return func() {}, err
	}
	return end, fault.At("room.marked")
}

// keepWays notes how the containers are reached from now on.
func (e *Engine) keepWays(room sandbox.Spec, f found, helper, job *running) error {
	helper.way.Files, job.way.Files = room.Helper.FilesDir, room.Job.FilesDir
	f.Helper, f.Job = helper.way, job.way
	return e.remember(room.Name, f)
}

// layout is a room that is to be, of which nothing is made.
type layout struct {
	pictures []picture // the helper's, the job's, the services'
	plans    []plan    // in the same order
	owner    string    // whose the builds are
	wired    bool      // we connect it: wiring.go
}

// layOut finds out all about a room, and makes nothing of it.
func (e *Engine) layOut(ctx context.Context, room sandbox.Spec, w io.Writer) (l layout, err error) {
	if l.pictures, l.wired, err = e.look(ctx, room, w); err != nil {
		return l, err
	}
	if err := fault.At("room.images.ready"); err != nil {
		return l, err
	}
	if err := e.bringTools(ctx, room, l.pictures[0]); err != nil {
		return l, err
	}
	if l.plans, l.owner, err = e.plans(ctx, room, l.pictures, l.wired); err != nil {
		return l, err
	}
	for _, p := range l.plans {
		if err := p.checkFiles(); err != nil {
			return l, err
		}
	}
	return l, nil
}

// look finds out what there is: the engine, how the room is to be connected,
// and the images, which it brings.
func (e *Engine) look(ctx context.Context, room sandbox.Spec, w io.Writer) (pictures []picture, wired bool, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if err = e.learn(ctx); err == nil {
			wired, err = e.settle(ctx, room)
		}
		return err
	})
	g.Go(func() (err error) {
		pictures, err = e.images(ctx, room, w)
		return err
	})
	err = g.Wait()
	return pictures, wired, err
}

// furnish makes what containers stand on: networks, volumes, files.
func (e *Engine) furnish(ctx context.Context, room sandbox.Spec, l layout) error {
	if err := e.writeFiles(room.Name, l.plans); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	if !l.wired {
		g.Go(func() error { return e.networks(gctx, room) })
	}
	g.Go(func() error { return e.volumes(gctx, room, l.pictures[0], l.owner) })
	for _, p := range l.plans {
		g.Go(func() error {
			// 0777 and not sticky: an ENTRYPOINT may change the user between
			// the two lives of init.
			return e.volume(gctx, runVolume(p.name), labels(room, "run"), fmt.Sprintf("size=%d,nr_inodes=32,mode=0777,nosuid,nodev,noexec", runSize))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if e.fixes(room) {
		return e.address(ctx, room, l.plans)
	}
	return nil
}

// images brings the helper's, the job's and the services' images, in that
// order; the same image twice is fetched once after the other, so that the
// second finds it.
func (e *Engine) images(ctx context.Context, room sandbox.Spec, w io.Writer) ([]picture, error) {
	all := append([]sandbox.Container{room.Helper, room.Job}, room.Services...)
	pictures := make([]picture, len(all))
	var mu sync.Map
	g, ctx := errgroup.WithContext(ctx)
	for i, c := range all {
		g.Go(func() error {
			l, _ := mu.LoadOrStore(c.Image, &sync.Mutex{})
			l.(*sync.Mutex).Lock()
			defer l.(*sync.Mutex).Unlock()
			p, err := e.image(ctx, c, room, w)
			pictures[i] = p
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, p := range pictures {
		role := sandbox.Service
		if i < 2 {
			role = [2]sandbox.Role{sandbox.Helper, sandbox.Job}[i]
		}
		if room.Found != nil {
			room.Found(sandbox.Picture{Role: role, Name: all[i].Image, ID: p.id, Digest: p.digest})
		}
	}
	return pictures, nil
}

// plans lays out every container; owner is whose the builds are.
func (e *Engine) plans(ctx context.Context, room sandbox.Spec, pictures []picture, wired bool) (plans []plan, owner string, err error) {
	user, owner, err := e.who(ctx, room, room.Job, pictures[1])
	if err != nil {
		return nil, "", err
	}
	resolver := e.resolver(room, wired)
	lay := func(name string, role sandbox.Role, c sandbox.Container, p picture, user, own string) {
		l := plan{name: name, role: role, spec: c, picture: p, user: user, owner: own, mounts: e.mounts(room, name, role, owner)}
		if role == sandbox.Helper || reaches(room) {
			l.bring(resolver...)
		}
		first, also := join(room, role)
		l.network, l.also = container.NetworkMode(first), also
		plans = append(plans, l)
	}
	lay(containerName(room.Name, sandbox.Helper), sandbox.Helper, room.Helper, pictures[0], owner, owner)
	lay(containerName(room.Name, sandbox.Job), sandbox.Job, room.Job, pictures[1], user, owner)
	for i, s := range room.Services {
		su, own, err := e.who(ctx, room, s, pictures[i+2])
		if err != nil {
			return nil, "", err
		}
		lay(serviceName(room.Name, i), sandbox.Service, s, pictures[i+2], su, own)
	}
	if wired {
		e.bare(room, plans)
	}
	return plans, owner, nil
}

// populate starts and boots all containers; the first that fails ends the
// others by fail, which is ctx's.
func (e *Engine) populate(ctx context.Context, fail context.CancelCauseFunc, room sandbox.Spec, plans []plan, w io.Writer) (helper, job *running, services []*running, err error) {
	all := make([]*running, len(plans))
	g := new(errgroup.Group)
	for i, p := range plans {
		g.Go(func() error {
			var shown io.Writer
			if p.role == sandbox.Job { // what its ENTRYPOINT says is for the author
				shown = w
			}
			r, err := e.launch(ctx, room, p, shown)
			if err == nil {
				all[i] = r
				err = r.bootUp(room)
			}
			if err == nil {
				err = fault.At("room.container.booted")
			}
			if err != nil {
				fail(err)
			}
			return err
		})
	}
	// The first failure is the cause; the others only heard that it is over.
	if g.Wait() != nil {
		return nil, nil, nil, context.Cause(ctx)
	}
	return all[0], all[1], all[2:], nil
}

func (r *running) bootUp(room sandbox.Spec) error {
	env := r.spec.Env
	if needsHome(room.Profile, r.plan) {
		env = append([]string{"HOME=" + homeDir}, env...)
	}
	if r.role == sandbox.Service && len(r.argv()) == 0 {
		return userErrorf("service %s has neither ENTRYPOINT nor command: name one with `command:`", r.spec.Image)
	}
	hello, err := r.boot(room, env)
	if err != nil {
		return err
	}
	if r.role == sandbox.Job && hello.ShellProblem != "" {
		return userErrorf("image %s: %s", r.spec.Image, hello.ShellProblem)
	}
	return r.handOver(hello)
}

func waitReady(ctx context.Context, room sandbox.Spec, helper *running, services []*running, w io.Writer) error {
	for _, s := range services {
		began := time.Now()
		sayf(w, "Waiting for service %s, up to %s", s.spec.Image, room.ServiceTimeout)
		if err := s.ready(ctx, room, helper); err != nil {
			return err
		}
		sayf(w, "Service %s is ready as %s (waited %.1f s)", s.spec.Image, strings.Join(s.spec.Aliases, ", "), time.Since(began).Seconds())
	}
	return nil
}

// lockedWriter lets several containers speak, a line (or a piece) at a time.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
