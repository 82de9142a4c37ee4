package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/report"
	"cleanroom/executor/plain"
)

func auditReport(open openAuditLog) *cobra.Command {
	var p auditPeriod
	var a against
	var out string
	c := &cobra.Command{
		Use: "report", Short: "Make an HTML file of a period of the audit log", Args: cobra.NoArgs,
		Long: "Make an HTML file that needs nothing but itself: jobs, secrets with their lifetimes, refusals, findings of the\n" +
			"guard, unfinished wipes, changes and key events of a period (default: the whole log). Of what is too much for\n" +
			"a file, the report has the newest, and counts the rest.\n" + periodHelp + "\n\n" +
			"The log is verified as `cleanroom audit verify` does it, and the report says against what. " + againstHelp + "\n\n" +
			"Exit code 1: the log is not genuine; 2: no report was made, or not all could be looked at, as `cleanroom audit\n" +
			"verify --help` has it. The report says so, too.",
		Example: "  cleanroom audit report --from 2026-01-01 --to 2026-01-31 --out january.html\n" +
			"  cleanroom audit report --from 7d > week.html\n" +
			"  cleanroom audit report --key \"$(cat runner-7.key)\" --job-logs ./logs --out all.html",
		RunE: func(c *cobra.Command, _ []string) error { return judged(makeReport(c, open, p, a, out)) },
	}
	p.flags(c)
	a.flags(c)
	c.Flags().StringVar(&out, "out", "", "file to write (default: standard output)")
	return c
}

// makeReport writes the report; its error is the verdict, too.
func makeReport(c *cobra.Command, open openAuditLog, p auditPeriod, a against, out string) error {
	if err := whole(c); err != nil {
		return err
	}
	now := time.Now()
	period, err := list.ParsePeriod(p.from, p.to, now)
	if err != nil {
		return err
	}
	log, err := open(c)
	if err != nil {
		return err
	}
	head, err := log.Verify(a)
	if err != nil {
		return err
	}
	head.Period, head.Made, head.Version = period, now, version
	r := report.New(head)
	if err := log.Records(func(index int64, raw []byte) error { r.Add(index, raw); return nil }); err != nil {
		if len(head.Wrong) == 0 {
			return err
		}
		r.Incomplete(err) // what can be read of a damaged log is worth being seen
	}
	if err := writeOut(out, c.OutOrStdout(), r.Write); err != nil {
		return err
	}
	if len(head.Wrong) > 0 {
		return fmt.Errorf("%w: %s", errNotGenuine, plain.Text(head.Wrong[0]))
	}
	return incomplete(head.Missing)
}

// writeOut writes to a file, of which there is all or nothing, or to stdout.
func writeOut(path string, stdout io.Writer, write func(io.Writer) error) (err error) {
	if path == "" {
		return write(stdout)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // a device must not be replaced by a file
		return fmt.Errorf("%s is no file: name one, or leave --out away", path)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".cleanroom-report-") // 0600: it names who did what
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := errors.Join(write(w), w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
