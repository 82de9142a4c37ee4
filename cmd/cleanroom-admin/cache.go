package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	sizes "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/cache"
	"cleanroom/executor/plain"
)

func cacheCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "cache", Short: "Show and empty the caches that outlive jobs", Args: cobra.NoArgs}
	c.AddCommand(cacheList(g), cacheWipe(g))
	return c
}

// keptCache is a cache as `cache list --json` shows it; its names are the
// admin's scripts' to rely on.
type keptCache struct {
	Project    string    `json:"project"` // empty: only its number is known
	ProjectID  int64     `json:"project_id"`
	Key        string    `json:"key"`
	Protection string    `json:"protection"` // of the ref whose job wrote it
	Bytes      int64     `json:"bytes"`
	Created    time.Time `json:"created"`
	LastUsed   time.Time `json:"last_used"`
	Expires    time.Time `json:"expires"`
	Job        int64     `json:"job"` // that wrote it
	SHA256     string    `json:"sha256"`
	Instance   string    `json:"instance"` // tells one GitLab from another
}

func cacheList(g *globals) *cobra.Command {
	var project string
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List caches: whose they are, their size and age", Args: cobra.NoArgs,
		Long: "List the caches that are kept, with project, key, protection of the ref whose job wrote it, size, when it was\n" +
			"made and last used, how long it will still be given out, and the beginning of its digest. A cache that is\n" +
			"broken is removed, said, and makes the exit code 1.\n\n" +
			"--json has project, project_id, key, protection, bytes, created, last_used, expires, job, sha256 and instance.",
		Example: "  cleanroom cache list\n  cleanroom cache list --project group/app --json",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			listed, broken := executor.Caches(cfg).List()
			all := []keptCache{} // in JSON a list, though there is none
			for _, e := range listed {
				if project == "" || isProject(e, project) {
					all = append(all, keptOf(e, cfg.Cache.MaxAge))
				}
			}
			if asJSON {
				err = plainJSON(c.OutOrStdout(), all)
			} else {
				err = showCaches(c.OutOrStdout(), all)
			}
			return errors.Join(err, broken)
		},
	}
	g.projectFlag(c, &project, "show those of this project alone: its path, or number")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func isProject(e cache.Info, name string) bool {
	return e.Project == name || strconv.FormatInt(e.ProjectID, 10) == name
}

func keptOf(e cache.Info, maxAge time.Duration) keptCache {
	return keptCache{e.Project, e.ProjectID, e.Key, e.Protection(), e.Size, e.Created.UTC(), e.Used.UTC(), e.Created.Add(maxAge).UTC(), e.Job, e.SHA256, e.Instance}
}

func showCaches(out io.Writer, all []keptCache) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "PROJECT\tKEY\tREF\tSIZE\tMADE\tLAST USED\tLEFT\tSHA256")
	ago := func(t time.Time) string { return sizes.HumanDuration(time.Since(t)) + " ago" }
	for _, k := range all {
		project, left := plain.Word(k.Project), "none"
		if k.Project == "" {
			project = "number " + strconv.FormatInt(k.ProjectID, 10)
		}
		if d := time.Until(k.Expires); d > 0 {
			left = sizes.HumanDuration(d)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.12s\n", project, plain.Word(k.Key), k.Protection, sizes.BytesSize(float64(k.Bytes)),
			ago(k.Created), ago(k.LastUsed), left, k.SHA256)
	}
	return w.Flush()
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
			cfg, err := g.load()
			if err != nil {
				return err
			}
			listed, _ := executor.Caches(cfg).List()
			told, err := g.announce(c, cfg, record.OfCache, true, func(r *record.Record) { r.Cache = wiped(project, listed) })
			if err != nil {
				return err
			}
			count, bytes, err := executor.Caches(cfg).Wipe(project)
			if count == 0 && err == nil {
				err = told.Undone()
			} else {
				err = errors.Join(err, told.Done(leftOver(err)))
			}
			switch {
			case count > 0:
				fmt.Fprintf(c.OutOrStdout(), "wiped %d %s, %s\n", count, word(count == 1, "cache", "caches"), sizes.BytesSize(float64(bytes)))
			case err == nil && project != "":
				return fmt.Errorf("no cache of project %q: `cleanroom cache list` names what there is", project)
			case err == nil:
				fmt.Fprintln(c.OutOrStdout(), "no cache to wipe")
			}
			return err
		},
	}
	g.projectFlag(c, &project, "the project whose caches to wipe: its path, or number")
	c.Flags().BoolVar(&all, "all", false, "wipe the caches of every project")
	return c
}

// wiped are the caches that a wipe is about.
func wiped(project string, listed []cache.Info) *record.Cache {
	told := &record.Cache{}
	for _, e := range listed {
		if project == "" || isProject(e, project) {
			told.Caches = append(told.Caches, fmt.Sprintf("%s: %s (%s)", cmp.Or(e.Project, strconv.FormatInt(e.ProjectID, 10)), e.Key, e.Protection()))
		}
	}
	return told
}

// leftOver says in a record that not all was wiped, if so.
func leftOver(wrong error) func(*record.Record) {
	return func(r *record.Record) {
		if wrong != nil {
			r.Cache.Left = []record.Item{{Kind: "cache", Name: "some of these", Why: wrong.Error()}}
		}
	}
}

// projectFlag is --project, of which shells complete the projects that have
// caches.
func (g *globals) projectFlag(c *cobra.Command, into *string, usage string) {
	c.Flags().StringVar(into, "project", "", usage)
	_ = c.RegisterFlagCompletionFunc("project", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		cfg, err := g.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return projectsWithCaches(cfg), cobra.ShellCompDirectiveNoFileComp
	})
}

func projectsWithCaches(cfg config.Config) (names []string) {
	listed, _ := executor.Caches(cfg).List()
	for _, e := range listed {
		if e.Project != "" {
			names = append(names, e.Project)
		}
	}
	return slices.Compact(names) // sorted as listed
}
