package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/report"
)

// auditLog is a log as its readers need it.
type auditLog interface {
	// Records hands over all records in order, until yield returns an error,
	// which it returns. The bytes are yield's until it returns.
	Records(yield func(index int64, raw []byte) error) error
	// Verify looks whether the log is genuine, by what it is held against, and
	// says what it is: all that report.Head has of the log itself. The error is of a log that could not
	// be looked at; what is wrong with one that could is in the answer.
	Verify(against) (report.Head, error)
}

// openAuditLog opens the log that the configuration names.
type openAuditLog func(*cobra.Command) (auditLog, error)

// auditPeriod is --from and --to.
type auditPeriod struct{ from, to string }

const periodHelp = "A time is a day (2026-01-02, in UTC; as --to, all of it), RFC 3339, or how long ago: 12h, 7d, 2w."

func (p *auditPeriod) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.from, "from", "", "only what was recorded at this time or later")
	c.Flags().StringVar(&p.to, "to", "", "only what was recorded before this time")
	for _, name := range []string{"from", "to"} {
		c.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

func auditList(open openAuditLog) *cobra.Command {
	var f list.Filter
	var p auditPeriod
	var asJSON bool
	c := &cobra.Command{
		Use: "list", Short: "List records of the audit log", Args: cobra.NoArgs,
		Long: "List the records that all of the flags match, oldest first. Project, ref, user, secret and image are names, or\n" +
			"globs (* stops at a slash, ** does not). A secret is one that was given, asked for, found in a file or changed\n" +
			"in the store; an image is a name, digest or ID of any that a room had or asked for; a user is a job's, by login\n" +
			"or number, or who changed what is no job's. Outcome unfinished: something of the room or its leases was left.\n" +
			periodHelp + "\n\n" +
			"--json prints a line for each record, with index (its place in the log) and record (`cleanroom audit schema`).\n" +
			"A record that cannot be read fails the command, after all others were listed.",
		Example: "  cleanroom audit list --from 7d --outcome refused\n" +
			"  cleanroom audit list --project 'shop/**' --secret DATABASE_URL --json\n" +
			"  cleanroom audit list --kind policy --kind config --from 2026-01-01 --to 2026-01-31",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if f.Period, err = list.ParsePeriod(p.from, p.to, time.Now()); err != nil {
				return err
			}
			if err := f.Check(); err != nil {
				return err
			}
			log, err := open(c)
			if err != nil {
				return err
			}
			if asJSON {
				return list.Print(log.Records, &f, list.NewLines(c.OutOrStdout()))
			}
			return list.Print(log.Records, &f, list.NewTable(c.OutOrStdout()))
		},
	}
	p.flags(c)
	flags := c.Flags()
	flags.StringVar(&f.Project, "project", "", "path of the project")
	flags.StringVar(&f.Ref, "ref", "", "branch, tag or refs/merge-requests/N/head")
	flags.StringVar(&f.User, "user", "", "login or number of the user")
	flags.StringVar(&f.Secret, "secret", "", "name of the secret")
	flags.StringVar(&f.Image, "image", "", "name, digest or ID of the image")
	flags.StringArrayVar(&f.Outcomes, "outcome", nil, "one of "+strings.Join(list.Outcomes, ", ")+" (may be repeated: any of them)")
	flags.StringArrayVar(&f.Kinds, "kind", nil, "one of "+strings.Join(list.Kinds, ", ")+" (may be repeated: any of them)")
	flags.BoolVar(&asJSON, "json", false, "print lines of JSON")
	for name, values := range map[string][]string{"project": nil, "ref": nil, "user": nil, "secret": nil, "image": nil, "outcome": list.Outcomes, "kind": list.Kinds} {
		c.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	return c
}
