package main

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// made is the prefix of all that a docker executor and the driver of
// execdriver.sh name: the beginning of their runner's token is in it, so that
// no other runner's things are taken.
func made(token string) string { return "runner-" + short(token) + "-" }

// kinds are the docker client's words to list and remove one kind of things,
// in the order in which they let go of each other.
var kinds = []struct{ list, remove []string }{
	{[]string{"ps", "--all", "--format", "{{.Names}}"}, []string{"rm", "--force", "--volumes"}},
	{[]string{"network", "ls", "--format", "{{.Name}}"}, []string{"network", "rm"}},
	{[]string{"volume", "ls", "--format", "{{.Name}}"}, []string{"volume", "rm"}},
}

// sweep removes what these leave by design (their cache volumes), or because
// they were stopped.
func sweep(token string) error {
	ctx := context.Background() // whatever ended the bench
	var failed []error
	for _, kind := range kinds {
		out, err := output(ctx, "docker", kind.list...)
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		for _, name := range strings.Fields(out) {
			if !strings.HasPrefix(name, made(token)) {
				continue
			}
			if _, err := output(ctx, "docker", append(slices.Clone(kind.remove), name)...); err != nil {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}
