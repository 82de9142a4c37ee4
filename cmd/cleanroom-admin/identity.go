package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
)

func identityCommand(g *globals) *cobra.Command {
	c := &cobra.Command{Use: "identity", Short: "Check ID tokens as a job's are checked", Args: cobra.NoArgs}
	c.AddCommand(identityCheck(g))
	return c
}

// identityAsk is what to check, and how to say it.
type identityAsk struct {
	profile, token, job string
	asJSON              bool
}

func identityCheck(g *globals) *cobra.Command {
	var ask identityAsk
	c := &cobra.Command{
		Use: "check (--token FILE | --job FILE)", Short: "Check an ID token, or a recorded job's, against a profile", Args: cobra.NoArgs,
		Long: "Verify an ID token, or those of a recorded job response, as prepare does: signature,\n" +
			"issuer and times, and with --profile every rule of that identity profile. Without\n" +
			"--profile the facts that it gives are shown, each with its source. - reads standard\n" +
			"input: a token is never an argument, where every user of the host could read it.\n\n" +
			"Exit code 0: accepted; 1: refused; 2: it cannot be told (the configuration is wrong,\n" +
			"the issuer does not answer, a file cannot be read).",
		Example: "  cleanroom identity check --profile production --token token.jwt\n" +
			"  cleanroom identity check --token - <token.jwt\n" +
			"  cleanroom identity check --job response.json --json",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := g.load()
			if err != nil {
				return stages.Exit{Code: 2, Err: err}
			}
			report, err := ask.check(c, cfg)
			if err != nil && !errors.Is(err, identity.ErrToken) && !errors.Is(err, identity.ErrDisagree) {
				return stages.Exit{Code: 2, Err: err}
			}
			if report.Accepted = err == nil; err != nil {
				report.Reason = err.Error()
				err = stages.Exit{Code: 1, Err: err}
			}
			if ask.asJSON {
				return errors.Join(plainJSON(c.OutOrStdout(), report), err)
			}
			return errors.Join(report.print(c.OutOrStdout()), err)
		},
	}
	c.Flags().StringVar(&ask.profile, "profile", "", "name of an identity.profile to check against")
	c.Flags().StringVar(&ask.token, "token", "", "file that holds an ID token, - is standard input")
	c.Flags().StringVar(&ask.job, "job", "", "file that holds a job response, - is standard input")
	c.Flags().BoolVar(&ask.asJSON, "json", false, "print JSON")
	c.MarkFlagsMutuallyExclusive("token", "job")
	c.MarkFlagsOneRequired("token", "job")
	c.RegisterFlagCompletionFunc("profile", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		cfg, err := g.load()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for _, p := range cfg.Identity.Profiles {
			names = append(names, p.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return c
}

// identityReport is what was found; facts or verdicts.
type identityReport struct {
	Accepted bool               `json:"accepted"`
	Reason   string             `json:"reason,omitempty"` // of a refusal
	Verdicts []identity.Verdict `json:"verdicts,omitempty"`
	Facts    identity.Facts     `json:"facts,omitempty"`
	Lines    []string           `json:"lines,omitempty"`
}

// check gives a report also with a refusal, which wraps ErrToken or
// ErrDisagree.
func (a identityAsk) check(c *cobra.Command, cfg config.Config) (identityReport, error) {
	// No folder: what is read by hand does not stand in for what jobs read.
	v, err := identity.NewVerifier(cfg.Identity, "")
	if err != nil {
		return identityReport{}, err
	}
	if a.profile != "" {
		if _, err := v.Profile(a.profile); err != nil { // no token's fault
			return identityReport{}, errors.New(err.Error())
		}
	}
	if a.job != "" {
		return a.checkJob(c, v)
	}
	text, err := readBounded(a.token, c.InOrStdin(), identity.MaxToken)
	if err != nil {
		return identityReport{}, err
	}
	name, raw := filepath.Base(a.token), strings.TrimSpace(string(text))
	if a.profile != "" {
		return a.checkProfile(c.Context(), v, name, raw)
	}
	t, err := v.Verify(c.Context(), name, raw)
	if err != nil {
		return identityReport{}, err
	}
	report := identityReport{Lines: []string{fmt.Sprintf("token %s: good until %s", name, t.Expires.UTC().Format(time.RFC3339))}}
	i := slices.IndexFunc(cfg.Identity.Issuers, func(i config.Issuer) bool { return i.URL == t.Issuer })
	if want := cfg.Identity.Issuers[i].Audience; !slices.Contains(t.Audience, want) {
		report.Lines = append(report.Lines, fmt.Sprintf("token %s: gives no facts: audience is %q, facts come from tokens for %q", name, t.Audience, want))
		return report, nil
	}
	report.Facts, err = t.Facts()
	return report, err
}

func (a identityAsk) checkProfile(ctx context.Context, v *identity.Verifier, name, raw string) (identityReport, error) {
	p, err := v.Profile(a.profile)
	if err != nil {
		return identityReport{}, err
	}
	t, verdicts, err := v.CheckToken(ctx, p, name, raw)
	report := identityReport{Verdicts: verdicts}
	if err == nil {
		err = identity.Refusal(name, verdicts)
	}
	if err == nil {
		report.Lines = []string{fmt.Sprintf("token %s: %s accepts it until %s", name, p.Name, t.Expires.UTC().Format(time.RFC3339))}
	}
	return report, err
}

// checkJob shows what a recorded job would be believed.
func (a identityAsk) checkJob(c *cobra.Command, v *identity.Verifier) (identityReport, error) {
	text, err := readBounded(a.job, c.InOrStdin(), contract.MaxResponse)
	if err != nil {
		return identityReport{}, err
	}
	job, err := contract.ParseJob(text)
	if err != nil {
		return identityReport{}, fmt.Errorf("%s: %w", a.job, err)
	}
	who, err := identity.Establish(c.Context(), job, v)
	if err != nil {
		return identityReport{}, err
	}
	report := identityReport{Facts: who.Facts}
	if a.profile != "" {
		report.Lines, err = who.CheckProfile(c.Context(), a.profile)
	}
	return report, err
}

func (r identityReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, v := range r.Verdicts {
		verdict := "ok"
		if !v.Accepted {
			verdict = "refused"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", verdict, v.Rule, v.Detail)
	}
	if len(r.Facts) > 0 {
		fmt.Fprintln(w, "FACT\tVALUE\tSOURCE")
	}
	for _, name := range r.Facts.Known() {
		fact := r.Facts[name]
		value := fmt.Sprint(fact.Value)
		if s, ok := fact.Value.(string); ok {
			value = fmt.Sprintf("%q", s) // an author's: it may hold anything
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, value, fact.Source)
	}
	for _, line := range r.Lines {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}
