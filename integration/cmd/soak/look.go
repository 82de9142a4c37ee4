package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cleanroom/integration/rig"
)

// scene is the machine at one moment.
type scene struct {
	things      rig.Scene
	rules       int // of iptables, all tables
	descriptors int // of the engine's process
	memory      int // of the engine's process, KiB resident
}

func look(ctx context.Context, r *rig.Rig, folders []string) (s scene, err error) {
	if s.things, err = r.Look(ctx, folders...); err != nil {
		return s, err
	}
	rules, err := exec.CommandContext(ctx, "iptables-save").Output()
	if err != nil {
		return s, fmt.Errorf("iptables-save: %w", err)
	}
	for line := range strings.Lines(string(rules)) {
		if strings.HasPrefix(line, "-A ") {
			s.rules++
		}
	}
	engine, err := engineProcess()
	if err != nil {
		return s, err
	}
	open, err := os.ReadDir(filepath.Join(engine, "fd"))
	if err != nil {
		return s, err
	}
	s.descriptors = len(open)
	status, err := os.ReadFile(filepath.Join(engine, "status"))
	if err != nil {
		return s, err
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	s.memory, err = strconv.Atoi(strings.Fields(rest + " 0")[0])
	return s, err
}

// engineProcess is the folder in /proc of the engine.
func engineProcess() (string, error) {
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", err
	}
	for _, p := range found {
		if comm, err := os.ReadFile(filepath.Join(p, "comm")); err == nil && strings.TrimSpace(string(comm)) == "dockerd" {
			return p, nil
		}
	}
	return "", errors.New("no dockerd runs on this machine: soak looks at its memory")
}

// waitFor looks until the machine is as before, for half a minute at most: the
// runner removes its own folder after a job's last word.
func (before scene) waitFor(ctx context.Context, r *rig.Rig, folders []string) scene {
	var now scene
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		s, err := look(ctx, r, folders)
		if err == nil {
			now = s
			if left(s.things.Since(before.things)).Count() == 0 && s.rules == before.rules {
				return now
			}
		}
		if time.Now().After(end) {
			return now
		}
	}
}

// left is what a job may not leave: not the folders that all rooms share.
func left(s rig.Scene) rig.Scene {
	kept := rig.Scene{}
	for kind, things := range s {
		for _, thing := range things {
			if !strings.HasSuffix(thing, "/rooms") && !strings.HasSuffix(thing, "/sealed") && !strings.HasSuffix(thing, "/stages") {
				kept[kind] = append(kept[kind], thing)
			}
		}
	}
	return kept
}

// print shows before and after, and is an error when something is left.
func (before scene) print(now scene) error {
	more := left(now.things.Since(before.things))
	for _, kind := range []string{rig.Containers, rig.Volumes, rig.Networks, rig.Mounts, rig.Processes, rig.Files} {
		fmt.Printf("%-28s %d more\n", kind, len(more[kind]))
	}
	fmt.Printf("%-28s %d, before %d\n", "iptables rules", now.rules, before.rules)
	fmt.Printf("%-28s %d, before %d\n", "the engine's descriptors", now.descriptors, before.descriptors)
	fmt.Printf("%-28s %d MiB, before %d MiB\n", "the engine's memory", now.memory>>10, before.memory>>10)
	if more.Count() > 0 || now.rules > before.rules {
		return fmt.Errorf("left on the machine:\n%s%d iptables rules more", more, now.rules-before.rules)
	}
	return nil
}
