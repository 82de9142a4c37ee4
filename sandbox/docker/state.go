package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// found is what Run needs to know of a room, kept so that a stage asks the
// engine nothing.
type found struct {
	Room   string   `json:"room"`
	Helper way      `json:"helper"`
	Job    way      `json:"job"`
	Stock  *scouted `json:"stock,omitempty"` // of a room that Stock made, until it is taken
}

// maxState bounds that file, in bytes.
const maxState = 64 << 10

func (e *Engine) remember(room string, f found) error {
	dir := e.stateDir(room)
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	f.Room = room
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, "room.json.new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	if err := fault.At("room.state.written"); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, "room.json"))
}

// unremember has the engine asked from now on.
func (e *Engine) unremember(room string) error {
	return os.Remove(filepath.Join(e.stateDir(room), "room.json"))
}

// recall is remember's other end; what it cannot read the engine tells.
func (e *Engine) recall(ctx context.Context, room string, role sandbox.Role) (way, error) {
	if f, ok := e.remembered(room); ok {
		if w := map[sandbox.Role]way{sandbox.Helper: f.Helper, sandbox.Job: f.Job}[role]; w.ID != "" {
			return w, nil
		}
	}
	name := containerName(room, role)
	ctx, cancel := e.short(ctx)
	defer cancel()
	c, err := e.api.ContainerInspect(ctx, name)
	if err != nil {
		return way{}, fmt.Errorf("%w: %s: %w", sandbox.ErrNoRoom, room, err)
	}
	if c.Config == nil || c.Config.Labels[labelRoom] != room || strings.TrimPrefix(c.Name, "/") != name {
		return way{}, fmt.Errorf("%w: container %s is not of room %s", sandbox.ErrNoRoom, name, room)
	}
	w, err := e.wayTo(ctx, name, c.ID)
	w.Files = c.Config.Labels[labelFiles]
	w.Frozen = c.State != nil && c.State.Paused
	return w, err
}

// remembered is what the room's state says, if it can be believed.
func (e *Engine) remembered(room string) (f found, ok bool) {
	dir := e.stateDir(room)
	if dir == "" || e.checkState() != nil {
		return found{}, false
	}
	file, err := os.OpenFile(filepath.Join(dir, "room.json"), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return found{}, false
	}
	defer file.Close()
	if err := json.NewDecoder(io.LimitReader(file, maxState)).Decode(&f); err != nil || f.Room != room {
		return found{}, false
	}
	return f, true
}

// unmade marks a room that Make has begun and not ended.
const unmade = "unmade"

// begin leaves the mark; the returned function takes it away.
func (e *Engine) begin(room string) (end func(), err error) {
	dir := e.stateDir(room)
	if dir == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	mark := filepath.Join(dir, unmade)
	if err := os.WriteFile(mark, nil, 0o600); err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	return func() { os.Remove(mark) }, nil
}

// unheardOf tells whether no room of that name was begun with this state
// folder, or the last one was wiped.
func (e *Engine) unheardOf(room string) bool {
	dir := e.stateDir(room)
	if dir == "" || e.checkState() != nil {
		return false
	}
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

func (e *Engine) halfMade(room string) bool {
	dir := e.stateDir(room)
	if dir == "" || e.checkState() != nil {
		return false
	}
	_, err := os.Lstat(filepath.Join(dir, unmade))
	return err == nil
}

// forget removes the room's folder and says so.
func (e *Engine) forget(room string, ev *sandbox.Evidence) {
	dir := e.stateDir(room)
	if dir == "" {
		return
	}
	if _, err := os.Lstat(dir); err != nil {
		return
	}
	err := e.checkState()
	if err == nil {
		err = os.RemoveAll(dir)
	}
	item := sandbox.Item{Kind: "file", Name: dir}
	if err != nil {
		item.Why = err.Error()
		ev.Left = append(ev.Left, item)
		return
	}
	ev.Removed = append(ev.Removed, item)
}

// ownState makes the state folder, and refuses one that is not ours alone: on
// a tmpfs that everybody may write to (/dev/shm) somebody may have been first.
func (e *Engine) ownState() error {
	if dir := e.options.StateDir; dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("state folder: %w", err)
		}
	}
	return e.checkState()
}

func (e *Engine) checkState() error {
	dir := e.options.StateDir
	if dir == "" {
		return nil
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("state folder: %w", err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("state folder %s must be a folder of mode 0700 that belongs to uid %d: remove it, or set state_dir", dir, os.Geteuid())
	}
	return nil
}

// stateDir is the room's folder, or empty without a state folder.
func (e *Engine) stateDir(room string) string {
	if e.options.StateDir == "" {
		return ""
	}
	return filepath.Join(e.options.StateDir, "rooms", filepath.Base(room))
}
