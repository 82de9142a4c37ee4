package docker

import (
	"context"
	"fmt"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// While the runner ends a stage and starts the cleanup, a processor has nothing
// else to do. So containers that are reached by a socket are told to end as soon
// as nothing runs in them any more: the wipe finds them dead, with most of the
// engine's work done. It removes them, as it kills and removes what did not hear
// of this.

// retireTime is how long an init may take to answer.
const retireTime = time.Second

// Retire implements sandbox.Engine.
func (e *Engine) Retire(ctx context.Context, room string, key [32]byte) error {
	f, ok := e.remembered(room)
	if !ok {
		ctx, cancel := e.short(ctx)
		defer cancel()
		if _, err := e.api.ContainerInspect(ctx, containerName(room, sandbox.Helper)); cerrdefs.IsNotFound(err) {
			return fmt.Errorf("%w: %s", sandbox.ErrNoRoom, room)
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, retireTime)
	defer cancel()
	var both sync.WaitGroup
	for role, w := range map[sandbox.Role]way{sandbox.Job: f.Job, sandbox.Helper: f.Helper} {
		if w.Socket != "" && !w.Frozen {
			both.Go(func() { retire(ctx, w.Socket, initproto.ContainerKey(key, containerName(room, role))) })
		}
	}
	both.Wait()
	return nil
}

// retire tells one init. It has listened for long, or it is gone.
func retire(ctx context.Context, socket string, key [32]byte) {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return
	}
	if c, err := initproto.Redial(ctx, conn, key); err == nil {
		_ = c.End()
		c.Close()
	}
}
