package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// A room that is made ahead of its job has all that takes the engine long:
// volumes, running containers, wires. What it lacks is what a job brings. Its
// inits listen and have no key: nobody has told them anything, for an init
// takes the key of the first who speaks to it, and from then on hears no other.
// That is how Make knows that it is the first.

// errUsed is an init that somebody has spoken to.
var errUsed = errors.New("somebody has spoken to its init")

// errUnfit is why Make does not take a room.
type errUnfit struct{ error }

func (e errUnfit) Unwrap() error { return e.error }

// unfit is err as an errUnfit, if another room would be of any use.
func unfit(ctx context.Context, err error) error {
	if errors.Is(err, sandbox.ErrUser) || ctx.Err() != nil {
		return err
	}
	return errUnfit{err}
}

// Stock makes a room without a job.
func (e *Engine) Stock(ctx context.Context, room sandbox.Spec, w io.Writer) (print string, err error) {
	if len(room.Services) > 0 {
		return "", errors.New("a room with services cannot be made ahead: their commands run from the beginning")
	}
	w = &lockedWriter{w: w}
	if err := e.ownState(); err != nil {
		return "", err
	}
	end, err := e.clear(ctx, room.Name)
	if err != nil {
		return "", err
	}
	defer end() // unless we are killed
	l, err := e.layOut(ctx, room, w)
	if err != nil {
		return "", err
	}
	if print, err = e.print(room, l); err != nil {
		return "", err
	}
	if err := e.furnish(ctx, room, l); err != nil {
		return "", err
	}
	var all [2]*running
	g, gctx := errgroup.WithContext(ctx)
	for i, p := range l.plans {
		g.Go(func() (err error) {
			if all[i], err = e.prepare(gctx, room, p); err == nil {
				err = all[i].begin(gctx, room)
			}
			if err == nil {
				err = all[i].listens(gctx, room.EntrypointTimeout)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return "", err
	}
	owners := map[string]string{}
	for _, p := range l.plans {
		if !isRoot(p.user) && !numeric(p.user) {
			owners[p.picture.id+" "+p.user] = p.owner
		}
	}
	return print, e.keepWays(room, found{Stock: &scouted{Engine: *e.learned, Owners: owners}}, all[0], all[1])
}

// listens waits until init can be reached, and says nothing to it. Over an exec
// only speaking would tell: then whoever takes the room waits.
func (r *running) listens(ctx context.Context, timeout time.Duration) error {
	if r.way.Socket == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errMute)
	defer cancel()
	conn, err := r.engine.dial(ctx, r.way)
	if err != nil {
		return fmt.Errorf("container %s: %w", r.name, err)
	}
	return conn.Close()
}

// Fits tells whether what Stock made is what Make would make now.
func (e *Engine) Fits(ctx context.Context, room sandbox.Spec, print string) (bool, error) {
	e.recallOwners(room.Name)
	l, err := e.layOut(ctx, room, io.Discard)
	if err != nil {
		return false, err
	}
	now, err := e.print(room, l)
	return now == print, err
}

// scouted is what Stock found out, for whoever takes the room.
type scouted struct {
	Engine learned           `json:"engine"`
	Owners map[string]string `json:"owners,omitempty"` // what the names of users stand for, by image
}

// recallStock spares looks into images, and waiting for the engine to tell of
// itself, which takes it long: meanwhile it is taken for what it was when the room
// was made. still waits, and is an error if it is not.
func (e *Engine) recallStock(ctx context.Context, room string) (still func() error) {
	was := e.recallOwners(room)
	if was == nil {
		return func() error { return nil } // then it is asked first
	}
	e.asking.Lock()
	defer e.asking.Unlock()
	e.learned = &was.Engine
	asked := make(chan error, 1)
	go func() {
		now, err := e.about(ctx)
		if err == nil && *now != was.Engine {
			err = errors.New("the engine is not set up as it was when the room was made")
		}
		asked <- err
	}()
	return func() error { return <-asked }
}

// recallOwners spares looks into images; nil: nothing is known of the room.
func (e *Engine) recallOwners(room string) *scouted {
	f, _ := e.remembered(room)
	if f.Stock == nil {
		return nil
	}
	for known, owner := range f.Stock.Owners {
		e.owners.Store(known, owner)
	}
	return f.Stock
}

// take has a job move into a room that Stock made, once the engine is known to be
// still the same. An errUnfit says why it cannot: then another room has to be made.
func (e *Engine) take(ctx context.Context, room sandbox.Spec, l layout, still func() error, w io.Writer) error {
	if len(room.Services) > 0 {
		return errUnfit{errors.New("the job has services")}
	}
	now, err := e.print(room, l)
	if err != nil {
		return err
	}
	if now != room.Stocked.Print {
		return errUnfit{errors.New("an image, the configuration or what the job asks for is not what it was made by")}
	}
	if err := still(); err != nil {
		return unfit(ctx, err)
	}
	if err := fault.At("room.fits"); err != nil {
		return err
	}
	var all [2]*running
	g := new(errgroup.Group)
	for i, p := range l.plans {
		g.Go(func() (err error) {
			all[i], err = e.adopt(ctx, room, p, w)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return unfit(ctx, err)
	}
	if err := e.keepWays(room, found{}, all[0], all[1]); err != nil {
		return err
	}
	return fault.At("room.taken")
}

// adopt boots a container whose init has waited for it.
func (e *Engine) adopt(ctx context.Context, room sandbox.Spec, p plan, w io.Writer) (*running, error) {
	way, err := e.recall(ctx, room.Name, p.role)
	if err != nil {
		return nil, err
	}
	r := &running{plan: p, id: way.ID, way: way, output: newTail(nil), gone: ctx, fresh: true, engine: e}
	if len(r.argv()) > 0 { // then something will speak, and can end; init itself does neither
		if p.role != sandbox.Job {
			w = nil
		}
		if err := r.watch(ctx, w); err != nil {
			return nil, err
		}
	}
	if err := r.bootUp(room); err != nil {
		return nil, err
	}
	return r, fault.At("room.adopted")
}

// print is a hash of all that decides what a room is before its job comes: of
// what the engine is told of it, but for labels, and of the files of this
// machine that it is given.
func (e *Engine) print(room sandbox.Spec, l layout) (string, error) {
	room.Labels, room.Deadline = nil, time.Time{}
	type one struct {
		Name     string
		Config   *container.Config
		Host     *container.HostConfig
		Network  *network.NetworkingConfig
		Platform string
		Also     []string
		Wired    bool
		Files    []string
	}
	all := struct {
		Engine        string
		Wired         bool
		Owner         string
		Profile       sandbox.Profile
		Builds, Cache sandbox.Volume
		Network       sandbox.Network
		Subnet        string
		Transport     string
		Init, Bundle  string
		Containers    []one
	}{
		Engine: fmt.Sprint(*e.learned), Wired: l.wired, Owner: l.owner, Profile: room.Profile, Builds: room.Builds, Cache: room.Cache, Network: room.Network,
		Subnet: e.options.Wires.Subnet.String(), Transport: e.options.Transport,
	}
	var err error
	if all.Init, err = identity(e.options.InitPath); err == nil && room.CABundle != "" {
		all.Bundle, err = identity(room.CABundle)
	}
	if err != nil {
		return "", err
	}
	for _, p := range l.plans {
		c, h, n := e.blueprint(room, p)
		o := one{Name: p.name, Config: c, Host: h, Network: n, Platform: p.spec.Platform, Also: p.also, Wired: p.wired}
		for _, f := range p.files {
			o.Files = append(o.Files, f.path, f.target, f.text)
		}
		all.Containers = append(all.Containers, o)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return "", fmt.Errorf("room %s: %w", room.Name, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// identity tells a file from another that took its place: a room has the one
// that it was made with.
func identity(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(path, st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()), nil
}
