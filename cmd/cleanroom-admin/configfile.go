package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"cleanroom/config"
)

func configFileCommand() *cobra.Command {
	return &cobra.Command{
		Use: "config-file", Short: "Print a complete, commented example configuration", Args: cobra.NoArgs,
		Example: "  cleanroom config-file > " + config.DefaultPath,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := fmt.Fprint(c.OutOrStdout(), config.Example())
			return err
		},
	}
}
