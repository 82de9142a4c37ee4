package ciyaml

import (
	"fmt"
	"regexp"
	"strings"

	"cleanroom/integration/gitlab/job"
)

// rules applies the first rule that matches; without a match the job is not in the pipeline.
func (f *file) rules(p *job.Planned, v any) error {
	list, ok := v.([]any)
	if !ok {
		return fmt.Errorf("must be a list")
	}
	keys := []string{"if", "when", "allow_failure", "variables"}
	lookup := map[string]string{}
	for _, yamlVar := range p.Spec.Variables {
		lookup[yamlVar.Key] = yamlVar.Value
	}
	for k, val := range f.ctx.Variables {
		lookup[k] = val
	}
	for i, e := range list {
		rule, ok := e.(mapping)
		if !ok {
			return fmt.Errorf("rule %d must be a mapping", i+1)
		}
		if err := known(rule, keys); err != nil {
			return fmt.Errorf("rule %d: %w", i+1, err)
		}
		if cond, has := rule["if"]; has {
			match, err := eval(text(cond), lookup)
			if err != nil {
				return fmt.Errorf("rule %d: if: %w", i+1, err)
			}
			if !match {
				continue
			}
		}
		if when := text(rule["when"]); when != "" {
			p.When = when
		}
		if a, has := rule["allow_failure"]; has {
			var err error
			if p.Spec.AllowFailure, err = allowFailure(a); err != nil {
				return fmt.Errorf("rule %d: allow_failure: %w", i+1, err)
			}
		}
		own, err := variables(rule["variables"])
		p.Spec.Variables = overlay(p.Spec.Variables, own)
		return err
	}
	p.When = "never"
	return nil
}

var comparison = regexp.MustCompile(`^\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?\s*(?:(==|!=|=~|!~)\s*(.+))?$`)

// eval answers an `if:` of comparisons joined by && and ||; && binds closer. Parentheses are refused.
func eval(expr string, vars map[string]string) (bool, error) {
	for either := range strings.SplitSeq(expr, "||") {
		all := true
		for both := range strings.SplitSeq(either, "&&") {
			ok, err := compare(strings.TrimSpace(both), vars)
			if err != nil {
				return false, err
			}
			all = all && ok
		}
		if all {
			return true, nil
		}
	}
	return false, nil
}

func compare(expr string, vars map[string]string) (bool, error) {
	m := comparison.FindStringSubmatch(expr)
	if m == nil {
		return false, fmt.Errorf("%q is not understood: write $NAME, or $NAME ==, !=, =~ or !~ and a value", expr)
	}
	have, defined := vars[m[1]]
	op, want := m[2], strings.TrimSpace(m[3])
	switch op {
	case "":
		return have != "", nil
	case "=~", "!~":
		if len(want) < 2 || want[0] != '/' || want[len(want)-1] != '/' {
			return false, fmt.Errorf("%q: a pattern stands between slashes", want)
		}
		re, err := regexp.Compile(want[1 : len(want)-1])
		if err != nil {
			return false, err
		}
		return re.MatchString(have) == (op == "=~"), nil
	}
	equal := false
	switch {
	case want == "null":
		equal = !defined
	case len(want) > 1 && (want[0] == '"' || want[0] == '\'') && want[len(want)-1] == want[0]:
		equal = defined && have == want[1:len(want)-1]
	default:
		other := comparison.FindStringSubmatch(want)
		if other == nil || other[2] != "" {
			return false, fmt.Errorf("%q: compare with a quoted text, a variable or null", want)
		}
		equal = have == vars[other[1]]
	}
	return equal == (op == "=="), nil
}
