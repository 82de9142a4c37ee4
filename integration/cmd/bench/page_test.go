package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// markdown is how a table looks in the file.
func markdown(t *testing.T, g grid) string {
	t.Helper()
	var b strings.Builder
	if err := g.write(io.Discard, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func holds(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, want := range lines {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
}

func TestRaceTable(t *testing.T) {
	ms := func(all ...int) (d []time.Duration) {
		for _, n := range all {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	lanes := []*lane{{name: shellLane}, {name: dockerLane}, {name: coldLane}, {name: warmLane}}
	took := times{shellLane: ms(100, 100, 100), dockerLane: ms(2000, 2100, 2600), coldLane: ms(500, 600, 700)}
	holds(t, markdown(t, raceTable(work{title: "a job"}, lanes, took)),
		"## a job",
		"| shell executor | 0.100 s | 0.100 s to 0.100 s | 0.100 s to 0.100 s | 0.05 | – | – |",
		"| docker executor | 2.10 s | 2.02 s to 2.52 s | 2.00 s to 2.60 s | 1.00 | 2.00 s | 1.00 |",
		"| cleanroom, cold | 0.600 s | 0.517 s to 0.683 s | 0.500 s to 0.700 s | 0.29 | 0.500 s | 0.25 |",
		"| cleanroom, warm | – | – | – | – | – | – |") // a lane without a number says so
	delete(took, shellLane)
	holds(t, markdown(t, raceTable(work{noShell: "it has no images"}, lanes, took)),
		"| cleanroom, cold | 0.600 s | 0.517 s to 0.683 s | 0.500 s to 0.700 s | 0.29 | – | – |",
		"The shell executor cannot run it: it has no images.")
}

func TestRateTable(t *testing.T) {
	p := &page{options: options{runs: 20}, rates: map[int]times{
		1: {dockerLane: {2 * time.Second}, coldLane: {time.Second}},
		8: {dockerLane: {time.Second}, coldLane: {300 * time.Millisecond, 250 * time.Millisecond, 200 * time.Millisecond}},
	}}
	holds(t, markdown(t, p.rateTable([]*lane{{name: dockerLane}, {name: coldLane}})),
		"| docker executor | 30 (30 to 30) | 1.00 | – | – | 60 (60 to 60) | 1.00 |",
		"| cleanroom, cold | 60 (60 to 60) | 2.00 | – | – | 240 (200 to 300) | 4.00 |",
		"The median of 3 batches of 7, 8, 16 jobs; in brackets the slowest and the fastest batch.")
}

func TestUsageTable(t *testing.T) {
	cold, exec := &lane{name: coldLane}, &lane{name: execLane}
	holds(t, markdown(t, usageTable([]used{
		{exec, work{name: "true"}, []cost{{driverCPU: 150 * time.Millisecond, running: 24e6, driver: 25e6}}},
		{cold, work{name: "log"}, []cost{
			{driverCPU: time.Second, initCPU: 2 * time.Second, running: 7e6, driver: 10e6, init: 4e6, together: 9e6},
			{driverCPU: 3 * time.Second, initCPU: 4 * time.Second, running: 8e6, driver: 12e6, init: 3e6, together: 11e6}}},
	})),
		"| true | docker run and exec | 1 | 0.150 s | – | 24.0 MB | 25.0 MB | – | – | – | – |",
		"| log | cleanroom, cold | 2 | 2.00 s | 3.00 s | 8.0 MB | 12.0 MB | 4.0 MB | 12.0 MB | 16.0 MB | 11.0 MB |")
}

// TestBenchTable: lines as `go test -bench` prints them, of both packages.
func TestBenchTable(t *testing.T) {
	g, err := benchTable(strings.NewReader(`goos: linux
pkg: cleanroom/executor/audit/verify
BenchmarkMillion/append-2         	     712	   1605230 ns/op	        18.13 MB-peak	 2605968 B/op	     463 allocs/op
BenchmarkMillion/verify-with-schema-2         	       1	215000000000 ns/op	        55.33 MB-peak
PASS
`))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, markdown(t, g), "|  | runs | each | memory |", "| append | 712 | 1.61 ms | 18 MB |", "| verify-with-schema | 1 | 215 s | 55 MB |")
	g, err = benchTable(strings.NewReader("BenchmarkSearch/text-2  100  1234567 ns/op  2656.10 MB/s\nBenchmarkOther-2  3  50 ns/op  10.00 MB/s\n"))
	if err != nil {
		t.Fatal(err)
	}
	holds(t, markdown(t, g), "|  | runs | each | MB/s |", "| text | 100 | 1.23 ms | 2656 |", "| Other | 3 | 0.05 µs | 10 |")
	if _, err := benchTable(strings.NewReader("PASS\n")); err == nil {
		t.Error("no result is no table")
	}
}

func TestSave(t *testing.T) {
	p := &page{options: options{runs: 20, notes: []string{noPool}, markdown: filepath.Join(t.TempDir(), "x.md")}, machine: "2 cores", whole: 90 * time.Second}
	p.text.WriteString("## numbers\n\n")
	p.summary.WriteString("## targets\n\n")
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.markdown)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, string(text), noPool, "2 cores.")
	if at := strings.Index(string(text), "## targets"); at < 0 || at > strings.Index(string(text), "## numbers") || !strings.Contains(string(text), "## Method") {
		t.Errorf("%s", text)
	}
}

// TestInterrupted: what was measured whole is kept, and the page says what is
// not there.
func TestInterrupted(t *testing.T) {
	p := &page{options: options{parts: []string{"true", "clone", auditPart}, runs: 20, markdown: filepath.Join(t.TempDir(), "page")}}
	table := func(title string) error {
		return p.add(grid{title: title, head: []string{"a"}, rows: [][]string{{"b"}}})
	}
	if err := p.part("true", func() error { return table("whole") }); err != nil {
		t.Fatal(err)
	}
	if err := p.part("clone", func() error { return errors.Join(table("half"), context.Canceled) }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	p.notes = append(p.notes, p.missing())
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(p.markdown)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, string(text), "## whole", "The run was interrupted before it had measured: clone, audit.")
	if strings.Contains(string(text), "half") {
		t.Errorf("%s", text)
	}
}
