package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/contract"
)

// stages are the four calls of the runner.
func stages(g *globals) []*cobra.Command {
	stage := func(use, short string, args cobra.PositionalArgs, serve func(context.Context, *executor.Executor, []string) error) *cobra.Command {
		name, _, _ := strings.Cut(use, " ")
		return &cobra.Command{
			Use: use, Short: short, Args: args,
			Long:    short + ".\n\nOnly gitlab-runner calls this: `cleanroom register` tells it how.",
			Example: "  cleanroom " + strings.NewReplacer("SCRIPT", "/tmp/custom-executor1/script2/script.", "STAGE", "build_script").Replace(use),
			RunE:    func(c *cobra.Command, args []string) error { return g.stage(c, name, args, serve) },
		}
	}
	return []*cobra.Command{
		stage("config", "Name the job's room and tell the runner its folders", cobra.NoArgs,
			func(_ context.Context, x *executor.Executor, _ []string) error { return x.ConfigStage() }),
		stage("prepare", "Make the job's room", cobra.NoArgs,
			func(ctx context.Context, x *executor.Executor, _ []string) error { return x.PrepareStage(ctx) }),
		stage("run SCRIPT STAGE", "Run one script of the job in its room", scriptAndStage,
			func(ctx context.Context, x *executor.Executor, args []string) error {
				return x.RunStage(ctx, args[0], args[1])
			}),
		stage("cleanup", "Wipe the job's room", cobra.NoArgs,
			func(ctx context.Context, x *executor.Executor, _ []string) error { return x.CleanupStage(ctx) }),
	}
}

func scriptAndStage(_ *cobra.Command, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("run takes two arguments, SCRIPT and STAGE, not %d: is run_args set to [\"run\"]? see `cleanroom register --help`", len(args))
	}
	return nil
}

// jobOf is the job's number in a room's name, cr-RUNNER-JOB-RANDOM.
func jobOf(room string) (int64, bool) {
	parts := strings.Split(room, "-")
	if len(parts) < 4 || parts[0] != "cr" {
		return 0, false
	}
	id, err := strconv.ParseInt(parts[len(parts)-2], 10, 64)
	return id, err == nil
}

// stage reads the contract and the configuration, serves one call, and ends
// with the exit code that the runner understands.
func (g *globals) stage(c *cobra.Command, name string, args []string, serve func(context.Context, *executor.Executor, []string) error) error {
	call, err := contract.FromEnviron(os.Environ())
	if err == nil {
		err = g.serve(c, call, name, args, serve)
	}
	if err == nil {
		return nil
	}
	e := exitError{code: executor.ExitCode(call, err), err: err}
	if executor.Silent(err) || executor.Told(err) {
		e.err = nil
	}
	return e
}

func (g *globals) serve(c *cobra.Command, call *contract.Call, name string, args []string, serve func(context.Context, *executor.Executor, []string) error) error {
	cfg, wrong := g.load()
	if wrong != nil && cfg.StateDir == "" { // it could not be read at all; the room's place is pinned in the environment
		var err error
		if cfg, err = config.Parse(nil, os.Environ()); err != nil {
			cfg = config.Default()
		}
	}
	x := &executor.Executor{Config: cfg, Call: call, Log: logrus.NewEntry(silent()), Out: c.OutOrStdout(), Version: version, Full: full}
	if wrong != nil && name != "cleanup" {
		return failed(c.Context(), x, name, args, wrong)
	}
	log, err := driverLog(cfg.Log, name)
	if err != nil {
		if name != "cleanup" {
			return failed(c.Context(), x, name, args, err)
		}
		log, wrong = logrus.New(), errors.Join(wrong, err)
	}
	fields := logrus.Fields{"stage": name, "room": call.Room}
	if job, err := call.Job(); err == nil {
		fields["job"] = job.ID
	} else if id, ok := jobOf(call.Room); ok {
		fields["job"] = id
	}
	x.Log = log.WithFields(fields)
	if x.Audit, err = g.audit(cfg, x.Log); err != nil {
		if name != "cleanup" {
			return failed(c.Context(), x, name, args, err)
		}
		wrong = errors.Join(wrong, err) // the room is wiped, and stays on the books
		x.Audit = keeper(cfg, noLog{err}, x.Log)
	}
	if x.Audit != nil && cfg.Audit.Provenance {
		x.Attest = x.Vouch
	}
	ctx := c.Context()
	if name == "cleanup" { // whatever becomes of the runner, a wipe goes on to its end
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	} else {
		var stop context.CancelFunc
		ctx, stop = contract.NotifyTerm(ctx)
		defer stop()
		ctx, stop = contract.WatchParent(ctx)
		defer stop()
	}
	engine, err := openEngine(cfg, func(why error) {
		x.Log.WithError(why).Warn("the room has networks of the engine's, which take longer")
	})
	if err != nil {
		return failed(ctx, x, name, args, err)
	}
	defer engine.Close()
	x.Engine = engine
	err = errors.Join(wrong, serve(ctx, x, args)) // what is wrong with the configuration keeps no room from being wiped
	if err != nil && !executor.Silent(err) {
		x.Log.WithField("error", executor.Fault(call, err)).Error("stage failed")
	}
	return err
}

// failed is for what keeps a call from being served. A stage of a room that is
// there has its record hold what the job was told; of all others the job's log
// has what main prints.
func failed(ctx context.Context, x *executor.Executor, name string, args []string, err error) error {
	if name != "run" || len(args) != 2 {
		return err
	}
	if x.Audit == nil { // its room's dossier, if there is one, takes it all the same
		x.Audit = &executor.Audit{Log: noLog{err}, Version: version}
	}
	return x.Failed(ctx, args[1], err)
}

func silent() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// driverLog is the admin's log. Without a file it is stderr where that is
// the runner's log (cleanup) and nothing where it is the job's.
func driverLog(c config.Log, stage string) (*logrus.Logger, error) {
	log := logrus.New()
	level, err := logrus.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	log.SetLevel(level)
	if c.Format == "json" {
		log.SetFormatter(&logrus.JSONFormatter{})
	} else {
		log.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, DisableColors: true})
	}
	switch {
	case c.File != "":
		f, err := os.OpenFile(c.File, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("log.file: %w", err)
		}
		log.SetOutput(f)
	case stage == "cleanup":
		log.SetOutput(os.Stderr)
	default:
		log.SetOutput(io.Discard)
	}
	return log, nil
}
