package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/secret/store"
)

// stores finds the embedded store that a command works on.
type stores struct {
	*globals
	name string // --store
}

func secretCommand(g *globals) *cobra.Command {
	s := &stores{globals: g}
	c := &cobra.Command{
		Use: "secret", Short: "Set, rotate and remove the secrets of this host's store", Args: cobra.NoArgs,
		Long: "The store is one file, encrypted to this host's key, for teams without a secret server.\n" +
			"No command takes a value as an argument, and none shows one.",
	}
	c.PersistentFlags().StringVar(&s.name, "store", "", "name of the provider, where the configuration has several stores")
	c.RegisterFlagCompletionFunc("store", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		cfg, err := g.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, p := range storesOf(cfg) {
			names = append(names, p.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	c.AddCommand(secretSet(s), secretList(s), secretRotate(s), secretRemove(s))
	return c
}

func storesOf(cfg config.Config) []config.Provider {
	return slices.DeleteFunc(slices.Clone(cfg.Providers), func(p config.Provider) bool { return p.Kind != "store" })
}

// open gives the store that is meant: the one that is named, the only one, or
// the default one of a host whose configuration names none.
func (s *stores) open() (*store.Store, error) {
	cfg, err := s.load()
	if err != nil {
		return nil, err
	}
	var names []string
	var found *store.Store
	several := false
	for _, p := range storesOf(cfg) {
		names = append(names, p.Name)
		if s.name != "" && p.Name != s.name {
			continue
		}
		one, err := store.New(p, cfg.DataDir)
		if err != nil {
			return nil, err
		}
		several = several || found != nil && found.Path() != one.Path()
		found = one
	}
	switch {
	case several:
		return nil, fmt.Errorf("which store? name one of %s with --store", strings.Join(names, ", "))
	case found != nil:
		return found, nil
	case s.name != "":
		return nil, fmt.Errorf("no store %q in the configuration; there are: %s", s.name, strings.Join(names, ", "))
	}
	return store.New(config.Provider{Kind: "store"}, cfg.DataDir)
}

// complete offers the names that are not there yet in the arguments.
func (s *stores) complete(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	all, err := s.list()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var names []string
	for _, info := range all {
		if !slices.Contains(args, info.Name) {
			names = append(names, info.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (s *stores) list() ([]store.Info, error) {
	st, err := s.open()
	if err != nil {
		return nil, err
	}
	return st.List()
}

// announce writes down a change of a secret before it is made.
func (s *stores) announce(c *cobra.Command, action, name string, must bool) (*executor.Announced, error) {
	cfg, err := s.load()
	if err != nil {
		return nil, err
	}
	change := &record.Change{Name: name, Provider: s.name, Action: action}
	if all := storesOf(cfg); change.Provider == "" && len(all) > 0 { // of one file, whatever it is called
		change.Provider = all[0].Name
	}
	if change.Provider == "" {
		change.Provider = "store"
	}
	return s.globals.announce(c, cfg, record.OfSecret, must, func(r *record.Record) { r.Secret = change })
}

// ofVersion says which version a change made; 0 is none.
func ofVersion(version int) func(*record.Record) {
	return func(r *record.Record) {
		if version > 0 {
			r.Secret.Version = strconv.Itoa(version)
		}
	}
}

// interruptible ends what a command started when the command is told to end.
func interruptible(c *cobra.Command) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
}

func secretList(s *stores) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List secrets with version, age and rotation", Args: cobra.NoArgs,
		Long:    "List the secrets of the store, each with its newest version. A value is never shown.",
		Example: "  cleanroom secret list\n  cleanroom secret list --json",
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := s.list()
			if err != nil {
				return err
			}
			if asJSON {
				return plainJSON(c.OutOrStdout(), all)
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tVERSION\tAGE\tROTATE\tGENERATOR")
			for _, info := range all {
				number, age := "-", "-"
				if n := len(info.Versions); n > 0 {
					newest := info.Versions[n-1]
					number, age = strconv.Itoa(newest.Number), time.Since(newest.Created).Round(time.Second).String()
				}
				kind := string(info.Generator)
				if kind == "" {
					kind = "-"
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", info.Name, number, age, info.Rotate, kind)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, with every version")
	return c
}

func secretRotate(s *stores) *cobra.Command {
	return &cobra.Command{
		Use: "rotate NAME...", Short: "Make new values now", Args: cobra.MinimumNArgs(1),
		Long:              "Have the generators of these secrets make new values now. The old ones stay for their grace period.",
		Example:           "  cleanroom secret rotate session-key",
		ValidArgsFunction: s.complete,
		RunE: func(c *cobra.Command, names []string) error {
			st, err := s.open()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(c)
			defer stop()
			var failed []error // one that fails is no reason to leave the others
			for _, name := range names {
				told, err := s.announce(c, "rotated", name, false)
				if err != nil {
					failed = append(failed, err)
					continue
				}
				number, err := st.Rotate(ctx, name)
				if err != nil {
					failed = append(failed, err, told.Undone())
					continue
				}
				fmt.Fprintf(c.OutOrStdout(), "%s: version %d is current\n", name, number)
				failed = append(failed, told.Done(ofVersion(number)))
			}
			return errors.Join(failed...)
		},
	}
}

func secretRemove(s *stores) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "remove NAME...", Short: "Destroy secrets with all their versions", Args: cobra.MinimumNArgs(1),
		Long:              "Destroy secrets with all their versions. On a terminal it asks first; elsewhere it needs --yes.",
		Example:           "  cleanroom secret remove session-key\n  cleanroom secret remove --yes session-key db-password",
		ValidArgsFunction: s.complete,
		RunE: func(c *cobra.Command, names []string) error {
			st, err := s.open()
			if err != nil {
				return err
			}
			if !yes {
				if _, ok := terminal(c.InOrStdin()); !ok {
					return errors.New("this cannot be undone: say --yes")
				}
				fmt.Fprintf(c.ErrOrStderr(), "destroy %s and all versions? [y/N] ", strings.Join(names, ", "))
				answer, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n')
				if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
					return errors.New("nothing was removed")
				}
			}
			ctx, stop := interruptible(c)
			defer stop()
			told := make([]*executor.Announced, len(names))
			for i, name := range names { // whether or not there is a record, a secret that is known to others must go
				if told[i], err = s.announce(c, "removed", name, true); err != nil {
					return err
				}
			}
			var failed []error
			if err := st.Remove(ctx, names...); err != nil {
				for _, one := range told {
					failed = append(failed, one.Undone())
				}
				return errors.Join(append(failed, err)...)
			}
			for i, name := range names {
				fmt.Fprintf(c.OutOrStdout(), "%s: removed\n", name)
				failed = append(failed, told[i].Done(ofVersion(0)))
			}
			return errors.Join(failed...)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}
