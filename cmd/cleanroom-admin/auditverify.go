package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor/audit/evidence"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/page"
	"cleanroom/executor/audit/proof"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/verify"
	"cleanroom/executor/plain"
)

// errNotGenuine is a log, or a proof, that is not what it should be.
var errNotGenuine = errors.New("the audit log is not genuine")

// Exit codes of `audit verify` and `audit report`, like those of other checks.
const (
	exitWrong = 1 // something is not genuine
	exitOpen  = 2 // it cannot be told, or not of all
)

// judged is an error with the exit code that tells wrong from not known.
func judged(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotGenuine):
		return stages.Exit{Code: exitWrong, Err: err}
	default:
		return stages.Exit{Code: exitOpen, Err: err}
	}
}

// against is what a log is held against.
type against struct {
	first string // its first public key
	logs  evidence.Sources
}

const againstHelp = "With job logs, in a folder or from GitLab, every checkpoint that prepare printed there must agree, so that a log which\n" +
	"was rewritten from any point is found out, even if that was done with its key. A job's log that cannot be read is\n" +
	"named, and the others are read.\n\n" +
	"--key is the log's first public key, as `cleanroom audit init` printed it and as you kept it: without it the log\n" +
	"says itself whose it is."

func (a *against) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.first, "key", "", "the log's first public key (NAME+ID+KEY)")
	f.StringVar(&a.logs.Dir, "job-logs", "", "folder of job logs")
	f.StringVar(&a.logs.GitLab, "gitlab", "", "URL of a GitLab to fetch job logs from, with GITLAB_TOKEN or --token-file")
	f.StringVar(&a.logs.Project, "project", "", "path or number of the project whose jobs' logs to fetch")
	f.Int64Var(&a.logs.Runner, "runner", 0, "number of the runner whose jobs' logs to fetch")
	f.DurationVar(&a.logs.Since, "since", 30*24*time.Hour, "how old the runner's jobs may be")
	f.StringVar(&a.logs.TokenFile, "token-file", "", "file with an access token that may read_api")
	f.StringVar(&a.logs.CAFile, "ca-file", "", "PEM file of the authority that vouches for the GitLab")
}

// needGitLab are the flags that say what to ask a GitLab.
var needGitLab = []string{"project", "runner", "since", "token-file", "ca-file"}

// whole refuses what would be looked at less than it was asked for: a value
// that a shell left empty, as of a file that is not there, and flags that go
// with another one.
func whole(c *cobra.Command) error {
	f := c.Flags()
	for _, name := range []string{"key", "job-logs", "gitlab", "project", "token-file", "ca-file", "dir", "bundle"} {
		if one := f.Lookup(name); one != nil && one.Changed && strings.TrimSpace(one.Value.String()) == "" {
			return fmt.Errorf("--%s is empty: give it a value, or leave it out", name)
		}
	}
	if f.Changed("key") { // which is not shown: it may be the private one
		if _, err := key.Public(strings.TrimSpace(f.Lookup("key").Value.String())); err != nil {
			return errors.New("--key is no public key like NAME+ID+KEY, as `cleanroom audit init` printed it")
		}
	}
	for _, name := range needGitLab {
		if f.Changed(name) && !f.Changed("gitlab") {
			return fmt.Errorf("--%s is about the logs of a GitLab: give --gitlab URL, too", name)
		}
	}
	for _, name := range append([]string{"dir", "job-logs", "gitlab"}, needGitLab...) {
		if f.Changed("bundle") && f.Changed(name) {
			return fmt.Errorf("--%s is about a whole log, and --bundle is a proof of one record: verify them one after the other", name)
		}
	}
	return nil
}

// looked is what came of a verification.
type looked struct {
	*verify.Report
	*evidence.Gathered
	evidence.Result
}

// wrong is whatever was found.
func (l looked) wrong() (all []string) {
	for _, f := range l.Findings {
		all = append(all, f.Error())
	}
	if l.More > 0 {
		all = append(all, fmt.Sprintf("and %d more", l.More))
	}
	return append(all, l.Result.Wrong...)
}

// look verifies the log in a folder. With the host's ledger, what witnesses
// signed counts, too.
func (a against) look(ctx context.Context, dir string, l *ledger.Ledger, cfg config.Config) (out looked, err error) {
	if l != nil {
		if err := l.Finish(ctx); err != nil {
			return out, err
		}
	}
	if out.Gathered, err = a.logs.Gather(ctx); err != nil {
		return out, err
	}
	for _, w := range ledger.Witnesses(cfg) {
		if l == nil {
			break
		}
		v, err := w.Verifier()
		if err != nil {
			return out, err
		}
		msg, err := w.Kept(l.Log)
		if err != nil {
			return out, err
		}
		out.Gathered.Witness(w.URL, v, msg)
	}
	var newer int64 // records
	wellFormed := func(_ int64, text []byte) error {
		_, err := record.Decode(text)
		if errors.Is(err, record.ErrVersion) {
			newer++
			return nil
		}
		return err
	}
	out.Report, err = verify.Log(ctx, dir, verify.Options{First: strings.TrimSpace(a.first), Known: out.Known(), Record: wellFormed})
	if err == nil {
		out.Result = out.Judge(out.Report)
		if newer > 0 {
			out.Missing = append(out.Missing, fmt.Sprintf("%d records are of a version of the schema that this cleanroom does not know: use a newer one", newer))
		}
	}
	return out, err
}

