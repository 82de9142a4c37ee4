package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/rig"
)

// TestClockJumps by a day, either way, while a job runs: nobody ends its room;
// and once its runner is gone it ends all the same. A stranger, who has no
// journal of it, goes by the deadline on its labels.
func TestClockJumps(t *testing.T) {
	for _, was := range []string{"-24h", "24h"} {
		t.Run("from "+was, func(t *testing.T) {
			s := installFaulty(t, rig.RunnerOptions{Config: faultConfig, Env: []string{"FAULTS_CLOCK=" + was}})
			g := newGate(t)
			id := s.submit(trap{s, ""}.job(g))
			s.arrives(g)
			other := stranger(t, s)
			for _, config := range []string{s.runner.CleanroomConfig(), other} {
				if out := reapAs(t, s, config); out != "" {
					t.Errorf("a job that runs is ended: %s", out)
				}
			}
			if was == "24h" { // its time comes: by the clock of the machine's uptime
				if out := reapAs(t, s, other, "unshare", "--time", "--boottime=1000000"); !strings.Contains(out, ": removed ") {
					t.Errorf("a stranger waits for ever: %q", out)
				}
			}
			s.runnerIsKilled()
			if out := reapAs(t, s, s.runner.CleanroomConfig()); !strings.Contains(out, "revoked 1 of 1 leases") {
				t.Errorf("reap says %q", out)
			}
			s.runnerLeftNothing()
			s.nothingLeft(id, true)
		})
	}
}

// stranger is the configuration of another runner on the same engine.
func stranger(t *testing.T, s *site) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "cleanroom.toml")
	text := fmt.Sprintf("state_dir = %q\ndata_dir = %q\n%s", filepath.Join(dir, "state"), filepath.Join(dir, "data"), images)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// reapAs reaps with a configuration, under another command if one is named.
func reapAs(t *testing.T, s *site, config string, under ...string) string {
	t.Helper()
	args := append(under, filepath.Join(s.bin, "cleanroom"), "--config", config, "reap")
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		t.Errorf("%q: %v: %s", args, err, out)
	}
	return string(out)
}
