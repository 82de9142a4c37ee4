package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"cleanroom/integration/redactbench"
)

// page is what was measured, for the terminal as it comes and for a file at
// the end.
type page struct {
	options
	machine string
	whole   time.Duration // of everything

	took  map[string]times // by job
	rates map[int]times    // of one job among those at once
	used  []used

	done          []string     // parts
	summary, text bytes.Buffer // Markdown
}

// part measures one. Of one that fails nothing is kept.
func (p *page) part(name string, do func() error) error {
	before := p.text.Len()
	if err := do(); err != nil {
		p.text.Truncate(before)
		return err
	}
	p.done = append(p.done, name)
	return nil
}

// missing says which parts a run that was interrupted did not come to.
func (p *page) missing() string {
	left := slices.DeleteFunc(slices.Clone(p.parts), func(s string) bool { return slices.Contains(p.done, s) })
	return "The run was interrupted before it had measured: " + strings.Join(left, ", ") + "."
}

// grid is a table with a title; the first column holds names.
type grid struct {
	title, note string
	head        []string
	rows        [][]string
}

// add shows a table, and keeps it for the file.
func (p *page) add(g grid) error { return g.write(os.Stdout, &p.text) }

func (g grid) write(terminal, markdown io.Writer) error {
	fmt.Fprintf(terminal, "\n%s\n\n", g.title)
	if err := redactbench.Table(terminal, g.head, g.rows, false); err != nil {
		return err
	}
	fmt.Fprintf(markdown, "## %s\n\n", g.title)
	if err := redactbench.Table(markdown, g.head, g.rows, true); err != nil {
		return err
	}
	fmt.Fprintln(markdown)
	if g.note != "" {
		fmt.Fprintf(terminal, "\n%s\n", g.note)
		fmt.Fprintf(markdown, "%s\n\n", g.note)
	}
	return nil
}

// redaction measures that, which needs no engine.
func (p *page) redaction(ctx context.Context) error {
	var both bytes.Buffer
	if err := redactbench.Run(ctx, io.MultiWriter(os.Stdout, &both), false); err != nil {
		return err
	}
	fmt.Fprintf(&p.text, "## Redaction\n\n```\n%s```\n\n", both.Bytes())
	return nil
}

//go:embed method.md
var method string

// save writes the file: what came out, then all numbers, then how.
func (p *page) save() error {
	var b strings.Builder
	fmt.Fprintf(&b, "# What cleanroom costs\n\nMade by `make bench` on %s, in %.0f minutes, %d runs of each job under each executor.\n\n%s.\n\n",
		time.Now().UTC().Format(time.DateOnly), p.whole.Minutes(), p.runs, p.machine)
	for _, n := range p.notes {
		fmt.Fprintf(&b, "%s\n\n", n)
	}
	b.Write(p.summary.Bytes())
	b.Write(p.text.Bytes())
	fmt.Fprintf(&b, "## Method\n\n%s", method)
	return os.WriteFile(p.markdown, []byte(b.String()), 0o644)
}
