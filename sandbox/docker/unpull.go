package docker

import (
	"context"
	"fmt"
	"slices"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"

	"cleanroom/sandbox"
	"cleanroom/sandbox/docker/pulled"
)

// removePulled removes what a room pulled with a login, and what is left of
// such pulls, unless another room uses it.
func (e *Engine) removePulled(ctx context.Context, room string, ev *sandbox.Evidence) error {
	if record, err := e.book().Read(); err != nil || !record.Concerns(room) {
		return err
	}
	return e.change(ctx, func(ctx context.Context, r *pulled.Record, engine string) error {
		present, err := e.list(ctx)
		if err != nil {
			return err
		}
		for _, i := range r.Leave(room, engine, present, time.Now()) {
			removed, left := e.removeImage(ctx, i.Image)
			ev.Removed = append(ev.Removed, removed...)
			if left == nil {
				if _, err := e.api.ImageInspect(ctx, i.ID); cerrdefs.IsNotFound(err) {
					r.Forget(i.ID, engine)
				}
			} else if i.Mine { // of others the next wipe takes care
				ev.Left = append(ev.Left, *left)
			}
		}
		if n := len(ev.Left); n > 0 { // the next wipe of this room must know as much
			return fmt.Errorf("%d are left, first %s: %s", n, ev.Left[0].Name, ev.Left[0].Why)
		}
		return nil
	})
}

// removeImage takes away the names that logins brought, and looks again; with
// the last name the image goes. One that an admin gave it stays, and so does
// the image.
func (e *Engine) removeImage(ctx context.Context, i pulled.Image) (removed []sandbox.Item, left *sandbox.Item) {
	name, why := i.ID, "its names come back"
	for range 100 { // more than it has
		p, err := e.api.ImageInspect(ctx, i.ID)
		if cerrdefs.IsNotFound(err) {
			return removed, nil
		}
		if err == nil {
			all := slices.Concat(p.RepoTags, p.RepoDigests)
			ours := slices.DeleteFunc(slices.Clone(all), i.Theirs)
			switch {
			case len(ours) > 0:
				name = ours[0]
			case len(all) > 0:
				return removed, nil
			default:
				name = i.ID
			}
			_, err = e.api.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
		}
		if err == nil {
			removed = append(removed, sandbox.Item{Kind: "image", Name: name})
		} else if !cerrdefs.IsNotFound(err) {
			why = err.Error()
			break
		}
	}
	return removed, &sandbox.Item{Kind: "image", Name: name, Why: why}
}
