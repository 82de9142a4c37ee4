package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

const (
	shellLabel  = "shell executor"
	dockerLabel = "docker executor"
	roomLabel   = "cleanroom"
)

// row is what became of one executor's runs.
type row struct {
	label            string
	median, min, max time.Duration
}

func summary(label string, times []time.Duration) row {
	sorted := slices.Sorted(slices.Values(times))
	n := len(sorted)
	return row{label, (sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// cells are a row's columns: ratios and floor are of medians.
func (r row) cells(docker, shell time.Duration) []string {
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
	return []string{r.label, seconds(r.median), seconds(r.min), seconds(r.max),
		fmt.Sprintf("%.2f", r.median.Seconds()/docker.Seconds()), fmt.Sprintf("%+.2f s", (r.median - shell).Seconds())}
}

func table(w io.Writer, rows []row, markdown bool) error {
	var docker, shell time.Duration
	for _, r := range rows {
		switch r.label {
		case dockerLabel:
			docker = r.median
		case shellLabel:
			shell = r.median
		}
	}
	lines := [][]string{{"executor", "median", "min", "max", "of docker executor", "over shell floor"}}
	if markdown {
		lines = append(lines, []string{"---", "---:", "---:", "---:", "---:", "---:"})
	}
	for _, r := range rows {
		lines = append(lines, r.cells(docker, shell))
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, cells := range lines {
		if markdown {
			fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |")
		} else {
			fmt.Fprintln(t, strings.Join(cells, "\t"))
		}
	}
	return t.Flush()
}
