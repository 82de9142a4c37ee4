// Package doctor looks at a machine before a job does: the engine, the host
// and our own binaries. Each check is one line that says what is and, where
// that is not good, what to do. What is made in order to look is removed again.
package doctor

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"cleanroom/config"
)

// Status of a check.
type Status string

// A Warn weakens what cleanroom promises; with a Fail jobs will not run.
const (
	OK   Status = "ok"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Check is what was found.
type Check struct {
	Name   string
	Status Status
	Detail string // what is
	Remedy string // what to do, unless OK
}

// Options of a Run.
type Options struct {
	// InitPath is the cleanroom-init binary that rooms would get.
	InitPath string
	// Programs are the others that this one works with: each says its version
	// when it is asked with --version.
	Programs []string
	// Version that all must have; empty accepts any.
	Version string
	// RunnerTmp is the runner's TMPDIR, where it leaves scripts and the job
	// response; empty means this process's own.
	RunnerTmp string
}

// How long any question to the engine may take here, and one that it passes
// on to a registry.
const (
	most         = 15 * time.Second
	mostRegistry = 5 * time.Second
)

// Run makes all checks, in the order in which an admin would mend things. An
// engine that cannot be reached is one Fail in the place of what it would be
// asked.
func Run(ctx context.Context, cfg config.Config, opts Options) []Check {
	if opts.RunnerTmp == "" {
		opts.RunnerTmp = os.TempDir()
	}
	checks := []Check{user()}
	e, first := ask(ctx, cfg)
	checks = append(checks, first)
	arch := ""
	if e != nil {
		defer e.api.Close()
		arch = e.info.Architecture
		checks = append(checks, e.checks(ctx, cfg)...)
	}
	checks = append(checks, programs(ctx, opts), initBinary(ctx, opts, arch), stateDir(cfg.StateDir), dataDir(cfg.DataDir), rules(cfg), auditLog(ctx, cfg))
	checks = append(checks, sources(cfg)...)
	if cfg.Log.File != "" {
		checks = append(checks, logFile(cfg.Log.File))
	}
	if cfg.Metrics.File != "" {
		checks = append(checks, metricsFile(cfg.Metrics.File))
	}
	if cfg.Profile == "strict" && (e == nil || e.local) {
		checks = append(checks, reversePath("/proc/sys/net/ipv4/conf"))
	}
	return append(checks,
		runnerTmp(opts.RunnerTmp),
		swap("/proc/swaps", "/sys/block"),
		synced(),
	)
}

// Failed says whether any check failed.
func Failed(checks []Check) bool {
	for _, c := range checks {
		if c.Status == Fail {
			return true
		}
	}
	return false
}

// Print writes one line for each check.
func Print(w io.Writer, checks []Check) error {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		line := fmt.Sprintf("%-4s  %-*s  %s", c.Status, width, c.Name, oneLine(c.Detail))
		if c.Status != OK && c.Remedy != "" {
			line += " -> " + c.Remedy
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

func ok(name, format string, args ...any) Check {
	return Check{Name: name, Status: OK, Detail: fmt.Sprintf(format, args...)}
}

func warn(name, remedy, format string, args ...any) Check {
	return Check{Name: name, Status: Warn, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

func fail(name, remedy, format string, args ...any) Check {
	return Check{Name: name, Status: Fail, Detail: fmt.Sprintf(format, args...), Remedy: remedy}
}

// oneLine keeps what an engine or a file says from breaking lines.
func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}
