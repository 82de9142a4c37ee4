package rig

import (
	"regexp"
	"strings"
)

var (
	// Each line of a trace begins with when, which stream (00 the runner's
	// own, 01 the job's), and + when it goes on with the line before.
	stamp   = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT[0-9:.]+Z [0-9a-f]{2}[OE][ +]?`)
	goesOn  = regexp.MustCompile(`\n\d{4}-\d\d-\d\dT[0-9:.]+Z [0-9a-f]{2}[OE]\+`)
	section = regexp.MustCompile(`section_(start|end):\d+:[^\r\n]*\r?(\x1b\[0K)?`)
	erase   = regexp.MustCompile(`\x1b\[0K`)
	colour  = regexp.MustCompile(`\x1b\[[0-9;]*m`)
)

// Shown is a job's log as GitLab's page shows it, colours kept.
func Shown(trace []byte) string {
	s := goesOn.ReplaceAllString(string(trace), "")
	s = stamp.ReplaceAllString(s, "")
	s = section.ReplaceAllString(s, "")
	return erase.ReplaceAllString(s, "")
}

// Text is Shown without colours, for tests.
func Text(trace []byte) string {
	return colour.ReplaceAllString(strings.ReplaceAll(Shown(trace), "\r\n", "\n"), "")
}
