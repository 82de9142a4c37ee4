package docker

import (
	"context"
	"time"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// While the helper works on its last stage, and while the runner starts the
// cleanup after it, a processor has nothing else to do. So the job's container
// is told to end when that stage begins, and the helper's when it has ended: the
// wipe finds them dead, with most of the engine's work done. It removes them, as
// it kills and removes what did not hear of this.

// retireTime is how long the job's init may take to be reached.
const retireTime = time.Second

// retire ends the job's container, if it can be told by its socket; stop ends
// the try.
func (e *Engine) retire(ctx context.Context, s sandbox.Stage) (stop func()) {
	f, ok := e.remembered(s.Room)
	if !ok || f.Job.Socket == "" || f.Job.Frozen {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(ctx, retireTime)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r := &running{plan: plan{name: containerName(s.Room, sandbox.Job)}, id: f.Job.ID, way: f.Job, engine: e}
		if c, err := r.client(ctx, s.Key, initproto.Redial); err == nil {
			_ = c.End()
			c.Close()
		}
	}()
	return func() { cancel(); <-ended }
}
