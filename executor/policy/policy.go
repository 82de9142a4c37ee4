// Package policy decides what a job may have: facts in, decisions out, each
// with the rule that made it and a reason that a developer can act on.
//
// What it promises: whatever is wrong with a rule (a misspelt fact, a glob
// that is none, a secret that is not there) is an error of Compile, never of
// a job. A secret that no rule grants is denied. A fact that is not known
// never helps a job: a rule that needs it does not grant. Compiling and
// deciding are bounded, whatever the rules and the facts are.
//
// Conditions are written in CEL (https://github.com/google/cel-spec), without
// its macros, with cel-go's strings extension, and glob(text, pattern).
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"cleanroom/config"
	"cleanroom/executor/policy/verdict"
)

// ErrPolicy is a policy that cannot be used. Every error is one line that
// names the rule and what to change.
var ErrPolicy = errors.New("bad policy")

// Policy is compiled rules; it is safe for use by several goroutines.
type Policy struct {
	rules   []rule
	version string
}

// FromConfig compiles the policy of a configuration.
func FromConfig(c config.Config) (*Policy, error) {
	var profiles, secrets []string
	for _, p := range c.Identity.Profiles {
		profiles = append(profiles, p.Name)
	}
	for _, s := range c.Secrets {
		secrets = append(secrets, s.Name)
	}
	return Compile(c.Policy, profiles, secrets)
}

// Compile reads the rules (those of p.File, if there is one), and checks them
// against the facts there may be, the names of identity profiles and those of
// secrets. Errors wrap ErrPolicy.
func Compile(p config.Policy, identityProfiles, secretNames []string) (*Policy, error) {
	compiled, err := compileAll(p, known{profiles: identityProfiles, secrets: secretNames})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return compiled, nil
}

func compileAll(p config.Policy, k known) (*Policy, error) {
	rules := p.Rules
	if p.File != "" {
		if len(rules) > 0 {
			return nil, fmt.Errorf("policy.file is %s and there are rules in the configuration, too: keep one of both", p.File)
		}
		var err error
		if rules, err = readFile(p.File); err != nil {
			return nil, err
		}
	}
	if len(rules) > maxRules {
		return nil, fmt.Errorf("%d rules, at most %d are possible", len(rules), maxRules)
	}
	compiled := &Policy{}
	names := map[string]bool{}
	for i, source := range rules {
		if !ruleNameRE().MatchString(source.Name) {
			return nil, fmt.Errorf("rule %d: its name is %s and must be 1 to 100 letters, digits and _ . -", i+1, shortQuote(source.Name))
		}
		r, err := compileRule(source, k)
		switch {
		case err != nil:
			return nil, fmt.Errorf("rule %s: %w", source.Name, err)
		case names[source.Name]:
			return nil, fmt.Errorf("rule %s: there are two of this name, rename one", source.Name)
		}
		names[source.Name] = true
		compiled.rules = append(compiled.rules, r)
	}
	var err error
	compiled.version, err = versionOf(compiled.rules)
	return compiled, err
}

// Version names the rules: hex SHA-256 over their canonical form, so that it
// changes with a rule, or the order of rules, but not with a comment, with
// space in a condition, or with the place where the rules stand.
func (p *Policy) Version() string { return p.version }

// Rules are the rules in order, conditions in their canonical form.
func (p *Policy) Rules() []config.Rule {
	list := make([]config.Rule, 0, len(p.rules))
	for _, r := range p.rules {
		list = append(list, r.source)
	}
	return list
}

// versionOf hashes a line that names the form, then each rule as one line of
// JSON. Keys are in the order below and an empty list is [].
func versionOf(rules []rule) (string, error) {
	h := sha256.New()
	h.Write([]byte(verdict.Form))
	enc := json.NewEncoder(h)
	for _, r := range rules {
		s := r.source
		err := enc.Encode(struct {
			Name, When, Hint                                      string
			Secrets, Images, Services, Profiles, Stages, Identity []string
			Warn, Caches                                          []string `json:",omitempty"` // they came later: rules without keep their version
		}{
			s.Name, s.When, s.Hint,
			filled(s.Secrets), filled(s.Images), filled(s.Services), filled(s.Profiles), filled(s.Stages), filled(s.Identity), s.Warn, s.Caches,
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// filled is never nil: a list that is left out and an empty one are the same.
func filled(list []string) []string { return append([]string{}, list...) }
