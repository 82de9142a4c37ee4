package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"cleanroom/executor/secret/hostkey/durable"
)

// Wish is a kind of room that a job had, or that an admin wants.
type Wish struct {
	Key    string    `json:"key"`
	Kind   Kind      `json:"kind"`
	At     time.Time `json:"at"`               // when the latest job had it; zero: none did, yet
	Memory int64     `json:"memory,omitempty"` // bytes that a room of it was seen to hold; 0: not measured
	// Timeout is the longest that one of its jobs had.
	Timeout time.Duration `json:"timeout,omitempty"`
	Failed  time.Time     `json:"failed,omitzero"` // when a room of it could last not be made
}

// maxWishes bounds how many kinds are kept: images are the jobs' to name.
const maxWishes = 64

// Want notes that such rooms are to wait, and what is known of them.
func (p Pool) Want(w Wish) error {
	if err := p.open(); err != nil {
		return err
	}
	var before Wish
	if read(p.path(wanted, w.Key), &before) == nil {
		if w.At.Before(before.At) && !before.At.After(time.Now()) { // else a clock was set back
			w.At = before.At
		}
		w.Memory, w.Timeout = cmp.Or(w.Memory, before.Memory), max(w.Timeout, before.Timeout)
		if w.Failed.IsZero() {
			w.Failed = before.Failed
		}
	}
	draft := p.path("." + w.Key + random(4))
	if err := write(draft, w); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	if err := os.Rename(draft, p.path(wanted, w.Key)); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	return nil
}

// Wished tells whether such rooms are to wait.
func (p Pool) Wished(key string) bool {
	_, err := os.Lstat(p.path(wanted, key))
	return err == nil
}

// Wishes are the latest, latest first; older ones are forgotten.
func (p Pool) Wishes() ([]Wish, error) {
	files, err := p.list(wanted)
	var all []Wish
	for _, file := range files {
		var w Wish
		if err := read(p.path(wanted, file), &w); err == nil && w.Key == file {
			all = append(all, w)
		} else if !errors.Is(err, fs.ErrNotExist) {
			_ = os.Remove(p.path(wanted, file))
		}
	}
	slices.SortFunc(all, func(a, b Wish) int { return b.At.Compare(a.At) })
	for i := maxWishes; i < len(all); i++ {
		_ = os.Remove(p.path(wanted, all[i].Key))
	}
	return all[:min(len(all), maxWishes)], err
}

// Lock has one process fill at a time; durable.ErrHeld: another does, and we are
// not to wait for it.
func (p Pool) Lock(ctx context.Context, wait bool) (*durable.Held, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	if wait {
		return durable.Lock(ctx, p.path("fill.lock"))
	}
	return durable.Try(p.path("fill.lock"))
}
