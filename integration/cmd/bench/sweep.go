package main

import (
	"context"
	"errors"
	"slices"
	"strings"
)

// made is the prefix of all that a docker executor names: the beginning of its
// runner's token is in it, so that no other runner's things are taken.
func made(token string) string {
	short := strings.TrimPrefix(token, "glrt-")
	return "runner-" + strings.ToLower(short[:min(len(short), 9)]) + "-"
}

// kinds are the docker client's words to list and remove one kind of things,
// in the order in which they let go of each other.
var kinds = []struct{ list, remove []string }{
	{[]string{"ps", "--all", "--format", "{{.Names}}"}, []string{"rm", "--force", "--volumes"}},
	{[]string{"network", "ls", "--format", "{{.Name}}"}, []string{"network", "rm"}},
	{[]string{"volume", "ls", "--format", "{{.Name}}"}, []string{"volume", "rm"}},
}

// sweep removes what the docker executor leaves by design (its cache volumes),
// or because it was stopped.
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
