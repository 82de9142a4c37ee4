package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"cleanroom/config"
	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/joblog"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/page"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/verify"
	"cleanroom/executor/plain"
)

// errNotGenuine is a log, or a proof, that is not what it should be.
var errNotGenuine = errors.New("the audit log is not genuine")

// verifier is what `audit verify` was asked.
type verifier struct {
	dir, first, bundle, jobLogs    string
	gitlab, project, token, caFile string
	runner                         int64
	since                          time.Duration
	known                          []verify.Known
	seen                           map[string]string // names of notes that are known: a job can print one as often as it likes
	heads                          map[string]bool   // those, by name, with which some job's log begins
}

func auditVerify(g *globals) *cobra.Command {
	v := &verifier{}
	c := &cobra.Command{
		Use: "verify", Short: "Verify the audit log, or the proof of one record", Args: cobra.NoArgs,
		Long: "Verify signatures, keys, the whole tree and each record against the schema, and what witnesses cosigned. With job\n" +
			"logs, in a folder or from GitLab, every checkpoint that prepare printed there must agree, so that a log which was\n" +
			"rewritten from any point is found out, even if that was done with its key.\n\n" +
			"--key is the log's first public key, as `cleanroom audit init` printed it and as you kept it: without it the log\n" +
			"says itself whose it is. --dir verifies a copy of a log (data_dir/audit/log), on a machine that has no configuration.\n" +
			"Exit code 1: something is wrong, and each thing that is wrong is named.",
		Example: "  cleanroom audit verify --key \"$(cat runner-7.key)\"\n" +
			"  cleanroom audit verify --job-logs ./logs\n" +
			"  cleanroom audit verify --gitlab https://gitlab.example.com --token-file /root/gitlab-token --runner 7\n" +
			"  cleanroom audit verify --bundle 4711.proof --key \"$(cat runner-7.key)\"",
		RunE: func(c *cobra.Command, _ []string) error {
			v.first = strings.TrimSpace(v.first)
			v.seen, v.heads = map[string]string{}, map[string]bool{}
			if v.bundle != "" {
				return v.proved(g, c.OutOrStdout())
			}
			return v.log(c.Context(), g, c)
		},
	}
	f := c.Flags()
	f.StringVar(&v.first, "key", "", "the log's first public key (NAME+ID+KEY)")
	f.StringVar(&v.dir, "dir", "", "folder of the log (default: this host's)")
	f.StringVar(&v.bundle, "bundle", "", "file of `cleanroom audit prove` to verify in place of a log")
	f.StringVar(&v.jobLogs, "job-logs", "", "folder of job logs")
	f.StringVar(&v.gitlab, "gitlab", "", "URL of a GitLab to fetch job logs from, with GITLAB_TOKEN or --token-file")
	f.StringVar(&v.project, "project", "", "path or number of the project whose jobs' logs to fetch")
	f.Int64Var(&v.runner, "runner", 0, "number of the runner whose jobs' logs to fetch")
	f.DurationVar(&v.since, "since", 30*24*time.Hour, "how old the runner's jobs may be")
	f.StringVar(&v.token, "token-file", "", "file with an access token that may read_api")
	f.StringVar(&v.caFile, "ca-file", "", "PEM file of the authority that vouches for the GitLab")
	return c
}

// proved verifies a proof, and shows what it proves.
func (v *verifier) proved(g *globals, out io.Writer) error {
	f, err := os.Open(v.bundle)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, proof.MaxSize+1))
	if err != nil {
		return err
	}
	cfg, err := g.load()
	if err != nil { // the machine of an auditor has none that matters
		cfg = config.Default()
	}
	var witnesses []note.Verifier
	for _, w := range ledger.Witnesses(cfg) {
		one, err := w.Verifier()
		if err != nil {
			return err
		}
		witnesses = append(witnesses, one)
	}
	p, err := proof.Verify(text, v.first, witnesses...)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotGenuine, err)
	}
	r, err := record.Decode(p.Record)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotGenuine, err)
	}
	lines := []string{
		fmt.Sprintf("record %d of the log %s is in its checkpoint of %d records", p.Index, p.Checkpoint.Origin, p.Checkpoint.Size),
		"root " + p.Checkpoint.Root.String(), "signed by a key that goes back to " + p.Keys.First,
	}
	if !p.Pinned {
		lines = append(lines, "WHOSE key that is, only this file says: give --key with the one you kept")
	}
	for _, w := range p.Witnesses {
		lines = append(lines, "cosigned by "+w)
	}
	return page.Write(out, r, lines)
}

