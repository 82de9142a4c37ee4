package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// BenchmarkStart is what each call of the runner costs before it does anything:
// in a room that is not there, by the program that serves most calls, by the
// one that serves all, and by both, one after the other.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	job, script := filepath.Join(dir, "job.json"), filepath.Join(dir, "script")
	if err := errors.Join(os.WriteFile(job, []byte(`{"id": 7009, "job_info": {"project_id": 3}}`), 0o600), os.WriteFile(script, nil, 0o600)); err != nil {
		b.Fatal(err)
	}
	run := []string{"run", script, "build_script"}
	for _, one := range []struct {
		name, program string
		args          []string
		code          int
	}{
		{"version", "cleanroom", []string{"--version"}, 0},
		{"run", "cleanroom", run, 77},
		{"run by admin", "cleanroom-admin", run, 77},
		{"handed over", "cleanroom", []string{"room", "--help"}, 0},
	} {
		b.Run(one.name, func(b *testing.B) {
			var faults int64
			for b.Loop() {
				c := exec.Command(filepath.Join(programs, one.program), one.args...)
				c.Env = []string{"JOB_RESPONSE_FILE=" + job, "CLEANROOM_ROOM=cr-x-7009-0123456789", "CLEANROOM_KEY=" + strings.Repeat("0a", 32),
					"CLEANROOM_STATE_DIR=" + filepath.Join(dir, "state"), "CLEANROOM_DATA_DIR=" + filepath.Join(dir, "data"), "SYSTEM_FAILURE_EXIT_CODE=77", "BUILD_FAILURE_EXIT_CODE=55"}
				var exit *exec.ExitError
				if err := c.Run(); err != nil && !errors.As(err, &exit) || c.ProcessState.ExitCode() != one.code {
					b.Fatalf("%v, exit code %d, want %d", err, c.ProcessState.ExitCode(), one.code)
				}
				faults += c.ProcessState.SysUsage().(*syscall.Rusage).Minflt
			}
			b.ReportMetric(float64(faults)/float64(b.N), "faults/op")
		})
	}
}
