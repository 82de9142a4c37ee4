package docker

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// How long a wipe goes on. A request of a prepare that was killed may still be
// on its way in the engine: after one that did not end by itself nothing may
// have appeared for a while. What networks leave on this machine has a moment
// to go.
const (
	wipeTime   = 10 * time.Second
	quietTime  = 2 * time.Second
	settleTime = time.Second
)

var validName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`) })

// Wipe removes all of a room and looks again.
func (e *Engine) Wipe(ctx context.Context, room string) (sandbox.Evidence, error) {
	return e.wipe(ctx, room, false)
}

// wipe looks for what networks leave on this machine, bridges and rules, unless
// there were none: the engine has containers that we wired, or it has nothing
// and nobody began a room of that name.
func (e *Engine) wipe(ctx context.Context, room string, unheardOf bool) (sandbox.Evidence, error) {
	var ev sandbox.Evidence
	if !validName().MatchString(room) { // an empty one would mean every room, one with dots other folders
		return ev, fmt.Errorf("wipe: %q is no room's name", room)
	}
	quiet := time.Duration(0)
	if e.halfMade(room) {
		quiet = quietTime
	}
	wired, first := unheardOf, true
	end, seen := time.Now().Add(wipeTime+quiet), time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 200*time.Millisecond) {
		found, around, err := e.lookRound(ctx, room, len(ev.Removed) > 0, wired)
		if err != nil {
			return ev, err
		}
		if err := fault.At("wipe.found"); err != nil {
			return ev, err
		}
		ev.Removed, ev.Left = append(ev.Removed, around.Removed...), around.Left
		if items := found.items(); len(items) > 0 {
			if first {
				wired, first = found.wired(), false
			}
			var removed []sandbox.Item
			removed, ev.Left = e.removeAll(ctx, found)
			ev.Removed = append(ev.Removed, removed...)
			seen = time.Now()
		} else if since := time.Since(seen); since >= quiet && (len(ev.Left) == 0 || since >= settleTime) {
			break
		}
		if time.Now().After(end) || ctx.Err() != nil {
			break
		}
		time.Sleep(pause)
	}
	if err := fault.At("wipe.removed"); err != nil {
		return ev, err
	}
	if len(ev.Left) == 0 && e.options.RemovePulled { // containers, which use them, are gone
		if err := e.removePulled(ctx, room, &ev); err != nil {
			return ev, fmt.Errorf("room %s: its images: %w", room, err)
		}
	}
	if len(ev.Left) == 0 { // else the next wipe must know as much as this one
		e.forget(room, &ev)
		ev.Left = append(ev.Left, mountsOf(room)...)
	}
	if len(ev.Left) > 0 {
		return ev, fmt.Errorf("room %s: %d things are left, first %s %s: %s", room, len(ev.Left), ev.Left[0].Kind, ev.Left[0].Name, ev.Left[0].Why)
	}
	return ev, fault.At("wipe.forgotten")
}

// lookRound looks for what the engine has of a room and, when that may be
// nothing, for what its networks left on this machine; both at once where
// something was removed before, as then nothing is what is expected.
func (e *Engine) lookRound(ctx context.Context, room string, again, wired bool) (found contents, around sandbox.Evidence, err error) {
	var beside sync.WaitGroup
	if again {
		beside.Go(func() { around = e.ofNetworks(ctx, room, wired) })
	}
	found, err = e.find(ctx, room)
	beside.Wait()
	if !again && err == nil && len(found.items()) == 0 {
		around = e.ofNetworks(ctx, room, wired)
	}
	return found, around, err
}

// mountsOf are the mounts on this machine that name a room: those of its
// volumes, which the engine undoes with its containers. One that is left keeps
// a tmpfs and what is in it, whatever the engine says.
func mountsOf(room string) (left []sandbox.Item) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []sandbox.Item{{Kind: "mount", Name: "any", Why: err.Error()}}
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line) // proc_pid_mountinfo(5): the mount point is the fifth
		if len(fields) > 4 && strings.Contains(fields[4], "/"+room+"-") {
			left = append(left, sandbox.Item{Kind: "mount", Name: fields[4], Why: "still there after its container"})
		}
	}
	return left
}

// contents is what the engine has of a room.
type contents struct {
	containers []container.Summary
	volumes    []*volume.Volume
	networks   []network.Summary
}

// wired tells a room of which no container was to have a network of the
// engine's; our label stands before what an image says.
func (c contents) wired() bool {
	engines := func(c container.Summary) bool { return c.Labels[labelNetwork] != byWire }
	return len(c.containers) > 0 && len(c.networks) == 0 && !slices.ContainsFunc(c.containers, engines)
}

func (c contents) items() []sandbox.Item {
	var all []sandbox.Item
	for _, c := range c.containers {
		all = append(all, sandbox.Item{Kind: "container", Name: shown(c)})
	}
	for _, v := range c.volumes {
		all = append(all, sandbox.Item{Kind: "volume", Name: v.Name})
	}
	for _, n := range c.networks {
		all = append(all, sandbox.Item{Kind: "network", Name: n.Name})
	}
	return all
}

func shown(c container.Summary) string {
	if len(c.Names) > 0 {
		return c.Names[0][1:]
	}
	return c.ID
}

// find lists by label: of one room, or of all when room is empty.
func (e *Engine) find(ctx context.Context, room string) (contents, error) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	e.meet(ctx)
	var c contents
	f := ofRoom(room)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		c.containers, err = e.api.ContainerList(ctx, container.ListOptions{All: true, Filters: f})
		return err
	})
	g.Go(func() error {
		r, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: f})
		c.volumes = r.Volumes
		return err
	})
	g.Go(func() (err error) {
		c.networks, err = e.api.NetworkList(ctx, network.ListOptions{Filters: f})
		return err
	})
	if err := g.Wait(); err != nil {
		return contents{}, fmt.Errorf("look for rooms: %w", err)
	}
	return c.genuine(), nil
}

// genuine leaves out what only bears a room's label: an image can carry any
// label into any container of this engine, but no name.
func (c contents) genuine() contents {
	of := func(labels map[string]string, name string) bool {
		room := labels[labelRoom]
		return validName().MatchString(room) && (name == room || strings.HasPrefix(name, room+"-"))
	}
	return contents{
		containers: slices.DeleteFunc(c.containers, func(c container.Summary) bool { return !of(c.Labels, shown(c)) }),
		volumes:    slices.DeleteFunc(c.volumes, func(v *volume.Volume) bool { return !of(v.Labels, v.Name) }),
		networks:   slices.DeleteFunc(c.networks, func(n network.Summary) bool { return !of(n.Labels, n.Name) }),
	}
}

// removeAll removes containers first, for they hold the rest.
func (e *Engine) removeAll(ctx context.Context, c contents) (removed, failed []sandbox.Item) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	each := func(kind, name string, remove func() error) {
		wg.Go(func() {
			err := remove()
			mu.Lock()
			defer mu.Unlock()
			if err == nil || cerrdefs.IsNotFound(err) {
				removed = append(removed, sandbox.Item{Kind: kind, Name: name})
			} else {
				failed = append(failed, sandbox.Item{Kind: kind, Name: name, Why: err.Error()})
			}
		})
	}
	for _, c := range c.containers {
		each("container", shown(c), func() error {
			if c.State == "paused" { // gVisor's sandbox does not die frozen: the engine would forget it, and its processes stay
				_ = e.api.ContainerUnpause(ctx, c.ID)
			}
			return e.removeContainer(ctx, c.ID)
		})
	}
	wg.Wait()
	if err := fault.At("wipe.containers.gone"); err != nil {
		return removed, append(failed, sandbox.Item{Kind: "container", Name: "any", Why: err.Error()})
	}
	for _, v := range c.volumes {
		each("volume", v.Name, func() error { return e.api.VolumeRemove(ctx, v.Name, false) })
	}
	for _, n := range c.networks {
		each("network", n.Name, func() error { return e.api.NetworkRemove(ctx, n.ID) })
	}
	wg.Wait()
	return removed, failed
}

// removeContainer kills and removes one, with the anonymous volumes that its
// image declared. Somebody else's removal of the same one is waited for.
func (e *Engine) removeContainer(ctx context.Context, id string) error {
	err := e.api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if !cerrdefs.IsConflict(err) {
		return err
	}
	gone, failed := e.api.ContainerWait(ctx, id, container.WaitConditionRemoved)
	select {
	case <-gone:
		return nil
	case err := <-failed:
		if cerrdefs.IsNotFound(err) {
			return nil
		}
		return err
	}
}

// Rooms lists every room that has anything on this engine.
func (e *Engine) Rooms(ctx context.Context) ([]sandbox.RoomInfo, error) {
	all, err := e.find(ctx, "")
	if err != nil {
		return nil, err
	}
	rooms := map[string]*sandbox.RoomInfo{}
	add := func(labels map[string]string, created time.Time) {
		name := labels[labelRoom]
		r := rooms[name]
		if r == nil {
			r = &sandbox.RoomInfo{Name: name, Labels: labels, Deadline: deadline(labels), Created: created}
			rooms[name] = r
		}
		if d := deadline(labels); d.After(r.Deadline) { // a forged one can keep a room, and not have it ended
			r.Labels, r.Deadline = labels, d
		}
		if !created.IsZero() && (r.Created.IsZero() || created.Before(r.Created)) {
			r.Created = created
		}
	}
	for _, c := range all.containers {
		add(c.Labels, time.Unix(c.Created, 0))
		if c.State != container.StateExited && c.State != container.StateDead && c.State != container.StateCreated {
			rooms[c.Labels[labelRoom]].Running = true
		} else {
			rooms[c.Labels[labelRoom]].Stopped = true
		}
	}
	for _, n := range all.networks {
		add(n.Labels, n.Created)
	}
	for _, v := range all.volumes {
		t, _ := time.Parse(time.RFC3339, v.CreatedAt)
		add(v.Labels, t)
	}
	var list []sandbox.RoomInfo
	for _, r := range rooms {
		list = append(list, *r)
	}
	return list, nil
}
