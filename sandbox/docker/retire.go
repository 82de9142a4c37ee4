package docker

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// While the runner ends a stage and starts the cleanup, a processor has nothing
// else to do. So the containers are told to end as soon as nothing runs in them
// any more: the wipe finds them dead, with most of the engine's work done. It
// removes them, as it kills and removes what did not hear of this.

// retireTime is how long an init may take to be reached.
const retireTime = time.Second

// Retire implements sandbox.Engine: it tells those that have a socket.
func (e *Engine) Retire(ctx context.Context, room string, key [32]byte) error {
	f, ok := e.remembered(room)
	if !ok {
		_, err := e.recall(ctx, room, sandbox.Helper)
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, retireTime)
	defer cancel()
	var both errgroup.Group
	for role, w := range map[sandbox.Role]way{sandbox.Job: f.Job, sandbox.Helper: f.Helper} {
		if w.Socket == "" || w.Frozen {
			continue
		}
		both.Go(func() error {
			r := &running{plan: plan{name: containerName(room, role)}, id: w.ID, way: w, engine: e}
			c, err := r.client(ctx, key, initproto.Redial)
			if err == nil {
				_ = c.End()
				c.Close()
			}
			return nil
		})
	}
	return both.Wait()
}
