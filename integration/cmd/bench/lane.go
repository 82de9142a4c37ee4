package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// The lanes, by their names on the command line.
const (
	shellLane   = "shell"
	dockerLane  = "docker"
	execLane    = "exec"
	coldLane    = "cold"
	secretsLane = "secrets"
	warmLane    = "warm"
)

func laneNames() []string {
	return []string{shellLane, dockerLane, execLane, coldLane, secretsLane, warmLane}
}

var labels = map[string]string{
	shellLane:   "shell executor",
	dockerLane:  "docker executor",
	execLane:    "docker run and exec",
	coldLane:    "cleanroom, cold",
	secretsLane: fmt.Sprintf("cleanroom, cold, %d secrets", secretCount),
	warmLane:    "cleanroom, warm",
}

//go:embed execdriver.sh
var execDriver []byte

// hopeless is when a job will not end any more.
const hopeless = 5 * time.Minute

// lane is one executor with a stand-in and a runner to itself.
type lane struct {
	name, dir string
	rig       *rig.Rig
	runner    *rig.Runner
	atOnce    int
}

func (l *lane) label() string { return labels[l.name] }

// ours tells whether it is cleanroom.
func (l *lane) ours() bool { return l.name == coldLane || l.name == secretsLane || l.name == warmLane }

// does tells whether this executor can run a job of that kind.
func (l *lane) does(w work) bool { return l.name != shellLane || w.noShell == "" }

// open starts a stand-in and a runner; what it returns wants closing, whatever
// the error.
func open(ctx context.Context, dir, name string, s set) (*lane, error) {
	l := &lane{name: name, dir: dir}
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
	for path, folder := range map[string]string{sampleProject: "sample", treeProject: s.tree} {
		if _, err := l.rig.AddProject(ctx, gitlab.Project{Path: path, Dir: folder}); err != nil {
			return l, err
		}
	}
	return l, l.start(ctx, 1, "", nil)
}

// start has a runner take that many jobs at once, in the place of the one
// before.
func (l *lane) start(ctx context.Context, atOnce int, wrapper string, env []string) error {
	if err := l.stop(); err != nil {
		return err
	}
	o := rig.RunnerOptions{Executor: "custom", Concurrent: atOnce, Config: cleanroomConfig, Wrapper: wrapper, Env: env}
	switch l.name {
	case shellLane, dockerLane:
		o.Executor = l.name
	case execLane:
		o.Driver = filepath.Join(l.dir, "execdriver.sh")
		if err := os.WriteFile(o.Driver, execDriver, 0o700); err != nil {
			return err
		}
	case secretsLane:
		o.Config += secretsConfig()
	case warmLane:
		o.Config += poolConfig(atOnce)
	}
	var err error
	if l.runner, err = l.rig.Start(ctx, o); err != nil {
		return err
	}
	l.atOnce = atOnce
	if l.name == secretsLane {
		return l.setSecrets(ctx)
	}
	return nil
}

// cleanroomConfig is what each cleanroom has: no registry here, and caches, as
// the docker executor has them.
const cleanroomConfig = `[images]
helper = "cleanroom/helper"
pull_policies = ["if-not-present"]
[cache]
enabled = true
`

// stop ends the runner, and what it was to have ready.
func (l *lane) stop() error {
	if l.runner == nil {
		return nil
	}
	err := errors.Join(l.drain(), l.runner.Stop())
	l.runner = nil
	return err
}

// cleanroom runs a command of the lane's own.
func (l *lane) cleanroom(ctx context.Context, args ...string) error {
	_, err := output(ctx, filepath.Join(l.rig.Bin, "cleanroom"), append([]string{"--config", l.runner.CleanroomConfig()}, args...)...)
	return err
}

// submit hands in a job.
func (l *lane) submit(ctx context.Context, w work) (int64, error) {
	spec := w.spec
	if l.name == secretsLane {
		spec.Variables = append(spec.Variables[:len(spec.Variables):len(spec.Variables)], askForSecrets())
	}
	return l.rig.Submit(ctx, spec)
}

// await waits for a job's good end.
func (l *lane) await(ctx context.Context, id int64, w work) (gitlab.JobStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, hopeless)
	defer cancel()
	st, err := l.rig.Wait(ctx, id)
	if err != nil {
		words := l.runner.Words()
		return st, fmt.Errorf("%s: %s: %w\n%s", l.name, w.name, err, words[max(0, len(words)-2000):])
	}
	if st.State != job.Success || st.TraceError != "" || st.TraceBytes < w.trace {
		text := rig.Text(st.Trace[max(0, len(st.Trace)-10_000):])
		return st, fmt.Errorf("%s: %s: the job is %s (%s), with %d bytes of log, %s\n%s", l.name, w.name, st.State, st.FailureReason, st.TraceBytes, st.TraceError, text)
	}
	return st, l.rig.Forget(ctx, id)
}

// once runs one job, with rooms ready where there is a pool.
func (l *lane) once(ctx context.Context, w work) (gitlab.JobStatus, error) {
	if err := l.fill(ctx, w); err != nil {
		return gitlab.JobStatus{}, err
	}
	id, err := l.submit(ctx, w)
	if err != nil {
		return gitlab.JobStatus{}, err
	}
	st, err := l.await(ctx, id, w)
	return st, errors.Join(err, l.fill(ctx, w))
}

func closeAll(lanes []*lane) error {
	var failed []error
	for _, l := range lanes {
		failed = append(failed, l.stop(), sweep(l.rig.ShortToken()), l.rig.Close())
	}
	return errors.Join(failed...)
}
