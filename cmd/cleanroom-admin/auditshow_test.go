package main

import (
	"bytes"
	"strings"
	"testing"

	"cleanroom/executor/audit/match"
)

// A record's bytes are what they are, but do nothing to a terminal.
func TestExactly(t *testing.T) {
	_, slave := pty(t)
	text := []byte("\"\u009b31m\u202e\"")
	if got := exactly(&bytes.Buffer{}, text); !bytes.Equal(got, text) {
		t.Errorf("%q", got)
	}
	if got := string(exactly(slave, text)); got != `"\u009b31m\u202e"` {
		t.Errorf("%q", got)
	}
}

// A log may end early where no limit was reached.
func TestShowMatchOfACutLog(t *testing.T) {
	for limit, want := range map[int64]string{
		0:    "CUT: the log ends before it does",
		4096: "CUT: beyond the runner's limit of 4096 bytes",
	} {
		var out bytes.Buffer
		r := match.Report{Stages: []match.Found{{Stage: "step_script", State: match.Cut, Bytes: 40, Good: 12}}, Limit: limit}
		if err := showMatch(&out, r, nil); err != nil || !strings.Contains(out.String(), want) || limit == 0 && strings.Contains(out.String(), "limit") {
			t.Errorf("%d: %v\n%s", limit, err, &out)
		}
	}
}
