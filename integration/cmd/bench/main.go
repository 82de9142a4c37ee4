// Command bench times the trivial job (`true`, no repository) under three
// executors of one gitlab-runner, side by side: the runner's own shell
// executor, which is the floor that runner and GitLab set, its docker
// executor, which is what cleanroom takes the place of, and cleanroom.
//
// Each executor has a runner and a stand-in GitLab of its own, and they take
// turns job by job, so that whatever else the machine does meets all three.
// A job's time is from hand-out to final state, by the stand-in's clock.
//
// A second table has the speed of redaction; --redact prints only that, which
// needs no engine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/redactbench"
	"cleanroom/integration/rig"
)

// jobTimeout is when a trivial job will not end any more.
const jobTimeout = 2 * time.Minute

func main() {
	runs := flag.Int("runs", 10, "jobs to time for each executor, after one that warms up")
	markdown := flag.Bool("markdown", false, "print a Markdown table")
	only := flag.Bool("redact", false, "only measure redaction")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if !*only {
		err = run(ctx, *runs, *markdown)
		fmt.Println()
	}
	if err == nil {
		err = redactbench.Run(ctx, os.Stdout, *markdown)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

var labels = map[string]string{"shell": shellLabel, "docker": dockerLabel, "custom": roomLabel}

// lane is one executor with all it needs to itself.
type lane struct {
	label  string
	rig    *rig.Rig
	runner *rig.Runner
	times  []time.Duration
}

func run(ctx context.Context, runs int, markdown bool) (err error) {
	if runs < 1 {
		return errors.New("--runs must be at least 1")
	}
	machine, err := machineLine(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "cleanroom-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var lanes []*lane
	defer func() { err = errors.Join(err, closeAll(lanes)) }()
	for _, executor := range []string{"shell", "docker", "custom"} {
		l, err := open(ctx, filepath.Join(dir, executor), executor)
		if l.rig != nil {
			lanes = append(lanes, l)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", executor, err)
		}
	}
	for i := range runs + 1 {
		for _, l := range lanes {
			took, err := l.once(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", l.label, err)
			}
			if i > 0 { // the first one warms up
				l.times = append(l.times, took)
			}
		}
	}
	var rows []row
	for _, l := range lanes {
		rows = append(rows, summary(l.label, l.times))
	}
	fmt.Printf("`true` without a repository in cleanroom/busybox, %d runs each, taking turns\n%s\n\n", runs, machine)
	return table(os.Stdout, rows, markdown)
}

// open starts a stand-in and a runner; what it returns wants closing, whatever
// the error.
func open(ctx context.Context, dir, executor string) (*lane, error) {
	l := &lane{label: labels[executor]}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return l, err
	}
	bin, err := filepath.Abs("../bin")
	if err != nil {
		return l, err
	}
	if l.rig, err = rig.New(ctx, rig.Options{Dir: dir, Bin: bin, Seed: 1}); err != nil {
		return l, err
	}
	l.runner, err = l.rig.Start(ctx, rig.RunnerOptions{Executor: executor,
		Config: "[images]\nhelper = \"cleanroom/helper\"\npull_policies = [\"if-not-present\"]\n"})
	return l, err
}

// once runs the job and tells how long it took.
func (l *lane) once(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, jobTimeout)
	defer cancel()
	id, err := l.rig.Submit(ctx, gitlab.JobSpec{Name: "true", Image: &gitlab.Image{Name: "cleanroom/busybox"}, Script: []string{"true"}})
	if err != nil {
		return 0, err
	}
	st, err := l.rig.Wait(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("%w\n%s", err, l.runner.Words())
	}
	if st.State != job.Success {
		return 0, fmt.Errorf("the job is %s (%s)\n%s", st.State, st.FailureReason, rig.Text(st.Trace))
	}
	return st.FinalAt.Sub(st.HandedAt), nil
}

func closeAll(lanes []*lane) error {
	var failed []error
	for _, l := range lanes {
		if l.runner != nil {
			failed = append(failed, l.runner.Stop(), sweep(l.rig.Token))
		}
		failed = append(failed, l.rig.Close())
	}
	return errors.Join(failed...)
}

// machineLine says what the numbers were measured on.
func machineLine(ctx context.Context) (string, error) {
	runner, err := rig.GitLabRunner()
	if err != nil {
		return "", err
	}
	version, err := output(ctx, runner, "--version")
	if err != nil {
		return "", err
	}
	engine, err := output(ctx, "docker", "version", "--format", "{{.Server.Version}}")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(version, "\n")
	_, number, _ := strings.Cut(first, ":")
	return fmt.Sprintf("%d cores, Docker Engine %s, gitlab-runner %s", runtime.NumCPU(), strings.TrimSpace(engine), strings.TrimSpace(number)), nil
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
