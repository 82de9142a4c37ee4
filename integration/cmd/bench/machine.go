package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"cleanroom/integration/rig"
)

// describe says what the numbers are measured on.
func describe(ctx context.Context) (string, error) {
	lines := []string{processor()}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "", err
	}
	system, err := output(ctx, "uname", "-sr")
	if err != nil {
		return "", err
	}
	version, err := output(ctx, "../bin/cleanroom", "--version")
	if err != nil {
		return "", err
	}
	lines = append(lines, strings.TrimSpace(system), strings.TrimSpace(version))
	runner, err := rig.GitLabRunner()
	if err != nil {
		return "", err
	}
	about, err := output(ctx, runner, "--version")
	if err != nil {
		return "", err
	}
	engine, err := output(ctx, "docker", "info", "--format", "Docker Engine {{.ServerVersion}} on {{.Driver}}, cgroup v{{.CgroupVersion}}")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(about, "\n")
	_, number, _ := strings.Cut(first, ":")
	lines = append(lines, "gitlab-runner "+strings.TrimSpace(number), strings.TrimSpace(engine))
	lines = append(lines, "load of the last minute when it began "+strings.Fields(string(load))[0])
	return strings.Join(lines, "; "), nil
}

// processor and memory.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := bytes.Cut(text, []byte("model name"))
	name, _, _ := bytes.Cut(rest, []byte("\n"))
	about := fmt.Sprintf("%d cores", runtime.NumCPU())
	if model := strings.Trim(string(name), "\t :"); model != "" {
		about += " (" + model + ")"
	}
	var kilobytes int64
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		fmt.Sscanf(string(text), "MemTotal: %d kB", &kilobytes)
	}
	return fmt.Sprintf("%s, %.0f GiB of memory", about, float64(kilobytes)/(1<<20))
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