// log verifies a log.
func (v *verifier) log(ctx context.Context, g *globals, c *cobra.Command) error {
	dir := v.dir
	if dir == "" {
		l, cfg, err := g.openLedger()
		if err != nil {
			return err
		}
		if err := l.Finish(ctx); err != nil {
			return err
		}
		dir = ledger.Dir(cfg)
		for _, w := range ledger.Witnesses(cfg) {
			msg, err := w.Kept(l.Log)
			if err != nil {
				return err
			}
			if msg != nil {
				v.known = append(v.known, verify.Known{Name: "witness " + w.URL, Note: msg})
			}
		}
	}
	logs, err := v.collect(ctx)
	if err != nil {
		return err
	}
	r, err := verify.Log(ctx, dir, verify.Options{First: v.first, Known: v.known, Record: wellFormed})
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	for _, f := range r.Findings {
		fmt.Fprintf(out, "WRONG: %s\n", plain.Text(f.Error()))
	}
	if r.More > 0 {
		fmt.Fprintf(out, "and %d more\n", r.More)
	}
	for _, file := range append(r.Trailing, r.Stray...) {
		fmt.Fprintf(out, "no checkpoint covers it: %s holds more than the log has (an append that was cut short, or somebody put it there)\n", plain.Word(file))
	}
	strange := v.strangers(out, r)
	if v.jobLogs != "" || v.gitlab != "" {
		fmt.Fprintf(out, "job logs: %d read, %d checkpoints in them agree\n", logs, len(r.Consistent))
		if logs > 0 && len(r.Consistent) == 0 && len(r.Findings) == 0 {
			fmt.Fprintln(out, "no log holds a checkpoint of this log: they prove nothing")
		}
	}
	if r.Err() != nil || strange {
		return errNotGenuine
	}
	fmt.Fprintf(out, "the log %s is genuine: %d records, root %s\n", r.Checkpoint.Origin, r.Records, r.Checkpoint.Root)
	if !r.Pinned {
		fmt.Fprintln(out, "whose it is, it says itself: give --key with the public key that you kept")
	}
	return nil
}

// maxBlocks is how many checkpoints of one log count: each prepare of the job
// prints one, and the runner tries three times.
const maxBlocks = 8

// strangers tells of checkpoints that the log's keys did not sign. Whatever a
// job prints comes after what prepare did: where the first of its log names this
// log, prepare printed it, and a key that the log does not know signed it.
func (v *verifier) strangers(out io.Writer, r *verify.Report) (wrong bool) {
	others := 0
	for _, k := range r.NotOurs {
		cp, err := checkpoint.Parse(k.Note)
		if err != nil || !v.heads[k.Name] || cp.Origin != r.Checkpoint.Origin {
			others++
			continue
		}
		wrong = true
		fmt.Fprintf(out, "WRONG: a job's log begins with the checkpoint of %[2]s in %[1]s, which none of the log's keys signed: the log was made anew, or rolled back to before its key was changed\n", plain.Word(k.Name), cp.Origin)
	}
	if others > 0 {
		fmt.Fprintf(out, "%d checkpoints in job logs are not of this log, and so not held against it\n", others)
	}
	return wrong
}

func wellFormed(_ int64, text []byte) error {
	_, err := record.Decode(text)
	return err
}

// collect gathers the checkpoints that job logs hold.
func (v *verifier) collect(ctx context.Context) (logs int, err error) {
	take := func(name string, r io.Reader) error {
		found, _, err := checkpoint.Scan(r)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for i, f := range found[:min(len(found), maxBlocks)] {
			if f.Err != nil { // a job's own text
				continue
			}
			note := string(f.Checkpoint.Note)
			at, known := v.seen[note]
			if !known {
				at = fmt.Sprintf("%s, line %d", name, f.Line)
				v.seen[note] = at
				v.known = append(v.known, verify.Known{Name: at, Note: f.Checkpoint.Note})
			}
			if i == 0 { // whatever job's text it was before
				v.heads[at] = true
			}
		}
		logs++
		return nil
	}
	if v.jobLogs != "" {
		err := filepath.WalkDir(v.jobLogs, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			return take(path, f)
		})
		if err != nil {
			return logs, err
		}
	}
	if v.gitlab == "" {
		return logs, nil
	}
	if (v.project == "") == (v.runner == 0) {
		return logs, errors.New("say whose logs to fetch: --runner NUMBER, or --project PATH")
	}
	token, err := joblog.Token(v.token, os.Environ())
	if err != nil {
		return logs, err
	}
	lab, err := joblog.Open(v.gitlab, token, v.caFile)
	if err != nil {
		return logs, err
	}
	each := func(job int64, log io.Reader) error { return take(fmt.Sprintf("the log of job %d", job), log) }
	if v.runner != 0 {
		return logs, lab.Runner(ctx, v.runner, time.Now().Add(-v.since), each)
	}
	err = lab.Project(ctx, v.project, 0, 1<<62, each)
	return logs, err
}
