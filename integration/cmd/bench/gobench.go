package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/perf/benchfmt"
)

// guard times the search for secrets in what would be stored.
func (p *page) guard(ctx context.Context) error {
	return p.goBench(ctx, "Guard: searching what is stored for secrets", "", "./executor/guard", "Search", "-benchtime", "2s")
}

// audit times what is done with a great log.
func (p *page) audit(ctx context.Context) error {
	return p.goBench(ctx, "Audit log of a million records, each of a job with three secrets",
		"Memory is the most that the whole process had. An append opens the log anew. `cleanroom audit verify` holds each record against the schema, too (verify-with-schema).",
		"./executor/audit/verify", "Million", "-timeout", "60m")
}

// goBench has `go test` run benchmarks of cleanroom's own packages.
func (p *page) goBench(ctx context.Context, title, note, dir, pattern string, flags ...string) error {
	c := exec.CommandContext(ctx, "go", append(append([]string{"test", "-run", "^$", "-bench", pattern}, flags...), dir)...)
	c.Dir = ".."
	var out bytes.Buffer
	c.Stdout, c.Stderr = io.MultiWriter(os.Stderr, &out), os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("benchmarks of %s: %w", dir, err)
	}
	g, err := benchTable(&out)
	if err != nil {
		return fmt.Errorf("benchmarks of %s: %w", dir, err)
	}
	g.title, g.note = title, note
	return p.add(g)
}

// benchTable is what `go test -bench` printed.
func benchTable(out io.Reader) (grid, error) {
	g := grid{head: []string{"", "runs", "each", "MB/s", "memory"}}
	r := benchfmt.NewReader(out, "go test")
	for r.Scan() {
		b, ok := r.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		// "Million/append-2": the benchmark, the case, and the processors.
		_, parts := b.Name.Parts()
		name := string(b.Name.Base())
		if len(parts) > 0 && parts[0][0] == '/' {
			name = strings.TrimPrefix(string(parts[0]), "/")
		}
		row := []string{name, fmt.Sprint(b.Iters), none, none, none}
		if v, ok := b.Value("sec/op"); ok {
			row[2] = short(time.Duration(v * float64(time.Second)))
		}
		if v, ok := b.Value("B/s"); ok {
			row[3] = fmt.Sprintf("%.0f", v/1e6)
		}
		if v, ok := b.Value("B-peak"); ok { // benchfmt has no MB
			row[4] = fmt.Sprintf("%.0f MB", v/1e6)
		}
		g.rows = append(g.rows, row)
	}
	if r.Err() == nil && len(g.rows) == 0 {
		return g, errors.New("there is no result")
	}
	g.drop(3)
	return g, r.Err()
}

// short is a time with three figures.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

// drop leaves out columns, from one on, that have no number.
func (g *grid) drop(from int) {
	for c := len(g.head) - 1; c >= from; c-- {
		empty := true
		for _, row := range g.rows {
			empty = empty && row[c] == none
		}
		if !empty {
			continue
		}
		g.head = append(g.head[:c:c], g.head[c+1:]...)
		for i, row := range g.rows {
			g.rows[i] = append(row[:c:c], row[c+1:]...)
		}
	}
}
