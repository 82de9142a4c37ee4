package main

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// kinds are the docker client's words to list and remove one kind of things,
// in the order in which they let go of each other.
var kinds = []struct{ list, remove []string }{
	{[]string{"ps", "--all", "--format", "{{.Names}}"}, []string{"rm", "--force", "--volumes"}},
	{[]string{"network", "ls", "--format", "{{.Name}}"}, []string{"network", "rm"}},
	{[]string{"volume", "ls", "--format", "{{.Name}}"}, []string{"volume", "rm"}},
}

// sweep removes what the docker executor and the driver of execdriver.sh leave
// by design (their cache volumes), or because they were stopped. Only what
// names the runner is theirs, in a label or at the beginning of its name.
func sweep(runner string) error {
	ctx := context.Background() // whatever ended the bench
	var failed []error
	for _, kind := range kinds {
		all, err := output(ctx, "docker", kind.list...)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		labelled, err := output(ctx, "docker", append(slices.Clone(kind.list), "--filter", runnerLabel+runner)...)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		found := strings.Fields(labelled)
		for _, name := range strings.Fields(all) {
			if strings.HasPrefix(name, "runner-"+strings.ToLower(runner)+"-") && !slices.Contains(found, name) {
				found = append(found, name)
			}
		}
		if len(found) > 0 {
			_, err = output(ctx, "docker", slices.Concat(kind.remove, found)...)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// runnerLabel has the short token of the runner (labels.go of the docker
// executor).
const runnerLabel = "label=com.gitlab.gitlab-runner.runner.id="
