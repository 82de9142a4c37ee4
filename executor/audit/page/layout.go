package page

import (
	"bufio"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/width"

	"cleanroom/executor/plain"
)

// label is how wide the first column is.
const label = 16

type page struct{ w *bufio.Writer }

func (p *page) title(text string) {
	for _, line := range wrap(text, Width) {
		p.print(line)
	}
}

func (p *page) section(text string) {
	p.print("")
	p.print(text)
}

// line is a label and a text beside it, on as many lines as it takes.
func (p *page) line(name, text string) {
	first := "  " + name
	if columns(first) >= label {
		for _, line := range wrap(first, Width-2) {
			p.print("  " + strings.TrimSpace(line))
		}
		first = ""
	}
	for _, line := range wrap(text, Width-label) {
		p.print(strings.TrimRight(first+strings.Repeat(" ", label-columns(first))+line, " "))
		first = ""
	}
}

func (p *page) print(line string) {
	p.w.WriteString(line)
	p.w.WriteByte('\n')
}

// wrap breaks a text between words, and a word that is too long anywhere.
func wrap(text string, most int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && columns(line)+1+columns(word) > most {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		for _, r := range word {
			if columns(line)+columns(string(r)) > most {
				lines, line = append(lines, line), ""
			}
			line += string(r)
		}
	}
	if line != "" || len(lines) == 0 {
		lines = append(lines, line)
	}
	return lines
}

// columns that a text takes: characters of East Asia take two.
func columns(s string) (n int) {
	for _, r := range s {
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

// show is somebody's text; one that is empty can be seen to be.
func show(s string) string {
	if s == "" {
		return `""`
	}
	return plain.Text(s)
}

func number(n int64) string {
	if n == 0 {
		return "of a number that is not known"
	}
	return strconv.FormatInt(n, 10)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "at a time that is not known"
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// took is a duration for people, from milliseconds.
func took(ms int64) string {
	switch d := time.Duration(ms) * time.Millisecond; {
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	default:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
}
