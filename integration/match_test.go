package integration

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
)

// matched is what `audit match` says of a log.
func (s *site) matched(t *testing.T, id int64, log string) (says string, holds bool) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "job.log")
	put(t, file, []byte(log))
	says, err := s.tryCleanroom("audit", "match", "--job", fmt.Sprint(id), "--log", file)
	if err != nil && !strings.Contains(says, "is not the one that the job's record tells of") {
		t.Errorf("%v: %s", err, says)
	}
	return says, err == nil
}

// forge tries all that an attacker may do to a job's log, which holds as it is.
func (s *site) forge(t *testing.T, r result) {
	t.Helper()
	log := string(r.Trace)
	if says, holds := s.matched(t, r.ID, log); !holds {
		t.Errorf("%s\n%q", says, log)
		return
	}
	const passed = "TESTS PASSED"
	lines := strings.SplitAfter(strings.TrimSuffix(log, "\n"), "\n")
	lines[len(lines)-1] += "\n"
	heads := []string{""}
	if stamp := regexp.MustCompile(`^\S+Z `).FindString(log); stamp != "" {
		for _, stream := range []string{"00O ", "00O+", "01O ", "01O+", "00E ", "01E ", "02O ", "ffE "} {
			heads = append(heads, stamp+stream)
		}
	}
	insert := func(at int, line string) {
		t.Helper()
		says, holds := s.matched(t, r.ID, strings.Join(lines[:at], "")+line+strings.Join(lines[at:], ""))
		if holds || strings.Contains(says, "FOREIGN") && !strings.Contains(says, fmt.Sprintf("line %d: ", at+1)) && !strings.Contains(says, passed) {
			t.Errorf("%q at line %d: %s", line, at+1, says)
		}
	}
	for i, head := range heads {
		for _, at := range []int{i % 2, len(lines) / 2, len(lines) - 1, len(lines)} {
			insert(at, head+passed+"\n")
		}
		insert(len(lines)-1, head+"\x1b[31;1mERROR: Job failed: no\r\x1b[0K"+passed+"\x1b[0;m\n")
		insert(len(lines), head+"\x1b[32;1mJob succeeded\x1b[0;m\n")
		insert(len(lines)/2, head+"\x1b[0;33mWARNING: "+passed+"\x1b[0;m\n")
	}
	bare := regexp.MustCompile(`(?m)^\d{4}-\S+Z [0-9a-f]{2}[OE][ +]`).ReplaceAllString(strings.ReplaceAll(log, passed, ""), "")
	for _, log := range []string{bare + passed + "\n", passed + "\n" + bare, strings.Replace(bare, "\n", "\n"+passed+"\n", 1)} {
		if says, holds := s.matched(t, r.ID, log); holds || !strings.Contains(says, passed) {
			t.Errorf("without headers: %s", says)
		}
	}
	for i, line := range lines { // what a stage printed, or prepare did, is left out
		if _, output, _ := strings.Cut(line, "Z 01O "); output != "" || strings.Contains(line, "cleanroom: ") {
			if says, holds := s.matched(t, r.ID, strings.Join(lines[:i], "")+strings.Join(lines[i+1:], "")); holds {
				t.Errorf("without %q: %s", line, says)
			}
			break
		}
	}
}

