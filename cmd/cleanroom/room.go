package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

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
	c.AddCommand(list, roomWipe(g))
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
			engine, rooms, err := g.rooms(c.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			for _, name := range args {
				if !slices.ContainsFunc(rooms, func(r sandbox.RoomInfo) bool { return r.Name == name }) {
					return fmt.Errorf("%w: %q; `cleanroom room list` names all there are", sandbox.ErrNoRoom, name)
				}
			}
			for _, name := range args {
				if err := wipe(c, engine, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// wipe removes one room and says what that was.
func wipe(c *cobra.Command, engine sandbox.Engine, room string) error {
	evidence, err := engine.Wipe(c.Context(), room)
	fmt.Fprintf(c.OutOrStdout(), "%s: removed %d things\n", room, len(evidence.Removed))
	return err
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
		Use: "reap", Short: "Wipe rooms whose deadline has passed", Args: cobra.NoArgs,
		Long:    "Wipe rooms whose deadline (job timeout and an hour) has passed: what a killed runner left.",
		Example: "  cleanroom reap",
		RunE: func(c *cobra.Command, _ []string) error {
			engine, rooms, err := g.rooms(c.Context())
			if err != nil {
				return err
			}
			defer engine.Close()
			var failed []error // one room that stays is no reason to leave the others
			for _, r := range rooms {
				if time.Now().After(r.Deadline) {
					failed = append(failed, wipe(c, engine, r.Name))
				}
			}
			return errors.Join(failed...)
		},
	}
}
