package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor/audit/forward"
	"cleanroom/executor/plain"
)

// detachedTime bounds a process that was started beside a job. What it leaves is
// for the next, or for reap.
const detachedTime = time.Minute

func auditForward(g *globals) *cobra.Command {
	var detached, status bool
	var rewind string
	var index int64
	c := &cobra.Command{
		Use: "forward", Short: "Send records that destinations have not got yet", Args: cobra.NoArgs,
		Long: "Send each [[audit.forward]] destination the records that it has not got yet. Jobs have it done by a process of\n" +
			"its own, and `cleanroom reap` does what is left; by hand it also tries one that failed a moment ago.",
		Example: "  cleanroom audit forward\n  cleanroom audit forward --status\n  cleanroom audit forward --rewind siem --index 0",
		RunE: func(c *cobra.Command, _ []string) error {
			l, cfg, err := g.openLedger()
			if err != nil {
				return err
			}
			if len(cfg.Audit.Forward) == 0 {
				return errors.New("records are sent nowhere: name a destination in [[audit.forward]]")
			}
			log, err := stages.DriverLog(cfg.Log, c.Name())
			if err != nil {
				return err
			}
			f := l.Forwarder(version, logrus.NewEntry(log))
			if status {
				return forwardStatus(c, f)
			}
			ctx, cancel := context.WithTimeout(c.Context(), detachedTime)
			defer cancel()
			if rewind != "" {
				if err := f.Rewind(ctx, rewind, index); err != nil {
					return err
				}
			}
			f.Force = !detached
			return f.Run(ctx)
		},
	}
	c.Flags().BoolVar(&status, "status", false, "show how far each destination is, and send nothing")
	c.Flags().StringVar(&rewind, "rewind", "", "destination that gets records again, from --index on")
	c.Flags().Int64Var(&index, "index", 0, "first record that it gets again")
	c.Flags().BoolVar(&detached, "detached", false, "leave alone what failed a moment ago, as jobs do")
	_ = c.Flags().MarkHidden("detached")
	return c
}

func forwardStatus(c *cobra.Command, f *forward.Forwarder) error {
	all, err := f.States(c.Context())
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DESTINATION\tPENDING\tSINCE\tERROR")
	for _, p := range all {
		since, wrong := "-", "-"
		if !p.FailingSince.IsZero() {
			since, wrong = utc(p.FailingSince), plain.Text(p.Error)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", plain.Word(p.Name), p.Pending, since, wrong)
	}
	return w.Flush()
}
