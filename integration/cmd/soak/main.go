// Command soak runs many jobs of mixed kinds through the real runner and
// cleanroom, several at once, and says whether the machine is afterwards as it
// was before: containers, volumes, networks, mounts, processes, files, leases,
// rules of the packet filter, and the engine's own memory and descriptors.
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
	"syscall"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

func main() {
	n := flag.Int("jobs", 100, "jobs to run")
	c := flag.Int("concurrent", 4, "jobs at once")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *n, *c); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

const config = `[images]
helper = "cleanroom/helper"
pull_policies = ["if-not-present"]
[room]
stage_grace = "2s"
[[provider]]
name = "store"
kind = "store"
[[secret]]
name = "KEY"
provider = "store"
[[policy.rule]]
name = "all"
when = "true"
secrets = ["KEY"]
`

func run(ctx context.Context, n, concurrent int) (err error) {
	if n < 1 || concurrent < 1 {
		return errors.New("--jobs and --concurrent must be at least 1")
	}
	dir, err := os.MkdirTemp("", "cleanroom-soak-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := filepath.Abs("../bin")
	if err != nil {
		return err
	}
	r, err := rig.New(ctx, rig.Options{Dir: dir, Bin: bin, Seed: uint64(time.Now().UnixNano())})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	runner, err := r.Start(ctx, rig.RunnerOptions{Executor: "custom", Concurrent: concurrent, Config: config})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runner.Stop()) }()
	secret := exec.CommandContext(ctx, filepath.Join(bin, "cleanroom"), "--config", runner.CleanroomConfig(), "secret", "set", "KEY", "--generator", "random", "--rotate", "job")
	if out, err := secret.CombinedOutput(); err != nil {
		return fmt.Errorf("cleanroom secret set: %w: %s", err, out)
	}
	if _, err := play(ctx, r, min(n, 2*concurrent), concurrent, nil); err != nil { // what only the first jobs make: image layers, caches
		return err
	}
	folders := []string{runner.StateDir(), runner.TempDir(), filepath.Join(runner.DataDir(), "leases")}
	before, err := look(ctx, r, folders)
	if err != nil {
		return err
	}
	began := time.Now()
	wrong, err := play(ctx, r, n, concurrent, os.Stdout)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, runner.Words())
	}
	took := time.Since(began)
	fmt.Printf("%d jobs in %s, %d at once: %.0f jobs a minute; %d did not end as they had to\n", n, took.Round(time.Second), concurrent, float64(n)/took.Minutes(), wrong)
	left := before.waitFor(ctx, r, folders)
	if err := before.print(left); err != nil {
		return err
	}
	if wrong > 0 {
		return fmt.Errorf("%d jobs did not end as they had to", wrong)
	}
	return nil
}

// kind is a job and how it has to end.
type kind struct {
	name   string
	spec   gitlab.JobSpec
	cancel bool
	state  job.State
}

var kinds = []kind{
	{name: "success", spec: gitlab.JobSpec{Script: []string{"true"}}, state: job.Success},
	{name: "failure", spec: gitlab.JobSpec{Script: []string{"exit 3"}}, state: job.Failed},
	{name: "cancel", spec: gitlab.JobSpec{Script: []string{"echo up; sleep 60"}}, cancel: true, state: job.Canceled},
	{name: "service", spec: gitlab.JobSpec{Services: []gitlab.Image{{Name: "cleanroom/service-pid1"}}, Script: []string{"true"}}, state: job.Success},
	{name: "artifacts", spec: gitlab.JobSpec{Script: []string{"mkdir out; head -c 200000 /dev/urandom >out/a"},
		Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"out/"}}}}, state: job.Success},
	{name: "secret", spec: gitlab.JobSpec{Variables: []gitlab.Variable{{Key: "CLEANROOM_SECRETS", Value: "KEY", Public: true}},
		Script: []string{"[ ${#KEY} -gt 8 ]", "echo $KEY"}}, state: job.Success},
}

// play runs n jobs, never more than some at once; progress may be nil. It
// counts those that did not end as they had to.
func play(ctx context.Context, r *rig.Rig, n, concurrent int, progress *os.File) (wrong int, err error) {
	type end struct {
		kind kind
		st   gitlab.JobStatus
		err  error
	}
	ends := make(chan end)
	start := func(i int) {
		k := kinds[i%len(kinds)]
		st, err := one(ctx, r, k)
		ends <- end{k, st, err}
	}
	running := 0
	for done, next := 0, 0; done < n; done++ {
		for ; next < n && running < 2*concurrent; next++ { // some wait, so that no slot is idle
			running++
			go start(next)
		}
		e := <-ends
		running--
		if e.err != nil {
			return wrong, e.err
		}
		if e.st.State != e.kind.state {
			wrong++
			fmt.Fprintf(os.Stderr, "\njob %d (%s) is %s, %s\n%s\n", e.st.ID, e.kind.name, e.st.State, e.st.FailureReason, rig.Text(e.st.Trace))
		}
		if progress != nil {
			rig.Bar(progress, done+1, n, "jobs")
		}
	}
	return wrong, nil
}

func one(ctx context.Context, r *rig.Rig, k kind) (gitlab.JobStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	spec := k.spec
	spec.Name, spec.Image = k.name, &gitlab.Image{Name: "cleanroom/busybox"}
	id, err := r.Submit(ctx, spec)
	if err == nil && k.cancel {
		if _, err = r.WaitTrace(ctx, id, "up"); err == nil {
			err = r.Cancel(ctx, id, false)
		}
	}
	if err != nil {
		return gitlab.JobStatus{}, err
	}
	return r.Wait(ctx, id)
}
