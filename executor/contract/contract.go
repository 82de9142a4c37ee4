// Package contract is the runner's side of a call: the environment GitLab
// Runner's custom executor starts us with, the job response file, the names
// of stages, exit codes and signals. It is checked against GitLab Runner 17
// and 19, and refuses a runner that gives no job response.
//
// What it promises: nothing of an Environ or a response is trusted to be
// well formed, every error is one line that names what is wrong, and no error
// ever quotes a value.
package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"
)

// Errors of this package.
var (
	// ErrNoJobResponse is a runner too old for us.
	ErrNoJobResponse = errors.New("this gitlab-runner gives no JOB_RESPONSE_FILE: cleanroom needs GitLab Runner 17 or later")
	// ErrEnviron is an environment that no runner makes.
	ErrEnviron = errors.New("bad environment from gitlab-runner")
	// ErrResponse is a job response that cannot be read.
	ErrResponse = errors.New("bad job response")
	// ErrStage is a stage name that no runner makes.
	ErrStage = errors.New("bad stage name")
	// ErrService is a service that the job's author described wrongly.
	ErrService = errors.New("bad service")
)

// What our own config stage puts in job_env; the runner hands it back, with
// these names, from prepare on.
const (
	RoomVariable   = "CLEANROOM_ROOM"
	KeyVariable    = "CLEANROOM_KEY"
	RunnerVariable = "CLEANROOM_RUNNER"
)

// DriverName is what the runner calls us in the job's log.
const DriverName = "cleanroom"

const (
	customPrefix = "CUSTOM_ENV_"

	// What the runner has always meant when it names no codes
	// (executors/custom/command in its source).
	defaultBuildFailure  = 1
	defaultSystemFailure = 2
)

// Call is one invocation of the driver as the runner makes it.
type Call struct {
	// Variables are the job's, from CUSTOM_ENV_*, without that prefix. All of
	// them may be the author's words: a job variable shadows a predefined
	// one. Values are expanded by the runner; file variables hold content.
	Variables map[string]string
	// Room and Key are what our config stage put in job_env; empty there.
	Room, Key string
	// Runner is the process that called the config stage, as String writes it.
	Runner string
	// ResponseFile is the path of the job response, ExitCodeFile where the
	// job's own exit code goes (empty: nowhere), TmpDir the runner's
	// temporary folder for this job.
	ResponseFile, ExitCodeFile, TmpDir string

	buildFailure, systemFailure int

	once   sync.Once
	job    *Job
	jobErr error
}

// FromEnviron reads the contract from a process environment (os.Environ).
// ErrNoJobResponse means an old runner, and comes with a Call that knows the
// exit codes; ErrEnviron means anything else.
//
// Where CUSTOM_ENV_ names come twice the last wins, as in the runner. The
// runner's own names may come twice only with the same value.
func FromEnviron(environ []string) (*Call, error) {
	c := &Call{Variables: make(map[string]string, len(environ))}
	own := map[string]string{}
	for _, line := range environ {
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			continue
		}
		if custom, ok := strings.CutPrefix(name, customPrefix); ok {
			if custom != "" {
				c.Variables[custom] = value
			}
			continue
		}
		switch name {
		case api.BuildFailureExitCodeVariable, api.SystemFailureExitCodeVariable,
			api.BuildCodeFileVariable, api.JobResponseFileVariable,
			"TMPDIR", RoomVariable, KeyVariable, RunnerVariable:
			if old, ok := own[name]; ok && old != value {
				return nil, fmt.Errorf("%w: %s is given twice, with different values", ErrEnviron, name)
			}
			own[name] = value
		}
	}
	var err error
	if c.buildFailure, err = exitCode(own, api.BuildFailureExitCodeVariable, defaultBuildFailure); err != nil {
		return nil, err
	}
	if c.systemFailure, err = exitCode(own, api.SystemFailureExitCodeVariable, defaultSystemFailure); err != nil {
		return nil, err
	}
	if c.buildFailure == c.systemFailure {
		return nil, fmt.Errorf("%w: %s and %s are both %d", ErrEnviron,
			api.BuildFailureExitCodeVariable, api.SystemFailureExitCodeVariable, c.buildFailure)
	}
	c.ResponseFile = own[api.JobResponseFileVariable]
	if c.ResponseFile == "" {
		return c, ErrNoJobResponse
	}
	c.ExitCodeFile = own[api.BuildCodeFileVariable]
	c.TmpDir = own["TMPDIR"]
	c.Room, c.Key, c.Runner = own[RoomVariable], own[KeyVariable], own[RunnerVariable]
	return c, nil
}

