package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/match"
	"cleanroom/executor/audit/page"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// errNoRecord is a job of which the log has nothing.
var errNoRecord = errors.New("the audit log has no record of it: `cleanroom audit list` names what there is")

// kept is a record as the log has it.
type kept struct {
	index int64
	text  []byte
	*record.Record
}

// recordsOf are the records of a job, by its number or its room: more than one
// where the runner tried again, or a wipe took several tries.
func recordsOf(l *ledger.Ledger, name string) (all []kept, err error) {
	err = l.Records(func(index int64, text []byte) error {
		if !bytes.Contains(text, []byte(name)) { // the schema takes its time
			return nil
		}
		r, err := record.Decode(text)
		if err != nil {
			return nil // `audit verify` tells
		}
		var room string
		var job int64
		switch {
		case r.Job != nil:
			room, job = r.Job.Room, r.Job.Job
		case r.Reap != nil:
			room, job = r.Reap.Room, r.Reap.Job
		}
		if room != "" && (room == name || strconv.FormatInt(job, 10) == name) {
			all = append(all, kept{index, append([]byte(nil), text...), r})
		}
		return nil
	})
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%q: %w", name, errNoRecord)
	}
	return all, err
}

func auditShow(g *globals) *cobra.Command {
	var raw bool
	c := &cobra.Command{
		Use: "show JOB|ROOM", Short: "Show the record of a job as a page for people", Args: cobra.ExactArgs(1),
		Long: "Show what the audit log has of a job: who, what, why allowed, which secrets from when to when, what ran, what was\n" +
			"wiped. Each record shown was proved to be in the newest checkpoint of the log.",
		Example: "  cleanroom audit show 4711\n  cleanroom audit show 4711 --json | jq .job.secrets",
		RunE: func(c *cobra.Command, args []string) error {
			l, _, err := g.openLedger()
			if err != nil {
				return err
			}
			all, err := recordsOf(l, args[0])
			if err != nil {
				return err
			}
			cp, err := l.Checkpoint()
			if err != nil {
				return err
			}
			for i, r := range all {
				if raw {
					fmt.Fprintf(c.OutOrStdout(), "%s\n", exactly(c.OutOrStdout(), r.text))
					continue
				}
				if i > 0 {
					fmt.Fprintln(c.OutOrStdout())
				}
				proof := []string{
					fmt.Sprintf("record %d of the log %s, proved to be in its checkpoint of %d records", r.index, cp.Origin, cp.Size),
					"root " + cp.Root.String(),
					fmt.Sprintf("`cleanroom audit prove %s` makes a file that proves it elsewhere", args[0]),
				}
				if err := page.Write(c.OutOrStdout(), r.Record, proof); err != nil {
					return err
				}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&raw, "json", false, "print the records as they are in the log, one a line; on a terminal, what does something to it is escaped")
	return c
}

// exactly is a record's text as it is, but for a terminal, to which it may do
// something.
func exactly(out io.Writer, text []byte) []byte {
	if _, is := terminal(out); is {
		return plain.JSON(text)
	}
	return text
}

func auditProve(g *globals) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "prove JOB|ROOM", Short: "Make a file that proves the record of a job to somebody else", Args: cobra.ExactArgs(1),
		Long: "Make a file with the record of a job, the proof that it is in the log, the log's newest checkpoint and its public\n" +
			"keys: `cleanroom audit verify --bundle FILE --key KEY` verifies it on any machine, offline. Of a job with several\n" +
			"records the last one that tells of the job is meant.",
		Example: "  cleanroom audit prove 4711 --out 4711.proof\n  cleanroom audit verify --bundle 4711.proof --key \"$(cat runner-7.key)\"",
		RunE: func(c *cobra.Command, args []string) error {
			l, cfg, err := g.openLedger()
			if err != nil {
				return err
			}
			all, err := recordsOf(l, args[0])
			if err != nil {
				return err
			}
			index := all[len(all)-1].index
			for _, r := range all {
				if r.Job != nil {
					index = r.index
				}
			}
			var cosigned []byte
			for _, w := range ledger.Witnesses(cfg) { // one that covers the record says more than the log alone
				if msg, err := w.Kept(l.Log); err == nil && msg != nil {
					if cp, err := l.Keys().Open(msg); err == nil && cp.Size > index {
						cosigned = msg
					}
				}
			}
			bundle, err := proof.Make(l.Log, index, cosigned)
			if err != nil {
				return err
			}
			return writeOut(out, c.OutOrStdout(), func(w io.Writer) error { _, err := w.Write(bundle); return err })
		},
	}
	c.Flags().StringVar(&out, "out", "", "file to write (default: standard output)")
	return c
}

