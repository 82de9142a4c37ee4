package main

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// Of several runners on one engine, one's things go and the others' stay.
func TestSweep(t *testing.T) {
	docker := func(args ...string) string {
		t.Helper()
		out, err := output(context.Background(), "docker", args...)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(out)
	}
	label := strings.TrimPrefix(runnerLabel, "label=")
	mine := []string{
		docker("volume", "create", "--label", label+"SweepTest"),
		docker("volume", "create", "runner-sweeptest-exec-cache"),
		docker("volume", "create", "--label", label+"SweepTest", "runner-sweeptest-both"),
	}
	others := []string{docker("volume", "create", "--label", label+"SweepTest2"), docker("volume", "create", "runner-sweeptest2-cache")}
	t.Cleanup(func() { docker(append([]string{"volume", "rm"}, others...)...) })
	if err := sweep("SweepTest"); err != nil {
		t.Error(err)
	}
	left := strings.Fields(docker("volume", "ls", "--quiet"))
	for _, v := range mine {
		if slices.Contains(left, v) {
			t.Errorf("volume %s is left", v)
		}
	}
	for _, v := range others {
		if !slices.Contains(left, v) {
			t.Errorf("volume %s of another runner is gone", v)
		}
	}
}
