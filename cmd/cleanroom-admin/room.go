package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/sandbox"
	"cleanroom/sandbox/docker"
)

func roomCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "room", Short: "Show and remove the rooms on this engine", Args: cobra.NoArgs}
	c.AddCommand(roomList(g), roomShow(g), roomWipe(g))
	return c
}

func roomWipe(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "wipe ROOM...", Short: "Remove rooms now, whatever runs in them", Args: cobra.MinimumNArgs(1),
		Example: "  cleanroom room wipe cr-a1b2c3d4e-1234-0011223344",
		ValidArgsFunction: func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			engine, rooms, err := g.rooms(c.Context())
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			defer engine.Close()
			var names []string
			for _, r := range rooms {
				names = append(names, r.Name)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			r, done, err := g.reaper(c)
			if err != nil {
				return err
			}
			defer done()
			rooms, err := r.Rooms(c.Context())
			if err != nil {
				return err
			}
			for _, name := range args {
				if !slices.Contains(rooms, name) {
					return fmt.Errorf("%w: %q; `cleanroom room list` names all there are", sandbox.ErrNoRoom, name)
				}
			}
			for _, name := range args {
				if err := r.End(c.Context(), name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// hands are what a command needs that makes or ends rooms; the engine is the
// caller's to close, the log is the command's stderr.
func (g *globals) hands(c *cobra.Command) (cfg config.Config, entry *logrus.Entry, engine *docker.Engine, err error) {
	if cfg, err = g.load(); err != nil {
		return cfg, nil, nil, err
	}
	log, err := stages.DriverLog(cfg.Log, c.Name())
	if err != nil {
		return cfg, nil, nil, err
	}
	engine, err = stages.OpenEngine(cfg, nil)
	return cfg, logrus.NewEntry(log), engine, err
}

// reaper ends rooms for an admin.
func (g *globals) reaper(c *cobra.Command) (r *executor.Reaper, done func(), err error) {
	cfg, entry, engine, err := g.hands(c)
	if err != nil {
		return nil, nil, err
	}
	audit, err := g.books(cfg, entry)
	if err != nil {
		entry.WithError(err).Error("audit: rooms are ended all the same, and stay on the books")
	}
	r = &executor.Reaper{Config: cfg, Engine: engine, Log: entry, Out: c.OutOrStdout(), Audit: audit, Full: full, Version: version}
	return r, func() { engine.Close() }, nil
}

// rooms opens the engine, which the caller closes, and lists its rooms, oldest
// first.
func (g *globals) rooms(ctx context.Context) (*docker.Engine, []sandbox.RoomInfo, error) {
	engine, err := g.engine()
	if err != nil {
		return nil, nil, err
	}
	rooms, err := engine.Rooms(ctx)
	if err != nil {
		engine.Close()
		return nil, nil, err
	}
	slices.SortFunc(rooms, func(a, b sandbox.RoomInfo) int { return a.Created.Compare(b.Created) })
	return engine, rooms, nil
}

func reapCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "reap", Short: "End rooms whose job is over: revoke their leases, wipe them", Args: cobra.NoArgs,
		Long: "End rooms whose job is over and that no cleanup has ended: their leases are revoked, and all of them is\n" +
			"wiped. A job is over when its cleanup failed, the runner's process is gone, or its deadline (job timeout and an\n" +
			"hour) has passed. What cannot be revoked now stays in the journal for the next time. Of the audit log, destinations\n" +
			"and witnesses that were away get what they have not got yet.",
		Example: "  cleanroom reap\n  cleanroom install-timer # has systemd call it",
		RunE: func(c *cobra.Command, _ []string) error {
			r, done, err := g.reaper(c)
			if err != nil {
				return err
			}
			defer done()
			return errors.Join(r.Reap(c.Context()), publish(c.Context(), r.Config, r.Log))
		},
	}
}
