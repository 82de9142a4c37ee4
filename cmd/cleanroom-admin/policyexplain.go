package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor/plain"
)

// wishes are what --secret, --image and --service name.
type wishes struct{ secrets, images, services []string }

func policyExplain(g *globals) *cobra.Command {
	var s factSource
	var w wishes
	var asJSON bool
	c := &cobra.Command{
		Use: "explain", Short: "Print what a job would be granted, and why", Args: cobra.NoArgs,
		Long: "Print the decisions on a recorded job response or an ID token, with the facts they rest\n" +
			"on, without running anything. Of a job response all secrets there are, and the job's\n" +
			"image and services as it writes them; or only what is named. What the configuration\n" +
			"forbids of its own (images.allowed, images.allowed_services) is not looked at.\n" +
			"Exit code 1: something that was asked for is denied; 2: the configuration, the policy\n" +
			"or what was given to explain cannot be used.",
		Example: "  cleanroom policy explain --job response.json\n" +
			"  cleanroom policy explain --job response.json --secret SHOP_DB --image python:3.13\n" +
			"  cleanroom policy explain --token - --secret SHOP_DB < id_token\n" +
			"  cleanroom policy explain --token id_token --unverified --json",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, p, err := g.policy()
			if err != nil {
				return err
			}
			facts, job, err := s.read(c, cfg)
			if err != nil {
				return stages.Exit{Code: 2, Err: err}
			}
			e := explain(cfg, p, facts, job, w)
			e.Unverified = s.unverified
			if asJSON {
				var text bytes.Buffer
				enc := json.NewEncoder(&text)
				enc.SetIndent("", "  ")
				enc.SetEscapeHTML(false)
				if err = enc.Encode(e); err == nil {
					_, err = c.OutOrStdout().Write(plain.JSON(text.Bytes()))
				}
			} else {
				err = e.print(c.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if denied := e.denied(); denied != "" {
				return stages.Exit{Code: 1, Err: fmt.Errorf("denied: %s; the reasons are above", denied)}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&s.job, "job", "", "a recorded job response (JOB_RESPONSE_FILE); - for standard input")
	f.StringVar(&s.token, "token", "", "a file with an ID token; - for standard input")
	f.BoolVar(&s.unverified, "unverified", false, "believe ID tokens without verifying them, to see what would be if they were good")
	f.StringArrayVar(&w.secrets, "secret", nil, "a secret to ask for (may be repeated)")
	f.StringArrayVar(&w.images, "image", nil, "an image to ask for (may be repeated)")
	f.StringArrayVar(&w.services, "service", nil, "a service's image to ask for (may be repeated)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	c.MarkFlagsOneRequired("job", "token")
	c.MarkFlagsMutuallyExclusive("job", "token")
	_ = c.RegisterFlagCompletionFunc("secret", g.completeSecrets)
	_ = c.RegisterFlagCompletionFunc("image", cobra.NoFileCompletions)
	_ = c.RegisterFlagCompletionFunc("service", cobra.NoFileCompletions)
	return c
}

// completeSecrets names the configured secrets to a shell.
func (g *globals) completeSecrets(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg, _ := g.load() // an empty one names none
	return secretNames(cfg), cobra.ShellCompDirectiveNoFileComp
}

func secretNames(cfg config.Config) (names []string) {
	for _, s := range cfg.Secrets {
		names = append(names, s.Name)
	}
	return names
}
