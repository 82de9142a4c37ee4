package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"cleanroom/executor"
	"cleanroom/executor/plain"
)

func poolCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "pool", Short: "Make rooms ahead of their jobs, show them, throw them away", Args: cobra.NoArgs}
	c.AddCommand(poolList(g), poolFill(g), poolDrain(g))
	return c
}

// stocker is opened with the engine, which done closes.
func (g *globals) stocker(c *cobra.Command) (s *executor.Stocker, done func(), err error) {
	cfg, entry, engine, err := g.hands(c)
	if err != nil {
		return nil, nil, err
	}
	s = &executor.Stocker{Config: cfg, Engine: engine, Log: entry, Out: c.OutOrStdout(), Version: version}
	return s, func() { engine.Close() }, nil
}

// fillTime bounds a process that a cleanup started; what it leaves is for the next.
const fillTime = 10 * time.Minute

func poolFill(g *globals) *cobra.Command {
	var detached bool
	c := &cobra.Command{
		Use: "fill", Short: "Make the rooms that are missing, for jobs to come", Args: cobra.NoArgs,
		Long: "Throw away rooms that no job would be given any more, and make those that are missing: for each image and\n" +
			"profile that a job had within pool.age, and for pool.images, whose images are pulled if they are not there.\n" +
			"Cleanup has it done by a process of its own, without pulling. One process fills at a time.",
		Example: "  cleanroom pool fill",
		RunE: func(c *cobra.Command, _ []string) error {
			if detached { // jobs come first
				_ = unix.Setpriority(unix.PRIO_PROCESS, 0, 10)
			}
			s, done, err := g.stocker(c)
			if err != nil {
				return err
			}
			defer done()
			ctx := c.Context()
			if detached {
				var enough context.CancelFunc
				ctx, enough = context.WithTimeout(ctx, fillTime)
				defer enough()
			} else if s.Config.Pool.Size == 0 {
				return errors.New("no rooms are made ahead: set pool.size")
			}
			err = s.Fill(ctx, !detached)
			if err != nil {
				s.Log.WithError(err).Error("rooms are not made ahead")
			}
			return err
		},
	}
	c.Flags().BoolVar(&detached, "detached", false, "as cleanup does")
	_ = c.Flags().MarkHidden("detached")
	return c
}

func poolDrain(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "drain", Short: "Throw away all rooms that wait for a job", Args: cobra.NoArgs,
		Example: "  cleanroom pool drain",
		RunE: func(c *cobra.Command, _ []string) error {
			s, done, err := g.stocker(c)
			if err != nil {
				return err
			}
			defer done()
			return s.Drain(c.Context())
		},
	}
}

// waiting is a room as `pool list --json` shows it.
type waiting struct {
	Room       string    `json:"room"`
	Image      string    `json:"image"`
	Helper     string    `json:"helper"`
	Profile    string    `json:"profile"`
	Cache      bool      `json:"cache"`
	Made       time.Time `json:"made"`
	AgeSeconds int64     `json:"age_seconds"`
}

func poolList(g *globals) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List the rooms that wait for a job", Args: cobra.NoArgs,
		Example: "  cleanroom pool list\n  cleanroom pool list --json",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			ready, err := (&executor.Stocker{Config: cfg}).Ready()
			if err != nil {
				return err
			}
			all := []waiting{}
			for _, e := range ready {
				all = append(all, waiting{e.Room, e.Kind.Image, e.Kind.Helper, e.Kind.Profile, e.Kind.Cache, e.Made.UTC(), int64(time.Since(e.Made).Seconds())})
			}
			if asJSON {
				return plainJSON(c.OutOrStdout(), all)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ROOM\tIMAGE\tPROFILE\tCACHE\tAGE")
			for _, r := range all {
				cache := "-"
				if r.Cache {
					cache = "yes"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Room, plain.Word(r.Image), plain.Word(r.Profile), cache, time.Duration(r.AgeSeconds)*time.Second)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
