package hunt

import (
	"context"
	"errors"
	"slices"
)

// Machine searches all that has no need of more: the engine's API, Places and
// the engine's root beside scope's own, the mounts that only the engine's and
// the runner's processes see, swap and core files, and processes. It is for
// during a job, with its rooms named, and for after it.
func (h *Hunt) Machine(ctx context.Context, e *Engine, files FileScope, processes ProcessScope) error {
	if h.err != nil {
		return h.err
	}
	root, err := e.Root(ctx)
	if err != nil {
		return err
	}
	found, err := Daemons()
	if err != nil {
		return err
	}
	var pids []int
	for _, some := range found {
		pids = append(pids, some...)
	}
	files.In = slices.Concat(files.In, Places(), []string{root, "/var/lib/containerd"})
	failed := []error{h.Engine(ctx, e), h.Processes(ctx, processes), h.Dumps(ctx), h.Files(ctx, files)}
	if len(pids) > 0 {
		failed = append(failed, h.Inside(ctx, pids...))
	}
	return errors.Join(failed...)
}
