package docker

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"cleanroom/sandbox"
)

func TestUsed(t *testing.T) {
	second := time.Unix(1000, 0)
	stats := func(at time.Duration, cpu, memory uint64, of map[string]uint64) (s container.StatsResponse) {
		s.Read, s.CPUStats.CPUUsage.TotalUsage = second.Add(at), cpu
		s.MemoryStats.Usage, s.MemoryStats.Stats = memory, of
		return s
	}
	for _, test := range []struct {
		before, now container.StatsResponse
		cpu         float64
		memory      int64
	}{
		{stats(0, 100, 1, nil), stats(200, 300, 4096, nil), 100, 4096},
		{stats(0, 0, 1, nil), stats(100, 200, 10, map[string]uint64{"inactive_file": 3}), 200, 7},
		{stats(0, 7, 1, nil), stats(100, 7, 10, map[string]uint64{"total_inactive_file": 4, "inactive_file": 3}), 0, 6},
		{stats(9, 0, 1, nil), stats(9, 5, 10, map[string]uint64{"inactive_file": 11}), 0, 10},
		{stats(0, 9, 1, nil), stats(9, 5, 0, nil), 0, 0}, // it was started anew
	} {
		cpu, memory := used(test.before, test.now)
		if cpu != test.cpu || memory != test.memory {
			t.Errorf("%g %%, %d bytes; want %g, %d", cpu, memory, test.cpu, test.memory)
		}
	}
}

func TestUsage(t *testing.T) {
	e := testEngine(t, nil)
	s := testSpec(sandbox.Hardened, "cleanroom/busybox")
	if log, err := makeRoom(t, e, s); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	run(t, e, s, sandbox.Job, "dd if=/dev/zero of=/builds/x bs=1M count=16 2>/dev/null")
	// A process that runs on, in a stage whose driver lives: half a second of
	// it is seen between the samples.
	busy, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = e.Run(busy, sandbox.Stage{Room: s.Name, Key: s.Key, Name: "busy", Role: sandbox.Job, Script: strings.NewReader("while :; do :; done"), Output: io.Discard})
	}()
	defer func() { stop(); <-ended }()
	var u sandbox.Usage
	for end := time.Now().Add(time.Minute); u.CPU < 1 && time.Now().Before(end); { // until the stage has begun
		all, err := e.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		u = all[s.Name]
	}
	if u.CPU < 1 || !u.Known || u.Memory < 16<<20 || u.Memory > 512<<20 || !strings.HasPrefix(u.ImageID, "sha256:") || !strings.HasPrefix(u.Image, "cleanroom/busybox:") {
		t.Errorf("%+v", u)
	}
}