func exitCode(own map[string]string, name string, unset int) (int, error) {
	value := own[name]
	if value == "" {
		return unset, nil
	}
	code, err := strconv.Atoi(value)
	if err != nil || code < 1 || code > 255 {
		return 0, fmt.Errorf("%w: %s is not a number from 1 to 255", ErrEnviron, name)
	}
	return code, nil
}

// BuildFailure is the exit code for what the job's author must mend; the
// runner does not try again. 1 unless the runner says otherwise.
func (c *Call) BuildFailure() int {
	if c == nil || c.buildFailure == 0 {
		return defaultBuildFailure
	}
	return c.buildFailure
}

// SystemFailure is the exit code for what an admin must mend; in prepare the
// runner tries three times. 2 unless the runner says otherwise. It and
// BuildFailure may be asked of a nil Call, so that a command that could not
// even read its contract can still exit.
func (c *Call) SystemFailure() int {
	if c == nil || c.systemFailure == 0 {
		return defaultSystemFailure
	}
	return c.systemFailure
}

// WriteBuildExitCode leaves the exit code of the job's own script for the
// runner, which reports it when we then exit with BuildFailure. A runner that
// named no file gets none, and takes its default of 1.
//
// The file holds the integer and nothing else: the runner takes the first
// line as a number and calls anything more a system failure.
func (c *Call) WriteBuildExitCode(code int) error {
	if code < 1 || code > 255 {
		return fmt.Errorf("exit code %d of a failed script is not from 1 to 255", code)
	}
	if c.ExitCodeFile == "" {
		return nil
	}
	f, err := os.OpenFile(c.ExitCodeFile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", api.BuildCodeFileVariable, err)
	}
	_, err = io.WriteString(f, strconv.Itoa(code))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", api.BuildCodeFileVariable, err)
	}
	return nil
}

// ConfigOutput is our answer to the config stage.
type ConfigOutput struct {
	BuildsDir, CacheDir string            // inside the room
	Version             string            // of the driver, for the job's log
	Room, Key           string            // come back in every later Call
	Env                 map[string]string // stands in the environment of every later call
}

// WriteConfig prints the config stage's answer as the runner reads it. It
// holds the room's key: w must be the runner's pipe.
func WriteConfig(w io.Writer, out ConfigOutput) error {
	name, shared := DriverName, false
	env := map[string]string{RoomVariable: out.Room, KeyVariable: out.Key, RunnerVariable: Runner().String()}
	maps.Copy(env, out.Env)
	return json.NewEncoder(w).Encode(api.ConfigExecOutput{
		Driver:            &api.DriverInfo{Name: &name, Version: &out.Version},
		BuildsDir:         &out.BuildsDir,
		CacheDir:          &out.CacheDir,
		BuildsDirIsShared: &shared,
		JobEnv:            &env,
	})
}

// Private are the values of the job's variables that the server does not call
// public, longest first: what no log of ours may show. Values under 4 bytes
// would make nonsense of it.
func (c *Call) Private() []string {
	job, err := c.Job()
	if err != nil {
		return nil
	}
	var values []string
	for _, v := range job.Variables {
		for _, value := range []string{v.Value, c.Variables[v.Key]} {
			if (v.Masked || !v.Public) && len(value) >= 4 {
				values = append(values, value)
			}
		}
	}
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	return values
}

// Masked are the values that no log of the job may show, whoever made it, by
// the names of what holds them: masked variables as the author wrote them and
// as they were expanded, the job's tokens, and the secrets that the runner
// itself resolved.
func (c *Call) Masked() []NamedValue {
	job, err := c.Job()
	if err != nil {
		return nil
	}
	all := []NamedValue{{"CI_JOB_TOKEN", job.Token}}
	for _, v := range job.Variables {
		if !v.Masked {
			continue
		}
		all = append(all, NamedValue{v.Key, c.Variables[v.Key]})
		if v.Raw || !strings.Contains(v.Value, "$") { // else it is no value yet
			all = append(all, NamedValue{v.Key, v.Value})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(job.Secrets)) {
		all = append(all, NamedValue{name, c.Variables[name]})
	}
	for _, login := range job.Credentials {
		all = append(all, NamedValue{"registry password", login.Password})
	}
	if u, err := url.Parse(job.GitInfo.RepoURL); err == nil {
		password, _ := u.User.Password()
		all = append(all, NamedValue{"CI_JOB_TOKEN", password})
	}
	seen := map[string]bool{"": true}
	return slices.DeleteFunc(all, func(v NamedValue) bool {
		twice := seen[v.Value]
		seen[v.Value] = true
		return twice
	})
}

// NamedValue is a value, and the name of what holds it.
type NamedValue struct{ Name, Value string }

// names of the job's variables, sorted.
func (c *Call) names() []string { return slices.Sorted(maps.Keys(c.Variables)) }
