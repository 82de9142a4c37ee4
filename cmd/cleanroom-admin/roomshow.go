package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor"
	"cleanroom/executor/plain"
	"cleanroom/executor/pool"
	"cleanroom/sandbox"
)

// roomShow prints the evidence of how rooms ended.
func roomShow(g *globals) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "show JOB|ROOM", Short: "Show how the rooms of a job ended", Args: cobra.ExactArgs(1),
		Long: "Show the evidence of each try at ending a job's rooms: what was removed, what a second look still found,\n" +
			"and what became of each lease. It is kept for 30 days. A job may have had several rooms: the runner tries again.",
		Example: "  cleanroom room show 4711\n  cleanroom room show cr-a1b2c3d4e-4711-0011223344 --json",
		RunE: func(c *cobra.Command, args []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			rooms, err := executor.EndedRooms(cfg.DataDir, func(room string) bool {
				id, ok := stages.JobOf(room)
				return room == args[0] || ok && strconv.FormatInt(id, 10) == args[0] || pool.Named(room) // whose that was its endings say
			})
			if err != nil {
				return err
			}
			var all []executor.Ending
			for _, room := range rooms {
				endings, err := executor.Endings(cfg.DataDir, room)
				if err != nil {
					return err
				}
				for _, e := range endings {
					if room == args[0] || !pool.Named(room) || strconv.FormatInt(e.Job, 10) == args[0] {
						all = append(all, e)
					}
				}
			}
			if len(all) == 0 {
				return fmt.Errorf("%w: nothing is known of the end of %q: name a job's number or a room; `cleanroom room list` shows what is there now", sandbox.ErrNoRoom, args[0])
			}
			slices.SortStableFunc(all, func(a, b executor.Ending) int { return a.At.Compare(b.At) })
			if asJSON {
				return plainJSON(c.OutOrStdout(), all)
			}
			return showEndings(c.OutOrStdout(), all)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func showEndings(out io.Writer, all []executor.Ending) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for i, e := range all {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "room\t%s\n", e.Room)
		if e.Job != 0 {
			fmt.Fprintf(w, "job\t%d of %s\n", e.Job, plain.Word(e.Project))
		}
		fmt.Fprintf(w, "ended\t%s by %s, in %.2f s: %s\n", e.At.Format(time.RFC3339), e.By, e.Seconds, e.Why)
		fmt.Fprintf(w, "complete\t%s\n", word(e.Complete, "yes, nothing is left", "NO: `cleanroom reap` goes on"))
		for _, l := range e.Leases {
			fmt.Fprintf(w, "lease\t%s of secret %s at %s: %s\n", plain.Word(l.ID), l.Secret, l.Provider, l.Outcome)
		}
		for _, item := range e.Removed {
			fmt.Fprintf(w, "removed\t%s %s\n", item.Kind, item.Name)
		}
		if e.Runners != "" {
			fmt.Fprintf(w, "left to the runner\t%s, which it removes when cleanup has ended\n", e.Runners)
		}
		for _, item := range e.Left {
			fmt.Fprintf(w, "LEFT\t%s %s: %s\n", item.Kind, item.Name, item.Why)
		}
		if e.Error != "" {
			fmt.Fprintf(w, "error\t%s\n", e.Error)
		}
	}
	return w.Flush()
}
