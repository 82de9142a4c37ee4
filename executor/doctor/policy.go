package doctor

import (
	"cleanroom/config"
	"cleanroom/executor/policy"
)

// rules compiles the policy, as each job does: one that does not compile
// refuses them all.
func rules(cfg config.Config) Check {
	const name = "policy"
	p, err := policy.FromConfig(cfg)
	if err != nil {
		return fail(name, "mend the rule; `cleanroom policy check` looks again", "%v", err)
	}
	n := len(p.Rules())
	if n == 0 && len(cfg.Secrets) > 0 {
		return warn(name, "write a [[policy.rule]] for each secret", "no rules: all %d secrets are denied to every job", len(cfg.Secrets))
	}
	return ok(name, "rules: %d, version %.12s", n, p.Version())
}
