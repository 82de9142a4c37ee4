package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"cleanroom/executor"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
	"cleanroom/sandbox/docker"
)

func roomCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "room", Short: "Show and remove the rooms on this engine", Args: cobra.NoArgs}
	var asJSON bool
	list := &cobra.Command{
		Use: "list", Short: "List rooms with job, project, age and deadline", Args: cobra.NoArgs,
		Example: "  cleanroom room list\n  cleanroom room list --json",
		RunE: func(c *cobra.Command, _ []string) error {
			engine, rooms, err := g.rooms(c.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			if rooms, err = g.withJournals(rooms); err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(c.OutOrStdout()).Encode(rooms)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "ROOM\tJOB\tPROJECT\tAGE\tDEADLINE")
			for _, r := range rooms {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", r.Name, r.Labels["cleanroom.job"], r.Labels["cleanroom.project"],
					time.Since(r.Created).Round(time.Second), r.Deadline.UTC().Format(time.RFC3339))
			}
			return w.Flush()
		},
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.AddCommand(list, roomShow(g), roomWipe(g))
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

// reaper ends rooms for an admin; its log is this command's stderr.
func (g *globals) reaper(c *cobra.Command) (r *executor.Reaper, done func(), err error) {
	cfg, err := g.load()
	if err != nil {
		return nil, nil, err
	}
	log, err := driverLog(cfg.Log, c.Name())
	if err != nil {
		return nil, nil, err
	}
	engine, err := openEngine(cfg)
	if err != nil {
		return nil, nil, err
	}
	r = &executor.Reaper{Config: cfg, Engine: engine, Log: logrus.NewEntry(log), Out: c.OutOrStdout()}
	return r, func() { engine.Close() }, nil
}

// withJournals adds rooms that are gone from the engine and still have leases.
func (g *globals) withJournals(rooms []sandbox.RoomInfo) ([]sandbox.RoomInfo, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	names, err := secret.Rooms(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if slices.ContainsFunc(rooms, func(r sandbox.RoomInfo) bool { return r.Name == name }) {
			continue
		}
		head, err := secret.Peek(cfg.DataDir, name)
		if errors.Is(err, fs.ErrNotExist) { // ended meanwhile
			continue
		}
		if err != nil {
			return nil, err
		}
		rooms = append(rooms, sandbox.RoomInfo{Name: name, Created: head.Began, Deadline: head.Deadline,
			Labels: map[string]string{"cleanroom.job": strconv.FormatInt(head.Job, 10), "cleanroom.project": head.Project}})
	}
	return rooms, nil
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
			"hour) has passed. What cannot be revoked now stays in the journal for the next time.",
		Example: "  cleanroom reap\n  cleanroom install-timer # has systemd call it",
		RunE: func(c *cobra.Command, _ []string) error {
			r, done, err := g.reaper(c)
			if err != nil {
				return err
			}
			defer done()
			return r.Reap(c.Context())
		},
	}
}
