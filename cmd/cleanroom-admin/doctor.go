package main

import (
	"errors"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor/doctor"
)

func doctorCommand(g *globals) *cobra.Command {
	var o doctor.Options
	c := &cobra.Command{
		Use: "doctor", Short: "Check this host, one line a check, with remedies", Args: cobra.NoArgs,
		Long: "Check this host the way an experienced admin would. Exit code 0: jobs will run\n" +
			"(warnings weaken what cleanroom promises); 1: a check failed; 2: the configuration is wrong.",
		Example: "  cleanroom doctor\n  cleanroom doctor --runner-tmp /var/lib/gitlab-runner/tmp || exit 1",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return stages.Exit{Code: 2, Err: err}
			}
			o.InitPath, o.Version, o.Programs = stages.InitPath(cfg), version, []string{g.front, stages.Beside(stages.Admin)}
			checks := doctor.Run(c.Context(), cfg, o)
			if err := doctor.Print(c.OutOrStdout(), checks); err != nil {
				return err
			}
			if doctor.Failed(checks) {
				return stages.Exit{Code: 1, Err: errors.New("some checks failed: see their remedies above")}
			}
			return nil
		},
	}
	c.Flags().StringVar(&o.RunnerTmp, "runner-tmp", "", "gitlab-runner's TMPDIR, where it leaves scripts and job responses")
	return c
}
