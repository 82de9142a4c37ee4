package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// RunnerOptions of a gitlab-runner process.
type RunnerOptions struct {
	Executor   string // custom (cleanroom), docker or shell
	Concurrent int    // 1 when zero
	Config     string // cleanroom's configuration, after the rig's own lines
	Bin        string // folder of another cleanroom than the rig's
	// Driver is the path of another custom executor's driver than cleanroom,
	// called with the name of what it is to do.
	Driver string
	// Wrapper is the path of a program that is called in the place of the
	// driver, with the driver's path and arguments as its own.
	Wrapper string
	// Extra lines go into [[runners]].
	Extra string
	// Env is added to the runner's environment, and so to cleanroom's.
	Env []string
}

// Runner is a running gitlab-runner.
type Runner struct {
	Dir string
	Log string // file
	cmd *exec.Cmd
}

// ShortToken is how the runner names itself to its jobs (ShortenToken in its
// helpers), as rooms are named by it.
func (r *Rig) ShortToken() string {
	token := strings.TrimPrefix(r.Token, "glrt-")
	return token[:min(len(token), 9)]
}

// StateDir is cleanroom's state folder, on tmpfs.
func (r *Runner) StateDir() string {
	return filepath.Join("/dev/shm", "cleanroom-"+filepath.Base(r.Dir))
}

// DataDir is cleanroom's data folder, on disk.
func (r *Runner) DataDir() string { return filepath.Join(r.Dir, "data") }

// TempDir is the runner's TMPDIR.
func (r *Runner) TempDir() string { return filepath.Join(r.Dir, "tmp") }

// Home is the HOME of the runner's user.
func (r *Runner) Home() string { return filepath.Join(r.Dir, "home") }

// CleanroomConfig is the configuration file of cleanroom.
func (r *Runner) CleanroomConfig() string { return filepath.Join(r.Dir, "cleanroom.toml") }

// Start registers an executor on a new runner and starts it.
func (r *Rig) Start(ctx context.Context, o RunnerOptions) (*Runner, error) {
	binary, err := GitLabRunner()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(r.Dir, "runner-")
	if err != nil {
		return nil, err
	}
	w := &Runner{Dir: dir, Log: filepath.Join(dir, "runner.log")}
	for _, d := range []string{"tmp", "builds", "cache", "home"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, []byte(r.runnerConfig(w, o)), 0o600); err != nil {
		return nil, err
	}
	if o.Executor == "custom" && o.Driver == "" {
		if err := r.register(ctx, w, config, o); err != nil {
			return nil, err
		}
	}
	if o.Wrapper != "" {
		if err := wrap(config, o.Wrapper); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(w.Log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	w.cmd = exec.Command(binary, "--log-format", "text", "run", "--config", config, "--working-directory", dir)
	w.cmd.Env = append(append(environ(), "TMPDIR="+w.TempDir(), "HOME="+w.Home()), o.Env...)
	w.cmd.Stdout, w.cmd.Stderr = log, log
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return w, w.cmd.Start()
}

// environ is ours without what would change a runner's mind.
func environ() []string {
	var keep []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "CI") && !strings.HasPrefix(v, "GITLAB_") && !strings.HasPrefix(v, "CLEANROOM_") && !strings.HasPrefix(v, "TMPDIR=") && !strings.HasPrefix(v, "HOME=") {
			keep = append(keep, v)
		}
	}
	return keep
}

func (r *Rig) runnerConfig(w *Runner, o RunnerOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "concurrent = %d\ncheck_interval = 1\nshutdown_timeout = 60\n\n[[runners]]\n", max(o.Concurrent, 1))
	fmt.Fprintf(&b, "  name = \"rig\"\n  url = %q\n  clone_url = %q\n  token = %q\n  executor = %q\n  request_concurrency = %d\n  output_limit = 204800\n%s",
		r.URL, r.URL, r.Token, o.Executor, max(o.Concurrent, 1), o.Extra)
	if r.CA != "" {
		fmt.Fprintf(&b, "  tls-ca-file = %q\n", r.CA)
	}
	switch o.Executor {
	case "shell":
		fmt.Fprintf(&b, "  shell = \"bash\"\n  builds_dir = %q\n  cache_dir = %q\n", filepath.Join(w.Dir, "builds"), filepath.Join(w.Dir, "cache"))
	case "docker":
		fmt.Fprintf(&b, "  [runners.docker]\n    image = \"cleanroom/busybox\"\n    helper_image = \"cleanroom/helper\"\n    pull_policy = [\"if-not-present\"]\n")
	case "custom":
		if o.Driver == "" {
			break // cleanroom registers itself
		}
		fmt.Fprintf(&b, "  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n  [runners.custom]\n")
		for _, what := range []string{"prepare", "run", "cleanup"} {
			fmt.Fprintf(&b, "    %s_exec = %q\n    %s_args = [%q]\n", what, o.Driver, what, what)
		}
	}
	return b.String()
}

// register has cleanroom write itself into the runner's configuration, as an
// admin would.
func (r *Rig) register(ctx context.Context, w *Runner, config string, o RunnerOptions) error {
	text := fmt.Sprintf("state_dir = %q\ndata_dir = %q\n%s", w.StateDir(), w.DataDir(), o.Config)
	if err := os.WriteFile(w.CleanroomConfig(), []byte(text), 0o600); err != nil {
		return err
	}
	args := []string{"register", "--runner-config", config, "--config", w.CleanroomConfig()}
	c := exec.CommandContext(ctx, filepath.Join(cmp.Or(o.Bin, r.Bin), "cleanroom"), args...)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cleanroom register: %w: %s", err, out)
	}
	return nil
}

var (
	program   = regexp.MustCompile(`(?m)^( *\w+_exec = )(".*")\n`)
	arguments = regexp.MustCompile(`(?m)^( *\w+_args = \[)`)
)

// wrap has a registered driver called by a wrapper.
func wrap(config, wrapper string) error {
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	driver := program.FindSubmatch(text)
	if driver == nil {
		return errors.New("no driver is registered that could be wrapped")
	}
	text = program.ReplaceAll(text, fmt.Appendf(nil, "${1}%q\n", wrapper))
	text = arguments.ReplaceAll(text, fmt.Appendf(nil, "${1}%s, ", driver[2]))
	return os.WriteFile(config, text, 0o600)
}

// Stop ends the runner as systemd does (QUIT would wait for jobs, TERM ends
// them) and waits.
func (w *Runner) Stop() error {
	if w.cmd == nil || w.cmd.Process == nil || w.cmd.ProcessState != nil {
		return os.RemoveAll(w.StateDir())
	}
	done := make(chan error, 1)
	go func() { done <- w.cmd.Wait() }()
	w.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(2 * time.Minute): // more than shutdown_timeout
		w.cmd.Process.Kill()
		<-done
		return errors.New("gitlab-runner did not end within 2 min of TERM")
	}
	return os.RemoveAll(w.StateDir())
}

// Signal sends one to the runner's own process.
func (w *Runner) Signal(s syscall.Signal) error { return w.cmd.Process.Signal(s) }

// Wait waits for the runner to end.
func (w *Runner) Wait() error { return w.cmd.Wait() }

// Words returns the runner's log.
func (w *Runner) Words() string {
	b, err := os.ReadFile(w.Log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
