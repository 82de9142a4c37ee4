package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
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

	text bytes.Buffer // Markdown
}

// grid is a table with a title; the first column holds names.
type grid struct {
	title, note string
	head        []string
	rows        [][]string
}

// add shows a table, and keeps it for the file.
func (p *page) add(w io.Writer, g grid) error {
	fmt.Fprintf(w, "\n%s\n\n", g.title)
	if err := redactbench.Table(w, g.head, g.rows, false); err != nil {
		return err
	}
	fmt.Fprintf(&p.text, "## %s\n\n", g.title)
	if err := redactbench.Table(&p.text, g.head, g.rows, true); err != nil {
		return err
	}
	fmt.Fprintln(&p.text)
	if g.note != "" {
		fmt.Fprintln(w, g.note)
		fmt.Fprintf(&p.text, "%s\n\n", g.note)
	}
	return nil
}

// redaction measures that, which needs no engine.
func (p *page) redaction(ctx context.Context, w io.Writer) error {
	fmt.Fprintln(w)
	var both bytes.Buffer
	if err := redactbench.Run(ctx, io.MultiWriter(w, &both), false); err != nil {
		return err
	}
	fmt.Fprintf(&p.text, "## Redaction\n\n```\n%s```\n", both.Bytes())
	return nil
}

//go:embed method.md
var method string

// save writes the file.
func (p *page) save() error {
	head := fmt.Sprintf("# What cleanroom costs\n\nMade by `make bench` on %s, in %.0f minutes, %d runs of each job under each executor.\n\n%s.\n\n%s\n",
		time.Now().UTC().Format(time.DateOnly), p.whole.Minutes(), p.runs, p.machine, method)
	return os.WriteFile(p.markdown, append([]byte(head), p.text.Bytes()...), 0o644)
}
