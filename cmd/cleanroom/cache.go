package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/sandbox/docker"
)

func cacheCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "cache", Short: "Show and empty the caches that outlive jobs", Args: cobra.NoArgs}
	c.AddCommand(cacheList(g), cacheWipe(g))
	return c
}

func cacheList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List caches with project and protection of the ref", Args: cobra.NoArgs,
		Example: "  cleanroom cache list",
		RunE: func(c *cobra.Command, _ []string) error {
			engine, err := g.engine()
			if err != nil {
				return err
			}
			defer engine.Close()
			all, err := engine.Caches(c.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "CACHE\tPROJECT\tREF\tAGE")
			for _, v := range all {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Name, v.Labels["cleanroom.project"], v.Labels["cleanroom.protection"],
					time.Since(v.Created).Round(time.Second))
			}
			return w.Flush()
		},
	}
}

func cacheWipe(g *globals) *cobra.Command {
	var project string
	var all bool
	c := &cobra.Command{
		Use: "wipe", Short: "Remove the caches of one project, or all", Args: cobra.NoArgs,
		Example: "  cleanroom cache wipe --project group/app\n  cleanroom cache wipe --all",
		RunE: func(c *cobra.Command, _ []string) error {
			if all == (project != "") {
				return errors.New("name what to wipe: --project PATH, or --all")
			}
			engine, err := g.engine()
			if err != nil {
				return err
			}
			defer engine.Close()
			caches, err := engine.Caches(c.Context())
			if err != nil {
				return err
			}
			var failed []error
			wiped := 0
			for _, v := range caches {
				if !all && v.Labels["cleanroom.project"] != project {
					continue
				}
				if err := engine.RemoveCache(c.Context(), v.Name); err != nil {
					failed = append(failed, err)
					continue
				}
				wiped++
				fmt.Fprintf(c.OutOrStdout(), "wiped %s (%s, %s)\n", v.Name, v.Labels["cleanroom.project"], v.Labels["cleanroom.protection"])
			}
			if wiped == 0 && len(failed) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "no cache to wipe")
			}
			return errors.Join(failed...)
		},
	}
	c.Flags().StringVar(&project, "project", "", "full path of the project whose caches to wipe")
	c.Flags().BoolVar(&all, "all", false, "wipe the caches of every project")
	return c
}

// engine is the configured one.
func (g *globals) engine() (*docker.Engine, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	return openEngine(cfg)
}
