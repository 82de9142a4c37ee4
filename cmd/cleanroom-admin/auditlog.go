package main

import (
	"context"
	"errors"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/report"
)

// audit is where records go; nil on a host that keeps no log. What is
// forwarded is sent by a process that outlives this one.
func (g *globals) audit(c config.Config, report *logrus.Entry) (*executor.Audit, error) {
	l, err := ledger.Open(c)
	switch {
	case errors.Is(err, ledger.ErrNoLog) && !c.Audit.Required:
		return nil, nil
	case err != nil:
		return nil, err
	}
	a := stages.Keeper(c, l, version, report)
	a.Checkpoint, a.Seal, a.Builder = l.Checkpoint, l.Seal, l.Builder()
	if len(c.Audit.Forward) > 0 {
		a.Log = forwarding{l, func() {
			if err := stages.Detached(g.path(), "audit", "forward"); err != nil {
				report.WithError(err).Error("audit: records are not forwarded now: `cleanroom reap` does it")
			}
		}}
	}
	return a, nil
}

// books is audit for what is done whether or not the log can be used. The error
// says why it cannot.
func (g *globals) books(c config.Config, report *logrus.Entry) (*executor.Audit, error) {
	a, err := g.audit(c, report)
	if err != nil {
		a = stages.Keeper(c, stages.NoLog{Err: err}, version, report)
	}
	return a, err
}

// forwarding is a log of which each new record is sent on.
type forwarding struct {
	*ledger.Ledger
	after func()
}

func (f forwarding) Append(text []byte) (int64, error) {
	index, err := f.Ledger.Append(text)
	if err == nil {
		f.after()
	}
	return index, err
}

// announce writes down what an admin is about to change, if there is a log;
// must: it is done also where that fails.
func (g *globals) announce(c *cobra.Command, cfg config.Config, kind record.Kind, must bool, fill func(*record.Record)) (*executor.Announced, error) {
	a, _ := g.books(cfg, logrus.NewEntry(logrus.StandardLogger())) // why the log cannot be used is said when it is told
	return a.Announce(kind, c.CommandPath()[len("cleanroom "):], must, fill)
}

// openLedger is the log that a command reads.
func (g *globals) openLedger() (*ledger.Ledger, config.Config, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, cfg, err
	}
	l, err := ledger.Open(cfg)
	return l, cfg, err
}

// publishTime bounds what reap sends to other hosts.
const publishTime = time.Minute

// publish sends what other hosts have not got yet of the log, if there is one.
func publish(ctx context.Context, cfg config.Config, report *logrus.Entry) error {
	l, err := ledger.Open(cfg)
	if errors.Is(err, ledger.ErrNoLog) && !cfg.Audit.Required {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	return l.Publish(ctx, version, report)
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// readLedger is the log as reports read it.
type readLedger struct {
	*ledger.Ledger
	ctx    context.Context
	config config.Config
}

func (r readLedger) Verify(a against) (report.Head, error) {
	found, err := a.look(r.ctx, ledger.Dir(r.config), r.Ledger, r.config)
	if err != nil {
		return report.Head{}, err
	}
	return report.Head{Origin: found.Checkpoint.Origin, Size: found.Checkpoint.Size, Root: found.Checkpoint.Root.String(),
		Verification: report.Verification{Checked: true, Pinned: found.Pinned, Against: found.Against, Missing: found.Missing,
			Unread: found.Unread.First, UnreadTotal: int64(found.Unread.Total), Without: int64(found.Without.Total), Wrong: found.wrong()}}, nil
}
