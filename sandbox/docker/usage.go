package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"cleanroom/sandbox"
)

// usageTime bounds a look at what rooms use: the engine takes two samples of
// each container, a second apart, to tell what its processes did meanwhile.
const usageTime = 4 * time.Second

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

// sample is what one container uses, computed as `docker stats` does.
func (e *Engine) sample(ctx context.Context, id string) (cpu float64, memory int64, err error) {
	answer, err := e.api.ContainerStats(ctx, id, false)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(answer.Body).Decode(&s); err != nil {
		return 0, 0, fmt.Errorf("stats: %w", err)
	}
	if s.Read.IsZero() || s.PreRead.IsZero() { // the container ended, or there was no second sample
		return 0, 0, fmt.Errorf("stats: no samples")
	}
	cpu, memory = used(s)
	return cpu, memory, nil
}

func used(s container.StatsResponse) (cpu float64, memory int64) {
	processors := float64(s.CPUStats.OnlineCPUs)
	if processors == 0 {
		processors = float64(len(s.CPUStats.CPUUsage.PercpuUsage))
	}
	mine := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	machine := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	if mine > 0 && machine > 0 {
		cpu = mine / machine * processors * 100
	}
	bytes := s.MemoryStats.Usage
	for _, name := range []string{"total_inactive_file", "inactive_file"} { // cgroup v1, v2
		if cache, ok := s.MemoryStats.Stats[name]; ok {
			if cache < bytes {
				bytes -= cache
			}
			break
		}
	}
	return cpu, int64(bytes)
}
