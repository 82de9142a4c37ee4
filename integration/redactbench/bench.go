// Package redactbench measures how fast a log passes a redactor, ours beside
// what else there is in Go, in one run on one core.
//
// It is not a race among equals. The libraries after Aho and Corasick only say
// whether a pattern is in one write: they keep nothing for the next, so a
// secret that two writes part is not found, they see no colours, blanks and
// line ends in a secret, and they put nothing in its place. strings.Replacer
// replaces, in whole lines. Each gets its patterns from us; cleanroom makes
// them itself.
package redactbench

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"cleanroom/executor/redact"
	"cleanroom/executor/redact/redacttest"
)

const (
	logSize = 4 << 20
	// colours is the share of lines that can be coloured and are.
	colours = 0.1
	rounds  = 5
	// atLeast is how long one measurement takes.
	atLeast = 150 * time.Millisecond
)

// sets are how many secrets cleanroom gets, and how many patterns the others.
var sets = []struct{ secrets, patterns int }{{10, 200}, {500, 6000}}

var writes = []int{32 << 10, 128}

// Run measures, and prints a table.
func Run(ctx context.Context, w io.Writer, markdown bool) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	text, plain := redacttest.Log(logSize, colours), redacttest.Log(logSize, 0)
	head := []string{"MB/s", "only matches"}
	rows := make([][]string, len(rivals)+1)
	for i, r := range rivals {
		rows[i] = []string{r.name, map[bool]string{true: "yes", false: "no"}[r.matches]}
	}
	rows[len(rivals)] = []string{"copy, and look for one byte", ""}
	costs := slices.Repeat([]string{""}, len(rows))
	var forms []int
	for _, set := range sets {
		patterns := redacttest.Patterns(set.patterns)
		if len(patterns) != set.patterns {
			return fmt.Errorf("%d patterns, want %d", len(patterns), set.patterns)
		}
		m, err := redact.NewMatcher(secrets(set.secrets), redact.Options{})
		if err != nil {
			return err
		}
		forms = append(forms, m.Forms())
		var lanes []*lane
		for _, r := range rivals {
			l, err := open(r, set.secrets, patterns)
			if err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
			l.text = text
			if r.plain {
				l.text = plain
			}
			lanes = append(lanes, l)
		}
		lanes = append(lanes, floor(text))
		for _, size := range writes {
			head = append(head, fmt.Sprintf("%d, %d B", set.patterns, size))
			if err := race(ctx, lanes, size); err != nil {
				return err
			}
			for i, l := range lanes {
				rows[i] = append(rows[i], fmt.Sprintf("%.0f", slices.Max(l.speeds)))
				l.speeds = nil
			}
		}
		for i, l := range lanes[:len(rivals)] { // those of the greater set remain
			costs[i] = fmt.Sprintf("%.1f ms, %d KiB, +%d KiB", float64(l.built.Microseconds())/1000, l.heap>>10, l.grown>>10)
		}
	}
	head = append(head, fmt.Sprintf("to build, heap, and what it grew by (%d)", sets[len(sets)-1].patterns))
	for i := range rows {
		rows[i] = append(rows[i], costs[i])
	}
	fmt.Fprintf(w, "A log of pytest, pip and uvicorn, with colours in a tenth of its lines, passes a redactor\n"+
		"in writes of %d and %d bytes, on one core (%s), best of %d, taking turns.\n", writes[0], writes[1], runtime.GOARCH, rounds)
	fmt.Fprintf(w, "cleanroom hides %d and %d secrets (%d and %d forms) across writes, colours and line ends. Who only matches\n"+
		"says whether one of %d and %d patterns is in a write: it does not find what two writes part, and hides nothing.\n\n",
		sets[0].secrets, sets[1].secrets, forms[0], forms[1], sets[0].patterns, sets[1].patterns)
	return Table(w, head, rows, markdown)
}

// lane is a rival that is ready.
type lane struct {
	text   []byte
	write  func([]byte)
	done   func() error
	built  time.Duration
	heap   int64 // that it needs, and how much more after all the runs
	grown  int64
	speeds []float64
}

func open(r rival, secrets int, patterns []string) (*lane, error) {
	before, began := heap(), time.Now()
	l, err := r.open(secrets, patterns)
	if err != nil {
		return nil, err
	}
	l.built = time.Since(began)
	l.heap = max(heap()-before, 0)
	return l, nil
}

// floor is what a log costs that is copied once and searched for one byte.
func floor(text []byte) *lane {
	to := make([]byte, 32<<10)
	found := 0
	return &lane{text: text, write: func(p []byte) {
		copy(to, p)
		found += bytes.IndexByte(to[:len(p)], 0)
	}, done: func() error { return nil }}
}

// race lets all have the log in turns.
func race(ctx context.Context, lanes []*lane, size int) error {
	for range rounds {
		for _, l := range lanes {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			before, passed, began := heap(), 0, time.Now()
			for time.Since(began) < atLeast {
				for at := 0; at < len(l.text); at += size {
					l.write(l.text[at:min(at+size, len(l.text))])
				}
				passed += len(l.text)
			}
			l.speeds = append(l.speeds, float64(passed)/1e6/time.Since(began).Seconds())
			l.grown = max(l.grown, heap()-before)
			if err := l.done(); err != nil {
				return err
			}
		}
	}
	return nil
}

// heap is what is reachable.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Table writes one, for a terminal or in Markdown: the first column to the left,
// numbers to the right.
func Table(w io.Writer, head []string, rows [][]string, markdown bool) error {
	lines := append([][]string{head}, rows...)
	if !markdown {
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		for _, cells := range lines {
			fmt.Fprintln(t, strings.Join(cells, "\t"))
		}
		return t.Flush()
	}
	rule := slices.Repeat([]string{"---:"}, len(head))
	rule[0] = "---"
	for _, cells := range slices.Insert(lines, 1, rule) {
		fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |")
	}
	return nil
}