func auditVerify(g *globals) *cobra.Command {
	var a against
	var dir, bundle string
	c := &cobra.Command{
		Use: "verify", Short: "Verify the audit log, or the proof of one record", Args: cobra.NoArgs,
		Long: "Verify signatures, keys, the whole tree and each record against the schema, and what witnesses cosigned.\n" + againstHelp + "\n\n" +
			"--dir verifies a copy of a log (data_dir/audit/log), on a machine that has no configuration.\n\n" +
			"Exit code 0: all that was asked for was looked at, and is genuine; 1: something is wrong, and each thing that is\n" +
			"wrong is named; 2: it cannot be told, or not of all: the log or its proof could not be read, or nothing wrong was\n" +
			"found, but some of the job logs could not be read, none holds a checkpoint, or one holds a checkpoint of another key\n" +
			"and nothing shows whether prepare or a job printed it; or records are of a newer cleanroom.",
		Example: "  cleanroom audit verify --key \"$(cat runner-7.key)\"\n" +
			"  cleanroom audit verify --job-logs ./logs\n" +
			"  cleanroom audit verify --gitlab https://gitlab.example.com --token-file /root/gitlab-token --runner 7\n" +
			"  cleanroom audit verify --bundle 4711.proof --key \"$(cat runner-7.key)\"",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := whole(c); err != nil {
				return judged(err)
			}
			if bundle != "" {
				return judged(proved(g, bundle, a.first, c.OutOrStdout()))
			}
			return judged(verified(g, a, dir, c))
		},
	}
	a.flags(c)
	c.Flags().StringVar(&dir, "dir", "", "folder of the log (default: this host's)")
	c.Flags().StringVar(&bundle, "bundle", "", "file of `cleanroom audit prove` to verify in place of a log")
	return c
}

// proved verifies a proof, and shows what it proves.
func proved(g *globals, bundle, first string, out io.Writer) error {
	f, err := os.Open(bundle)
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
	p, err := proof.Verify(text, strings.TrimSpace(first), witnesses...)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotGenuine, err)
	}
	r, err := record.Decode(p.Record)
	if errors.Is(err, record.ErrVersion) {
		return fmt.Errorf("record %d is in the log %s, but it is a %w", p.Index, plain.Text(p.Checkpoint.Origin), err)
	}
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

// verified verifies a log, and says what came of it.
func verified(g *globals, a against, dir string, c *cobra.Command) error {
	var l *ledger.Ledger
	var cfg config.Config
	if dir == "" {
		var err error
		if l, cfg, err = g.openLedger(); err != nil {
			return err
		}
		dir = ledger.Dir(cfg)
	}
	r, err := a.look(c.Context(), dir, l, cfg)
	if err != nil {
		return err
	}
	return r.show(c.OutOrStdout())
}

// maxWithout is how many logs without a checkpoint are named in a line.
const maxWithout = 5

// show prints the verdict, which is its error, too.
func (l looked) show(out io.Writer) error {
	wrong := l.wrong()
	for _, w := range wrong {
		fmt.Fprintf(out, "WRONG: %s\n", plain.Text(w))
	}
	for _, file := range append(l.Trailing, l.Stray...) {
		fmt.Fprintf(out, "no checkpoint covers it: %s holds more than the log has (an append that was cut short, or somebody put it there)\n", plain.Text(file))
	}
	if l.Others > 0 {
		fmt.Fprintf(out, "%d checkpoints in job logs are not of this log, and so not held against it\n", l.Others)
	}
	if n := l.Unread.Total; n > 0 {
		fmt.Fprintf(out, "job logs that could not be read: %d\n", n)
		for _, u := range l.Unread.First {
			fmt.Fprintf(out, "NOT READ: %s\n", plain.Text(u))
		}
		if more := n - len(l.Unread.First); more > 0 {
			fmt.Fprintf(out, "NOT READ: and %d more\n", more)
		}
	}
	if l.Asked {
		fmt.Fprintf(out, "job logs: %d read, %d checkpoints in them agree\n", l.Read, l.Agree)
		if n := l.Without.Total; n > 0 {
			fmt.Fprintf(out, "job logs without a checkpoint of this log: %d: %s\n", n, plain.Text(l.Without.Some(maxWithout)))
		}
	}
	for _, what := range l.Against {
		fmt.Fprintf(out, "held against %s\n", plain.Text(what))
	}
	if len(wrong) > 0 {
		return errNotGenuine
	}
	says := "is genuine"
	if len(l.Missing) > 0 {
		says = "has nothing wrong in what could be looked at"
	}
	fmt.Fprintf(out, "the log %s %s: %d records, root %s\n", l.Checkpoint.Origin, says, l.Records, l.Checkpoint.Root)
	if !l.Pinned {
		fmt.Fprintln(out, "whose it is, it says itself: give --key with the public key that you kept")
	}
	return incomplete(l.Missing)
}

// errIncomplete is a verification of less than was asked for.
var errIncomplete = errors.New("the verification is incomplete")

// incomplete says what is missing, if anything is.
func incomplete(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", errIncomplete, plain.Text(strings.Join(missing, "; ")))
}
