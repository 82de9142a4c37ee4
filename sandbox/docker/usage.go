package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"cleanroom/sandbox"
)

// usageTime bounds a look at what rooms use: two samples of each container,
// sampleTime apart, tell what its processes did meanwhile.
const (
	usageTime  = 4 * time.Second
	sampleTime = time.Second / 2
)

// Usage asks all containers of all rooms at once.
func (e *Engine) Usage(ctx context.Context) (map[string]sandbox.Usage, error) {
	all, err := e.find(ctx, "")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, min(usageTime, e.options.Timeout))
	defer cancel()
	rooms := map[string]sandbox.Usage{}
	silent := map[string]bool{}
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, c := range all.containers {
		room := c.Labels[labelRoom]
		if c.State != container.StateRunning && c.State != container.StatePaused { // it uses nothing
			continue
		}
		work.Go(func() {
			cpu, memory, err := e.sample(ctx, c.ID)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent[room] = true
				return
			}
			u := rooms[room]
			u.Known, u.CPU, u.Memory = true, u.CPU+cpu, u.Memory+memory
			rooms[room] = u
		})
	}
	names := e.imageNames(ctx)
	work.Wait()
	for _, c := range all.containers {
		room := c.Labels[labelRoom]
		if u := rooms[room]; c.Labels[labelRole] == string(sandbox.Job) {
			u.ImageID = c.ImageID
			if u.Image = names[c.ImageID]; u.Image == "" { // it lost its name, or the engine did not say
				u.Image = c.Image
			}
			rooms[room] = u
		}
	}
	for room := range silent { // a part of it would be too little, and look like all
		u := rooms[room]
		u.Known, u.CPU, u.Memory = false, 0, 0
		rooms[room] = u
	}
	return rooms, nil
}

// imageNames are the names of images by ID: containers are made of IDs, so
// that nobody can exchange an image between the look at it and its use. Where
// one has several names, the first counts.
func (e *Engine) imageNames(ctx context.Context) map[string]string {
	names := map[string]string{}
	list, err := e.api.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return names // an ID is shown instead
	}
	for _, i := range list {
		for _, from := range [][]string{i.RepoDigests, i.RepoTags} { // a tag, if there is one, as it is shorter
			from = slices.DeleteFunc(slices.Sorted(slices.Values(from)), func(s string) bool { return s == "<none>:<none>" || s == "<none>@<none>" })
			if len(from) > 0 {
				names[i.ID] = from[0]
			}
		}
	}
	return names
}

// sample is what one container uses. The engine's own second sample comes from
// its collector, which takes one container after another and so waits for the
// slowest; a sample by itself is taken at once.
func (e *Engine) sample(ctx context.Context, id string) (cpu float64, memory int64, err error) {
	before, err := e.stats(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	select {
	case <-ctx.Done():
		return 0, 0, ctx.Err()
	case <-time.After(sampleTime):
	}
	now, err := e.stats(ctx, id)
	if err != nil {
		return 0, 0, err
	}
	cpu, memory = used(before, now)
	return cpu, memory, nil
}

func (e *Engine) stats(ctx context.Context, id string) (s container.StatsResponse, err error) {
	answer, err := e.api.ContainerStatsOneShot(ctx, id)
	if err != nil {
		return s, err
	}
	defer answer.Body.Close()
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("stats: %w", err)
	}
	if s.Read.IsZero() { // it ended meanwhile
		return s, errors.New("stats: none")
	}
	return s, nil
}

// used is computed from time, as the engine's count of what the whole machine
// uses is not in such a sample on every version. Memory is as `docker stats`
// shows it.
func used(before, now container.StatsResponse) (cpu float64, memory int64) {
	mine := float64(now.CPUStats.CPUUsage.TotalUsage) - float64(before.CPUStats.CPUUsage.TotalUsage)
	if took := now.Read.Sub(before.Read); mine > 0 && took > 0 {
		cpu = mine / float64(took.Nanoseconds()) * 100
	}
	bytes := now.MemoryStats.Usage
	for _, name := range []string{"total_inactive_file", "inactive_file"} { // cgroup v1, v2
		if cache, ok := now.MemoryStats.Stats[name]; ok {
			if cache < bytes {
				bytes -= cache
			}
			break
		}
	}
	return cpu, int64(bytes)
}
