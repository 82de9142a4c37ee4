package docker

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
)

// learned is what the engine says of itself, asked once: for the answer it
// starts several programs.
type learned struct {
	ID       string `json:"id"`                  // its own, as long as its folder lives
	Runtime  string `json:"runtime"`             // that rooms run under
	FirstUID uint64 `json:"first_uid,omitempty"` // where the ids of rooms begin on its host
	FirstGID uint64 `json:"first_gid,omitempty"`
}

// learn asks the engine about itself, unless it has.
func (e *Engine) learn(ctx context.Context) error {
	e.asking.Lock()
	defer e.asking.Unlock()
	if e.learned != nil {
		return nil
	}
	l, err := e.about(ctx)
	if err == nil {
		e.learned = l
	}
	return err
}

// about asks the engine about itself.
func (e *Engine) about(ctx context.Context) (*learned, error) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	e.meet(ctx) // others may ask beside this
	info, err := e.api.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	l := &learned{ID: info.ID, Runtime: e.options.Runtime}
	if l.Runtime == "" {
		l.Runtime = info.DefaultRuntime
	}
	// With userns-remap the engine's folder is named by where the ids begin.
	if slices.Contains(info.SecurityOptions, "name=userns") {
		if _, err := fmt.Sscanf(path.Base(info.DockerRootDir), "%d.%d", &l.FirstUID, &l.FirstGID); err != nil {
			return nil, fmt.Errorf("engine with userns-remap: its folder %s does not tell where the ids begin", info.DockerRootDir)
		}
	}
	return l, nil
}

// unlearn has the engine asked again.
func (e *Engine) unlearn() {
	e.asking.Lock()
	defer e.asking.Unlock()
	e.learned = nil
}

// hostIDs is what an owner's uid and gid are outside the room: the engine
// mounts a tmpfs before it enters any user namespace.
func (e *Engine) hostIDs(owner string) (uid, gid uint64, err error) {
	u, g := ownerIDs(owner)
	if uid, err = strconv.ParseUint(u, 10, 31); err != nil {
		return 0, 0, fmt.Errorf("owner %q: %w", owner, err)
	}
	if gid, err = strconv.ParseUint(g, 10, 31); err != nil {
		return 0, 0, fmt.Errorf("owner %q: %w", owner, err)
	}
	return e.learned.FirstUID + uid, e.learned.FirstGID + gid, nil
}

// ownKernel tells whether the runtime brings a kernel of its own (gVisor,
// Kata). That keeps its sockets and its loopback to itself.
func (e *Engine) ownKernel() bool {
	switch e.learned.Runtime {
	case "", "runc", "crun", "io.containerd.runc.v2":
		return false
	}
	return true
}
