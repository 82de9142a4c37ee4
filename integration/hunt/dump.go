package hunt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Dumps searches where the kernel writes memory to disk: swap areas, and core
// files at the place that kernel.core_pattern says. A pattern without a folder
// means the crashed process's own: there, core files of the folders in which
// processes are now are searched (rooms' are in the engine's root).
func (h *Hunt) Dumps(ctx context.Context) error {
	if h.err != nil {
		return h.err
	}
	swaps, err := os.ReadFile("/proc/swaps")
	if err != nil {
		return h.unreadable("/proc/swaps", err)
	}
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil {
		return h.unreadable("/proc/sys/kernel/core_pattern", err)
	}
	var failed []error
	for _, area := range parseSwaps(string(swaps)) {
		failed = append(failed, h.opened(ctx, area, area+" (swap)", 0))
	}
	folders, prefix := cores(strings.TrimSpace(string(pattern)))
	for _, folder := range folders {
		files, err := os.ReadDir(folder)
		if vanished(err) {
			h.skip(folder, "not on this machine")
			continue
		}
		if errors.Is(err, os.ErrPermission) { // of a FUSE mount that is not root's
			h.skip(folder, "a working folder that root may not read, and so no core file of its")
			continue
		}
		if err != nil {
			failed = append(failed, h.unreadable(folder, err))
			continue
		}
		for _, f := range files {
			if f.Type().IsRegular() && strings.HasPrefix(f.Name(), prefix) {
				path := filepath.Join(folder, f.Name())
				failed = append(failed, h.opened(ctx, path, path+" (core)", 0))
			}
		}
	}
	return errors.Join(failed...)
}

// parseSwaps returns the areas that are in use (proc_swaps(5)).
func parseSwaps(text string) (areas []string) {
	for n, line := range strings.Split(text, "\n") {
		if fields := strings.Fields(line); n > 0 && len(fields) >= 4 && fields[3] != "0" {
			areas = append(areas, unescape(fields[0]))
		}
	}
	return areas
}

// cores says in which folders core files are, and how their names begin
// (core(5)).
func cores(pattern string) (folders []string, prefix string) {
	switch {
	case strings.HasPrefix(pattern, "|"): // a program takes them; those that are common keep them here
		return []string{"/var/lib/systemd/coredump", "/var/crash"}, ""
	case strings.HasPrefix(pattern, "/"):
		folder, name := filepath.Split(pattern)
		name, _, _ = strings.Cut(name, "%")
		if i := strings.IndexByte(folder, '%'); i >= 0 {
			folder, name = filepath.Dir(folder[:i+1]), ""
		}
		return []string{filepath.Clean(folder)}, name
	}
	seen := map[string]bool{}
	all, _ := pids()
	for _, pid := range all {
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err == nil && !seen[cwd] && filepath.IsAbs(cwd) {
			seen[cwd] = true
			folders = append(folders, cwd)
		}
	}
	prefix, _, _ = strings.Cut(pattern, "%")
	return folders, prefix
}
