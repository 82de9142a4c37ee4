package docker

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/volume"

	"cleanroom/sandbox"
)

// Caches lists the volumes that outlive rooms.
func (e *Engine) Caches(ctx context.Context) ([]sandbox.CacheInfo, error) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	r, err := e.api.VolumeList(ctx, volume.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelCache))})
	if err != nil {
		return nil, fmt.Errorf("list caches: %w", err)
	}
	var all []sandbox.CacheInfo
	for _, v := range r.Volumes {
		created, _ := time.Parse(time.RFC3339, v.CreatedAt)
		all = append(all, sandbox.CacheInfo{Name: v.Name, Labels: v.Labels, Created: created})
	}
	return all, nil
}

// RemoveCache removes one; a cache that a running room uses is refused by the
// engine, and that is the error.
func (e *Engine) RemoveCache(ctx context.Context, name string) error {
	ctx, cancel := e.short(ctx)
	defer cancel()
	v, err := e.api.VolumeInspect(ctx, name)
	if err != nil {
		return fmt.Errorf("cache %s: %w", name, err)
	}
	if v.Labels[labelCache] == "" {
		return fmt.Errorf("volume %s is no cache of cleanroom", name)
	}
	if err := e.api.VolumeRemove(ctx, name, false); err != nil {
		return fmt.Errorf("cache %s: %w", name, err)
	}
	return nil
}
