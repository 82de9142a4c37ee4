package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"cleanroom/config"
	"cleanroom/executor/register"
)

func registerCommand(g *globals) *cobra.Command {
	var path, tokenFile string
	var o register.Options
	c := &cobra.Command{
		Use: "register", Short: "Write cleanroom into a gitlab-runner's config.toml", Args: cobra.NoArgs,
		Long: "Make a runner of a gitlab-runner's config.toml use cleanroom: executor, folders and the\n" +
			"[runners.custom] part. Everything else in the file stays as it is, comments too, and\n" +
			"what the file was is kept beside it as .bak. A runner that is not there yet is added\n" +
			"with --url, --name and a token that is read from a file or standard input.",
		Example: "  cleanroom register --runner-config /etc/gitlab-runner/config.toml\n" +
			"  cleanroom register --runner-config config.toml --name hardened\n" +
			"  cleanroom register --runner-config config.toml --name new --url https://gitlab.example.com --token-file - < token",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return err
			}
			if err := fill(&o, g, cfg); err != nil {
				return err
			}
			if tokenFile != "" {
				if o.Token, err = readToken(tokenFile, c.InOrStdin()); err != nil {
					return err
				}
			}
			changes, err := register.File(path, o)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if len(changes) == 0 {
				fmt.Fprintf(c.OutOrStdout(), "%s: nothing to change\n", path)
				return nil
			}
			for _, line := range changes {
				fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", path, line)
			}
			fmt.Fprintln(c.OutOrStdout(), "gitlab-runner reads the file again by itself; `cleanroom doctor` checks this host")
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&path, "runner-config", "/etc/gitlab-runner/config.toml", "the runner's configuration file")
	f.StringVar(&o.Name, "name", "", "name of the runner")
	f.StringVar(&o.URL, "url", "", "GitLab's URL of the runner")
	f.StringVar(&o.TokenPrefix, "token-prefix", "", "beginning of the runner's token")
	f.StringVar(&tokenFile, "token-file", "", "add a runner with the token in this file (- for standard input)")
	f.BoolVar(&o.Replace, "replace", false, "take the place of another custom driver")
	return c
}

// fill says what the runner is to call: cleanroom, with this configuration.
func fill(o *register.Options, g *globals, cfg config.Config) error {
	o.Command, o.BuildsDir, o.CacheDir, o.StageGrace = g.front, cfg.Room.BuildsDir, cfg.Room.CacheDir, cfg.Room.StageGrace
	if path := g.path(); path != "" && path != config.DefaultPath {
		var err error
		if o.Config, err = filepath.Abs(path); err != nil {
			return err
		}
	}
	return nil
}

func readToken(file string, stdin io.Reader) (string, error) {
	if file == "-" {
		return register.ReadToken(stdin)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("%w: %w", register.ErrOptions, err)
	}
	defer f.Close()
	return register.ReadToken(f)
}
