package list

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// block is how many rows a table lines up before it prints them.
const block = 500

// Table is a printer for terminals. Its columns never get narrower, and are
// wide enough for each block of rows.
type Table struct {
	out    *bufio.Writer
	rows   [][]string
	widths []int
}

// NewTable begins with the head.
func NewTable(out io.Writer) *Table {
	head := []string{"INDEX", "TIME", "KIND", "JOB", "PROJECT", "REF", "USER", "OUTCOME", "SUMMARY"}
	return &Table{out: bufio.NewWriter(out), rows: [][]string{head}, widths: make([]int, len(head))}
}

// Print adds a row.
func (t *Table) Print(index int64, r *record.Record, _ []byte) error {
	row := []string{strconv.FormatInt(index, 10), r.At.UTC().Format(time.DateTime + "Z"), string(r.Kind), "", "", "", "", "", Summary(r)}
	switch {
	case r.Job != nil:
		row[3], row[4], row[5], row[6], row[7] = number(r.Job.Job), r.Job.Project, Fact(r.Job, "ref"), Fact(r.Job, "user_login"), string(r.Job.Outcome)
	case r.Reap != nil:
		row[3], row[4] = number(r.Reap.Job), r.Reap.Project
	default:
		row[6] = r.By.User
	}
	for i, cell := range row {
		if cell = plain.Text(cell); cell == "" {
			cell = "-"
		}
		if i < len(row)-1 {
			cell = plain.Short(cell, 50)
		}
		row[i] = cell
	}
	if t.rows = append(t.rows, row); len(t.rows) < block {
		return nil
	}
	return t.write()
}

func (t *Table) write() error {
	for _, row := range t.rows {
		for i, cell := range row {
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t.rows {
		for i, cell := range row[:len(row)-1] {
			t.out.WriteString(cell + strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+2))
		}
		t.out.WriteString(row[len(row)-1] + "\n")
	}
	t.rows = t.rows[:0]
	return t.out.Flush()
}

// Flush prints what there is.
func (t *Table) Flush() error { return t.write() }

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// Lines is a printer for programs: a line of JSON a record, with its index and
// all of it.
type Lines struct{ out *bufio.Writer }

// NewLines prints to a writer.
func NewLines(out io.Writer) *Lines { return &Lines{bufio.NewWriter(out)} }

// Print writes a line. Characters that do something to a terminal are escaped.
func (l *Lines) Print(index int64, _ *record.Record, raw []byte) error {
	fmt.Fprintf(l.out, `{"index":%d,"record":`, index)
	if bytes.ContainsAny(raw, "\n\t") { // none of ours, and may be more than a line
		var one bytes.Buffer
		if err := json.Compact(&one, raw); err != nil {
			return err
		}
		raw = one.Bytes()
	}
	l.out.Write(plain.JSON(raw))
	_, err := l.out.WriteString("}\n")
	return err
}

// Flush writes what is left.
func (l *Lines) Flush() error { return l.out.Flush() }
