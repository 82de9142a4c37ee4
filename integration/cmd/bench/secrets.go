package main

import (
	"context"
	"fmt"
	"strings"

	"cleanroom/integration/gitlab"
)

// secretCount is how many secrets a job of that lane gets, as variables of
// random values in the host's own store.
const secretCount = 20

func secretNames() []string {
	names := make([]string, secretCount)
	for i := range names {
		names[i] = fmt.Sprintf("BENCH_SECRET_%02d", i+1)
	}
	return names
}

func secretsConfig() string {
	var b strings.Builder
	fmt.Fprint(&b, "[[provider]]\nname = \"store\"\nkind = \"store\"\n")
	var quoted []string
	for _, name := range secretNames() {
		fmt.Fprintf(&b, "[[secret]]\nname = %q\nprovider = \"store\"\n", name)
		quoted = append(quoted, fmt.Sprintf("%q", name))
	}
	fmt.Fprintf(&b, "[[policy.rule]]\nname = \"bench\"\nwhen = \"true\"\nsecrets = [%s]\n", strings.Join(quoted, ", "))
	return b.String()
}

func (l *lane) setSecrets(ctx context.Context) error {
	for _, name := range secretNames() {
		if err := l.cleanroom(ctx, "secret", "set", name, "--generator", "random"); err != nil {
			return err
		}
	}
	return nil
}

func askForSecrets() gitlab.Variable {
	return gitlab.Variable{Key: "CLEANROOM_SECRETS", Value: strings.Join(secretNames(), ", "), Public: true}
}
