// Package stages serves the four calls of the runner, for two programs:
// cleanroom, which the runner starts and which is quick to load, and
// cleanroom-admin, in whose place that puts itself for what it cannot serve.
package stages

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/tree"
	"cleanroom/executor/contract"
)

// Stage is one of the runner's calls.
type Stage struct {
	Name  string
	Args  int // how many it takes
	serve func(context.Context, *executor.Executor, []string) error
}

// All are the four.
var All = []Stage{
	{"config", 0, func(_ context.Context, x *executor.Executor, _ []string) error { return x.ConfigStage() }},
	{"prepare", 0, func(ctx context.Context, x *executor.Executor, _ []string) error { return x.PrepareStage(ctx) }},
	{"run", 2, func(ctx context.Context, x *executor.Executor, args []string) error {
		return x.RunStage(ctx, args[0], args[1])
	}},
	{"cleanup", 0, func(ctx context.Context, x *executor.Executor, _ []string) error { return x.CleanupStage(ctx) }},
}

// Find gives the stage of a name.
func Find(name string) (Stage, bool) {
	i := slices.IndexFunc(All, func(s Stage) bool { return s.Name == name })
	if i < 0 {
		return Stage{}, false
	}
	return All[i], true
}

// Program is what serves them.
type Program struct {
	Version string
	Config  string // path of the configuration; empty: config.Load's default
	Out     io.Writer
	// Full is nil in a program that calls HandOver instead, for what it cannot
	// serve: nothing was done then, and no signal is lost. It comes back with an
	// error only.
	Full     *executor.Full
	HandOver func() error
	// Audit opens what records go to; nil: a log that is only looked at.
	Audit func(config.Config, *logrus.Entry) (*executor.Audit, error)
}

// Serve reads the contract and the configuration and serves one call. Its error
// is an Exit with the code that the runner understands.
func (p Program) Serve(ctx context.Context, s Stage, args []string) error {
	call, err := contract.FromEnviron(os.Environ())
	if err == nil {
		err = p.serve(ctx, call, s, args)
	}
	if err == nil {
		return nil
	}
	e := Exit{Code: executor.ExitCode(call, err), Err: err}
	if executor.Silent(err) || executor.Told(err) {
		e.Err = nil
	}
	return e
}

func (p Program) serve(ctx context.Context, call *contract.Call, s Stage, args []string) error {
	cleanup := s.Name == "cleanup" // whatever is wrong with the configuration keeps no room from being wiped
	cfg, wrong := config.Load(p.Config, os.Environ())
	if wrong != nil && cfg.StateDir == "" { // it could not be read at all; the room's place is pinned in the environment
		var err error
		if cfg, err = config.Parse(nil, os.Environ()); err != nil {
			cfg = config.Default()
		}
	}
	x := &executor.Executor{Config: cfg, Call: call, Log: logrus.NewEntry(silent()), Out: p.Out, Version: p.Version, Full: p.Full}
	if wrong != nil && !cleanup {
		return failed(ctx, x, s, args, wrong)
	}
	log, err := DriverLog(cfg.Log, s.Name)
	if err != nil {
		if !cleanup {
			return failed(ctx, x, s, args, err)
		}
		log, wrong = logrus.New(), errors.Join(wrong, err)
	}
	fields := logrus.Fields{"stage": s.Name, "room": call.Room}
	if job, err := call.Job(); err == nil {
		fields["job"] = job.ID
	} else if id, ok := JobOf(call.Room); ok {
		fields["job"] = id
	}
	x.Log = log.WithFields(fields)
	if x.Audit, err = p.audit(cfg, x.Log); err == nil {
		err = x.Ready(s.Name, args) // before signals wait for us
	}
	if errors.Is(err, executor.ErrFull) {
		return failed(ctx, x, s, args, p.HandOver())
	}
	if err != nil {
		if !cleanup {
			return failed(ctx, x, s, args, err)
		}
		wrong = errors.Join(wrong, err) // the room is wiped, and stays on the books
		x.Audit = Keeper(cfg, NoLog{err}, p.Version, x.Log)
	}
	if x.Full != nil && x.Audit != nil && cfg.Audit.Provenance {
		x.Attest = x.Vouch
	}
	if cleanup { // whatever becomes of the runner, a wipe goes on to its end
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	} else {
		var stop context.CancelFunc
		ctx, stop = contract.NotifyTerm(ctx)
		defer stop()
		ctx, stop = contract.WatchParent(ctx)
		defer stop()
	}
	engine, err := OpenEngine(cfg, func(why error) {
		x.Log.WithError(why).Warn("the room has networks of the engine's, which take longer")
	})
	if err != nil {
		return failed(ctx, x, s, args, err)
	}
	defer engine.Close()
	x.Engine = engine
	if err = s.serve(ctx, x, args); cleanup && errors.Is(err, executor.ErrFull) {
		err = p.HandOver()
	}
	if cleanup && err == nil && wrong == nil && x.Refills() {
		if err := Detached(p.Config, "pool", "fill"); err != nil {
			x.Log.WithError(err).Warn("no room is made ahead: run `cleanroom pool fill`")
		}
	}
	err = errors.Join(wrong, err)
	if err != nil && !executor.Silent(err) {
		x.Log.WithField("error", executor.Fault(call, err)).Error("stage failed")
	}
	return err
}

// failed is for what keeps a call from being served. A stage of a room that is
// there has its record hold what the job was told; of all others the job's log
// has what End prints.
func failed(ctx context.Context, x *executor.Executor, s Stage, args []string, err error) error {
	if s.Name != "run" {
		return err
	}
	if x.Audit == nil { // its room's dossier, if there is one, takes it all the same
		x.Audit = &executor.Audit{Log: NoLog{err}, Version: x.Version}
	}
	return x.Failed(ctx, args[1], err)
}

func silent() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// audit without Full is for the newest checkpoint, and for knowing that there
// is a log. Where something is wrong with it, the full program says so.
func (p Program) audit(c config.Config, report *logrus.Entry) (*executor.Audit, error) {
	if p.Audit != nil {
		return p.Audit(c, report)
	}
	l, err := log.Open(log.Dir(c.DataDir))
	switch {
	case errors.Is(err, tree.ErrNoLog) && !c.Audit.Required:
		return nil, nil
	case err != nil:
		return nil, executor.ErrFull
	}
	return &executor.Audit{Log: NoLog{executor.ErrFull}, Version: p.Version, Checkpoint: l.Checkpoint}, nil
}

// Keeper is audit with no more than what keeps records.
func Keeper(c config.Config, l dossier.Log, version string, report *logrus.Entry) *executor.Audit {
	return &executor.Audit{Log: l, Queue: queue.Of(c.DataDir), Version: version, Required: c.Audit.Required, Report: report}
}

// NoLog is a log that cannot be used: what has to be in it before a room is off
// the books keeps it there, and what an admin did waits.
type NoLog struct{ Err error }

// Append is dossier.Log's.
func (n NoLog) Append([]byte) (int64, error) { return 0, n.Err }

// JobOf is the job's number in a room's name, cr-RUNNER-JOB-RANDOM.
func JobOf(room string) (int64, bool) {
	parts := strings.Split(room, "-")
	if len(parts) < 4 || parts[0] != "cr" {
		return 0, false
	}
	id, err := strconv.ParseInt(parts[len(parts)-2], 10, 64)
	return id, err == nil
}
