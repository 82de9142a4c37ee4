package doctor

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// programs looks that the others are there and of our version: they know each
// other's state, and the runner calls both.
func programs(ctx context.Context, opts Options) Check {
	const name = "programs"
	const remedy = "install cleanroom, cleanroom-admin and cleanroom-init of one version into one folder"
	var names []string
	for _, path := range opts.Programs {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		cancel()
		words := strings.Fields(string(out))
		switch {
		case err != nil:
			return fail(name, remedy, "%s does not run: %v", path, err)
		case len(words) == 0 || opts.Version != "" && words[len(words)-1] != opts.Version:
			return fail(name, remedy, "%s says %q, this is version %q", path, strings.Join(words, " "), opts.Version)
		}
		names = append(names, filepath.Base(path))
	}
	return ok(name, "%s: version %s", strings.Join(names, ", "), opts.Version)
}
