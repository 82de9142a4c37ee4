package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
)

// stageCommands are the four calls of the runner.
func stageCommands(g *globals) (all []*cobra.Command) {
	texts := map[string][2]string{
		"config":  {"config", "Name the job's room and tell the runner its folders"},
		"prepare": {"prepare", "Make the job's room"},
		"run":     {"run SCRIPT STAGE", "Run one script of the job in its room"},
		"cleanup": {"cleanup", "Wipe the job's room"},
	}
	for _, stage := range stages.All {
		use, short := texts[stage.Name][0], texts[stage.Name][1]
		command := &cobra.Command{
			Use: use, Short: short, Args: cobra.NoArgs,
			Long:    short + ".\n\nOnly gitlab-runner calls this: `cleanroom register` tells it how.",
			Example: "  cleanroom " + strings.NewReplacer("SCRIPT", "/tmp/custom-executor1/script2/script.", "STAGE", "build_script").Replace(use),
			RunE: func(c *cobra.Command, args []string) error {
				return stages.Program{Version: version, Config: g.path(), Out: c.OutOrStdout(), Full: full, Audit: g.audit}.Serve(c.Context(), stage, args)
			},
		}
		if stage.Args > 0 {
			command.Args = scriptAndStage
		}
		all = append(all, command)
	}
	return all
}

func scriptAndStage(_ *cobra.Command, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("run takes two arguments, SCRIPT and STAGE, not %d: is run_args set to [\"run\"]? see `cleanroom register --help`", len(args))
	}
	return nil
}