// TestMatch: the logs of jobs of all kinds, as the real runner writes them,
// hold what was recorded, and no forged one does.
func TestMatch(t *testing.T) {
	s, _ := audited(t, storeConfig)
	plain := gitlab.Variable{Key: "FF_TIMESTAMPS", Value: "false", Public: true}
	b := newBox(t)
	for name, c := range map[string]struct {
		job    gitlab.JobSpec
		state  job.State
		reason string
		code   int
		says   string // of the log
		proves string // that nothing does, in the runner's words
	}{
		"succeeds": {job: gitlab.JobSpec{Script: []string{"echo one", "printf 'progress 1%%\\rprogress 2%%\\r'", "echo; printf 'no end'"}, AfterScript: []string{"echo after"},
			Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"README.md"}}}, Cache: []gitlab.Cache{{Key: "k", Paths: []string{"x/"}}}},
			state: job.Success, says: "no end", proves: "Job succeeded"},
		"without headers": {job: gitlab.JobSpec{Script: []string{"echo one", "printf 'no end'"}, AfterScript: []string{"echo after"}, Variables: []gitlab.Variable{plain}},
			state: job.Success, says: "no end", proves: "The lines have no time stamps"},
		"fails":                   {job: gitlab.JobSpec{Script: []string{"echo to fail; exit 3"}, AfterScript: []string{"exit 4"}}, state: job.Failed, reason: "script_failure", code: 3, says: "to fail", proves: "Job failed: exit status 3"},
		"is refused":              {job: gitlab.JobSpec{Variables: asking("NO_SUCH"), Script: []string{"true"}}, state: job.Failed, reason: "script_failure", code: 1, says: "cleanroom: denied", proves: "Job failed: exit status 1"},
		"is refused, no headers":  {job: gitlab.JobSpec{Variables: asking("NO_SUCH", plain), Script: []string{"true"}}, state: job.Failed, reason: "script_failure", code: 1, says: "cleanroom: denied", proves: "Job failed"},
		"is prepared three times": {job: gitlab.JobSpec{Image: &gitlab.Image{Name: "registry.invalid/nowhere:1"}, Script: []string{"true"}}, state: job.Failed, reason: "runner_system_failure", says: "ERROR: Preparation failed", proves: "Preparation failed: exit status 2"},
		"gets its sources twice":  {job: gitlab.JobSpec{Script: []string{"echo one"}, Variables: []gitlab.Variable{{Key: "GET_SOURCES_ATTEMPTS", Value: "3", Public: true}}, Hooks: failsOnce}, state: job.Success, says: "WARNING: Retrying...", proves: "Job succeeded"},
		"is stored a secret":      {job: gitlab.JobSpec{Script: []string{"echo $CI_JOB_TOKEN >out"}, Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"out"}}}}, state: job.Failed, reason: "script_failure", code: 1, says: "cleanroom: a secret is in what would be stored", proves: "Job failed"},
		"takes too long":          {job: gitlab.JobSpec{Script: []string{"echo one; sleep 60"}, Variables: []gitlab.Variable{{Key: "RUNNER_SCRIPT_TIMEOUT", Value: "3s", Public: true}}}, state: job.Failed, reason: "job_execution_timeout", says: "WARNING: step_script could not run to completion", proves: "Job failed: script timeout"},
		"has settings that can't": {job: gitlab.JobSpec{Script: []string{"echo one"}, Variables: []gitlab.Variable{{Key: "GIT_STRATEGY", Value: "steal", Public: true}, {Key: "GIT_CHECKOUT", Value: "maybe", Public: true}}}, state: job.Success, says: "WARNING: GIT_STRATEGY", proves: "steal"},
	} {
		if !b.open(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c.job.Project = project
			r := s.in(t).run(c.job)
			r.is(t, c.state, c.reason, c.code)
			r.says(t, c.says)
			s.forge(t, r)
			says, _ := s.matched(t, r.ID, string(r.Trace))
			has(t, says, "not proven", c.proves)
		})
	}
}

// TestMatchRetried: each try of a prepare has a record, and all have one log.
func TestMatchRetried(t *testing.T) {
	s, _ := audited(t, "[engine]\nhost = \"unix:///nowhere/docker.sock\"\n")
	r := s.run(gitlab.JobSpec{Script: []string{"true"}})
	r.is(t, job.Failed, "runner_system_failure", r.ExitCode)
	if n := strings.Count(r.log, "ERROR: Preparation failed: exit status 2"); n < 2 {
		t.Errorf("%d tries: %s", n, r.log)
	}
	s.driverEnds(r.ID)
	s.forge(t, r)
	t.Setenv("CLEANROOM_ENGINE_HOST", "unix:///var/run/docker.sock")
	s.cleanroom("reap")
	s.forge(t, r) // and with records of later endings
}

// failsOnce fails the first try to get the sources.
var failsOnce = []gitlab.Hook{{Name: "pre_get_sources_script", Script: []string{"test -e /builds/tried || { touch /builds/tried; echo first; exit 1; }"}}}

// TestMatchCanceled: a job that is told to end goes on with its after_script,
// and the log with it.
func TestMatchCanceled(t *testing.T) {
	s, _ := audited(t, storeConfig)
	id := s.submit(gitlab.JobSpec{Script: []string{`trap 'echo said goodbye; exit 0' TERM`, "while :; do echo working; sleep 0.2; done"}, AfterScript: []string{"echo after"}})
	s.until(id, "working")
	must(t, s.rig.Cancel(t.Context(), id, true))
	r := s.wait(id)
	r.says(t, "said goodbye", "after", "WARNING: script canceled externally")
	s.driverEnds(id)
	s.forge(t, r)
}
