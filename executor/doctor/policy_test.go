package doctor

import (
	"testing"

	"cleanroom/config"
)

func TestPolicy(t *testing.T) {
	var cfg config.Config
	is(t, rules(cfg), OK, "rules: 0, version ")
	cfg.Secrets = []config.Secret{{Name: "A"}}
	is(t, rules(cfg), Warn, "no rules: all 1 secrets are denied")
	cfg.Policy.Rules = []config.Rule{{Name: "a", When: `ref == "main"`, Secrets: []string{"A"}}}
	is(t, rules(cfg), OK, "rules: 1, version ")
	cfg.Policy.Rules[0].When = `reff == "main"`
	is(t, rules(cfg), Fail, `rule a: when: column 1: unknown name "reff"; did you mean ref? -> mend the rule`)
	cfg.Policy = config.Policy{File: t.TempDir()}
	is(t, rules(cfg), Fail, "is no plain file -> mend the rule")
}
