package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor/policy"
)

func policyCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "policy", Short: "Check the policy, and explain what it decides", Args: cobra.NoArgs}
	c.AddCommand(policyCheck(g), policyExplain(g))
	return c
}

// policy is the configured one, compiled, with the configuration it is of.
func (g *globals) policy() (config.Config, *policy.Policy, error) {
	cfg, err := g.load()
	if err != nil {
		return cfg, nil, stages.Exit{Code: 2, Err: err}
	}
	p, err := policy.FromConfig(cfg)
	if err != nil {
		return cfg, nil, stages.Exit{Code: 2, Err: err}
	}
	return cfg, p, nil
}

func policyCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Compile the rules, and list them with their version", Args: cobra.NoArgs,
		Long: "Compile the rules and list them. The version is a hash of what they say: it stands in\n" +
			"the record of each job. Exit code 2: the configuration or a rule is wrong.",
		Example: "  cleanroom policy check\n  cleanroom policy check --config new.toml",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, p, err := g.policy()
			if err != nil {
				return err
			}
			rules := p.Rules()
			fmt.Fprintf(c.OutOrStdout(), "policy %s, rules: %d%s\n", p.Version(), len(rules), rulesFrom(cfg))
			if len(rules) == 0 {
				fmt.Fprintln(c.OutOrStdout(), "every secret is denied, and every image and service that the configuration allows is free")
				return nil
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(w, "RULE\tGRANTS\tWHEN")
			for _, r := range rules {
				fmt.Fprintf(w, "%s\t%s\t%s\n", r.Name, strings.Join(grantsOf(r), "; "), r.When)
			}
			return w.Flush()
		},
	}
}

// rulesFrom says where the rules stand, if not in the configuration.
func rulesFrom(cfg config.Config) string {
	if cfg.Policy.File == "" {
		return ""
	}
	return ", from " + cfg.Policy.File
}

// grantsOf are a rule's lists, each with its name.
func grantsOf(r config.Rule) (all []string) {
	for _, list := range []struct {
		name  string
		globs []string
	}{
		{"secrets", r.Secrets}, {"images", r.Images}, {"services", r.Services}, {"profiles", r.Profiles}, {"caches", r.Caches}, {"warn", r.Warn},
		{"to stages", r.Stages}, {"if tokens meet", r.Identity},
	} {
		if len(list.globs) > 0 {
			all = append(all, list.name+" "+strings.Join(list.globs, ", "))
		}
	}
	return all
}
