// Command demo runs the sample project's pipeline through a real gitlab-runner
// with cleanroom as its executor, shows what GitLab would show, and ends with
// what each job left on the machine: nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

const project = "shop/items"

func main() {
	profile := flag.String("profile", "hardened", "hardening of the rooms: compatible, hardened or strict")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, profile string) error {
	began := time.Now()
	dir, err := os.MkdirTemp("", "cleanroom-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := filepath.Abs("../bin")
	if err != nil {
		return err
	}
	r, err := rig.New(ctx, rig.Options{Dir: dir, Bin: bin, Seed: 1})
	if err != nil {
		return err
	}
	defer r.Close()
	before, err := r.Look(ctx)
	if err != nil {
		return err
	}
	w, err := r.Start(ctx, rig.RunnerOptions{Executor: "custom", Concurrent: 2,
		Config: fmt.Sprintf("profile = %q\n[images]\nhelper = \"cleanroom/helper\"\npull_policies = [\"if-not-present\"]\n[cache]\nenabled = true\n", profile)})
	if err != nil {
		return err
	}
	defer w.Stop()
	if _, err := r.AddProject(ctx, gitlab.Project{Path: project, Dir: "sample"}); err != nil {
		return err
	}
	id, err := r.Pipeline(ctx, project, "main")
	if err != nil {
		return err
	}
	fmt.Printf("Pipeline of %s on a real gitlab-runner, profile %s\n", project, profile)
	rows, err := follow(ctx, r, id)
	if err != nil {
		return fmt.Errorf("%w\nthe runner's log:\n%s", err, w.Words())
	}
	table(rows)
	if err := w.Stop(); err != nil {
		return err
	}
	wipe := exec.CommandContext(ctx, filepath.Join(bin, "cleanroom"), "cache", "wipe", "--config", w.CleanroomConfig(), "--project", project)
	if out, err := wipe.CombinedOutput(); err != nil {
		return fmt.Errorf("cleanroom cache wipe: %w: %s", err, out)
	} else {
		fmt.Printf("\n$ cleanroom cache wipe --project %s\n%s", project, out)
	}
	after, err := r.Look(ctx)
	if err != nil {
		return err
	}
	// Others may use this engine meanwhile: what is ours bears the runner's
	// short token (rooms are named by it) or its folder.
	left, others := after.Since(before).Of(r.ShortToken(), filepath.Base(w.Dir))
	fmt.Printf("\n%d things left on the machine, after %.0f s in all.\n%s", left.Count(), time.Since(began).Seconds(), left)
	if others > 0 {
		fmt.Printf("(%d things of others came meanwhile)\n", others)
	}
	for _, row := range rows {
		if row.State != job.Success || row.left != "0 0 0" {
			return fmt.Errorf("job %s: %s, left %s", row.Name, row.State, row.left)
		}
	}
	if left.Count() > 0 {
		return fmt.Errorf("%d things were left", left.Count())
	}
	return nil
}

// row is a job that is over, and what stood of it when it was.
type row struct {
	gitlab.JobStatus
	left string // containers, volumes, networks
}

// follow shows each job's log as it ends.
func follow(ctx context.Context, r *rig.Rig, pipeline int64) (rows []row, err error) {
	shown := map[int64]bool{}
	for seq := 0; ; {
		status, err := r.PipelineStatus(ctx, pipeline)
		if err != nil {
			return rows, err
		}
		for _, j := range status.Jobs {
			if !j.Done || shown[j.ID] {
				continue
			}
			shown[j.ID] = true
			whole, err := r.Job(ctx, j.ID)
			if err != nil {
				return rows, err
			}
			left, err := r.LeftOf(ctx, j.ID)
			if err != nil {
				return rows, err
			}
			rows = append(rows, row{whole, left})
			fmt.Printf("\n\x1b[1m━━ %s (%s) ━━\x1b[0m\n%s\n", whole.Name, whole.State, strings.TrimRight(rig.Shown(whole.Trace), "\n"))
		}
		if status.Done {
			return rows, nil
		}
		events, err := r.Events(ctx, seq)
		if err != nil {
			return rows, err
		}
		seq = events[len(events)-1].Seq
	}
}

func table(rows []row) {
	fmt.Println()
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "JOB\tSTATE\tEXIT CODE\tSECONDS\tCONTAINERS, VOLUMES, NETWORKS LEFT")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%.1f\t%s\n", r.Name, r.State, r.ExitCode, r.FinalAt.Sub(r.HandedAt).Seconds(), r.left)
	}
	w.Flush()
}