func auditMatch(g *globals) *cobra.Command {
	var job, file string
	c := &cobra.Command{
		Use: "match --job N --log FILE", Short: "Compare a job's log, as GitLab has it, with the job's record", Args: cobra.NoArgs,
		Long: "Compare a log that was downloaded from GitLab with what the record says each stage printed: that all of it is\n" +
			"there, in its order, its section and unchanged, and that every other line is one that gitlab-runner itself writes.\n" +
			"Exit code 1: it is not so, and what is not is named. What the runner says freely, as the error of a job, and how it\n" +
			"says that the job went is shown: no record proves that, nor when a line was written.",
		Example: "  cleanroom audit match --job 4711 --log job-4711.log",
		RunE: func(c *cobra.Command, _ []string) error {
			if job == "" || file == "" {
				return errors.New("name the job and its log: --job 4711 --log job-4711.log")
			}
			l, _, err := g.openLedger()
			if err != nil {
				return err
			}
			all, err := recordsOf(l, job)
			if err != nil {
				return err
			}
			text, err := readLog(file)
			if err != nil {
				return err
			}
			var stages []record.Stage // of all tries: they have one log
			var lacks []string
			for _, r := range all {
				if r.Job != nil {
					stages = append(stages, r.Job.Stages...)
					lacks = append(lacks, r.Job.Gaps...)
				}
				for _, c := range r.Cut {
					if c.List == "job.stages" {
						lacks = append(lacks, fmt.Sprintf("%d stages did not fit into it", c.Dropped))
					}
				}
			}
			got, err := match.Match(text, stages)
			if err != nil {
				return err
			}
			if err := showMatch(c.OutOrStdout(), got, lacks); err != nil {
				return err
			}
			if !got.Holds() {
				return errors.New("the log is not the one that the job's record tells of")
			}
			return nil
		},
	}
	c.Flags().StringVar(&job, "job", "", "number of the job")
	c.Flags().StringVar(&file, "log", "", "its log")
	return c
}

func showMatch(out io.Writer, r match.Report, lacks []string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STAGE\tBYTES\tIN THE LOG")
	for _, s := range r.Stages {
		says := string(s.State)
		switch s.State {
		case match.Changed:
			says = fmt.Sprintf("CHANGED: the first %d bytes are as they were", s.Good)
			if s.Until > 0 {
				says += fmt.Sprintf(", and what is not begins before byte %d", s.Until)
			}
		case match.Missing:
			says = fmt.Sprintf("MISSING: it should begin at byte %d of the log", s.At)
		case match.Cut:
			says = "CUT: the log ends before it does, as that of a job that was canceled"
			if r.Limit > 0 {
				says = fmt.Sprintf("CUT: beyond the runner's limit of %d bytes", r.Limit)
			}
		case match.Moved:
			says = fmt.Sprintf("MOVED: it is at byte %d, which is not in its stage's section", s.At)
		case match.Unknown:
			says = "unknown: the record has no hash of it"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\n", plain.Word(s.Stage), s.Bytes, says)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	listed := func(title string, first []match.Line, all int64) {
		if all == 0 {
			return
		}
		fmt.Fprintf(out, "\n%s:\n", title)
		for _, l := range first {
			fmt.Fprintf(out, "  line %d: %s\n", l.Number, l.Text)
		}
		if more := all - int64(len(first)); more > 0 {
			fmt.Fprintf(out, "  and %d more\n", more)
		}
	}
	listed(fmt.Sprintf("FOREIGN, %d lines that no stage printed and that are not the runner's", r.Strangers), r.Foreign, r.Strangers)
	listed("The runner's own words, not proven", r.Words, r.Told)
	if len(r.Words) > 0 && !r.Headers {
		fmt.Fprintln(out, "The lines have no time stamps: the runner was told so (FF_TIMESTAMPS), or somebody took them away.")
	}
	for _, gap := range lacks {
		fmt.Fprintf(out, "The record lacks something: %s\n", plain.Word(gap))
	}
	return nil
}

// readLog reads a log, and not more than can be compared.
func readLog(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, match.MaxLog+1))
}
