package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/record"
)

// What the log knows to have been signed is missed. (What is there, and holds
// or does not, is in the integration tests.)
func TestMissingEnvelopes(t *testing.T) {
	const room = "cr-a-4711-00"
	of := func(age time.Duration, signed ...record.Provenance) []kept {
		return []kept{{7, nil, &record.Record{Kind: record.OfJob, At: time.Now().Add(-age), Job: &record.Job{Room: room, Job: 4711, Provenance: signed}}}}
	}
	one := record.Provenance{Stage: "upload_artifacts_on_success", SHA256: strings.Repeat("9b", 32)}
	dir := t.TempDir()
	for name, c := range map[string]struct {
		all  []kept
		want error
		says string
	}{
		"removed":       {of(time.Hour, one), errMissing, "record 7 has its SHA-256, " + one.SHA256 + ": somebody removed it"},
		"long ago":      {of(100*24*time.Hour, one), errMissing, "longer ago than 90 days"},
		"stored none":   {of(time.Hour), errNoProvenance, "stored no files"},
		"has no record": {nil, errNoProvenance, "stored no files"},
	} {
		if lines, err := envelopes(dir, "4711", nil, c.all); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || len(lines) > 0 {
			t.Errorf("%s: %v, %q", name, err, lines)
		}
	}
	if err := provenance.Keep(dir, room, []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	if lines, err := envelopes(dir, room, nil, of(time.Hour, one)); !errors.Is(err, errMissing) || len(lines) > 0 {
		t.Errorf("another in its place: %v, %q", err, lines)
	}
}
