package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/sandbox/docker"
)

// globals are the flags that every command has, and the path of the program
// that the runner calls.
type globals struct{ config, front string }

func root(front string) *cobra.Command {
	g := &globals{front: front}
	c := &cobra.Command{
		Use:   "cleanroom",
		Short: "A clean container room for every GitLab CI job",
		Long: "cleanroom is a driver for GitLab Runner's custom executor. The runner calls\n" +
			"config, prepare, run and cleanup for each job; the other commands are for admins.",
		Example: "  cleanroom register --runner-config /etc/gitlab-runner/config.toml\n" +
			"  cleanroom doctor\n" +
			"  cleanroom room list",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.PersistentFlags().StringVar(&g.config, "config", "", "configuration file (default "+config.DefaultPath+", if it is there)")
	c.AddGroup(
		&cobra.Group{ID: "runner", Title: "Called by the runner:"},
		&cobra.Group{ID: "admin", Title: "For admins:"},
	)
	for _, command := range stageCommands(g) {
		command.GroupID = "runner"
		c.AddCommand(command)
	}
	for _, command := range []*cobra.Command{registerCommand(g), doctorCommand(g), configFileCommand(), roomCommand(g), cacheCommand(g), poolCommand(g), reapCommand(g), timerCommand(g), secretCommand(g), policyCommand(g), identityCommand(g), auditCommand(g)} {
		command.GroupID = "admin"
		if command.HasSubCommands() { // else cobra shows help for a mistyped one, and exits with 0
			command.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
		}
		c.AddCommand(command)
	}
	helpCommand(c)
	return c
}

// helpCommand makes cobra's own fail for a command that is not there.
func helpCommand(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	help, _, err := root.Find([]string{"help"})
	if err != nil {
		return
	}
	show := help.Run
	help.Example = "  cleanroom help doctor"
	help.Run, help.RunE = nil, func(c *cobra.Command, args []string) error {
		if _, rest, err := root.Find(args); err != nil || len(rest) > 0 {
			return fmt.Errorf("no help for %q: there is no such command; `cleanroom help` names all there are", strings.Join(args, " "))
		}
		show(c, args)
		return nil
	}
}

// path is the configuration file that was asked for, if any: the flag wins
// over CLEANROOM_CONFIG.
func (g *globals) path() string {
	if g.config != "" {
		return g.config
	}
	return os.Getenv("CLEANROOM_CONFIG")
}

func (g *globals) load() (config.Config, error) { return config.Load(g.path(), os.Environ()) }

// engine is the configured one.
func (g *globals) engine() (*docker.Engine, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	return stages.OpenEngine(cfg, nil)
}
