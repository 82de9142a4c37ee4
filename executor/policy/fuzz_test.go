package policy

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"cleanroom/config"
	"cleanroom/executor/identity"
)

// No text makes compiling or deciding panic, hang, or say more than a line;
// the canonical form is one; and what the conjuncts say one by one is what
// CEL says of the whole.
func FuzzWhen(f *testing.F) {
	f.Add(`ref_protected && ref == "main"`, "main", true, true)
	f.Add(`ref == "a" || !ref_protected && glob(ref, "{a,b}/**") // why`, "b/c", false, true)
	f.Add(`ref.matches("^v[0-9]+$") && (sha == "" || ref.split("/")[1] in ["x"])`, "v1/x", true, false)
	f.Add("'\\n' + \"\\u2028\" == ref ? true : [1, 2].size() == 2 && dyn(ref) == 'x'", "\n", false, false)
	f.Fuzz(func(t *testing.T, when, ref string, protected, known bool) {
		p, err := Compile(config.Policy{Rules: []config.Rule{grants(when)}}, nil, secretNames)
		if err != nil {
			if !errors.Is(err, ErrPolicy) || strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 2000 || !utf8.ValidString(err.Error()) {
				t.Fatalf("%q", err)
			}
			return
		}
		canonical := p.Rules()[0].When
		again, err := Compile(config.Policy{Rules: []config.Rule{grants(canonical)}}, nil, secretNames)
		if err != nil {
			if strings.Contains(err.Error(), "expression code point size") || strings.Contains(err.Error(), "recursion") {
				return // a little longer than what was written
			}
			t.Fatalf("%q, of %q: %v", canonical, when, err)
		}
		if again.Rules()[0].When != canonical || again.Version() != p.Version() {
			t.Fatalf("%q becomes %q", canonical, again.Rules()[0].When)
		}
		facts := identity.Facts{"ref_protected": {Value: protected, Source: "s"}}
		if known {
			facts["ref"] = identity.Fact{Value: ref, Source: "s"}
		}
		d := p.Decide(Secret, "SHOP_DB", facts)
		if d.Reason == "" || strings.ContainsAny(d.Reason, "\r\n") || len(d.Reason) > 50_000 {
			t.Fatalf("%+v", d)
		}
		if whole, ok := evalWhole(t, when, facts); ok && whole != d.Allowed {
			t.Fatalf("CEL says %v, the conjuncts %+v", whole, d)
		}
	})
}

// evalWhole is CEL's own answer; not ok when it ran out of its cost.
func evalWhole(t *testing.T, when string, facts identity.Facts) (granted, ok bool) {
	env, err := environment()
	if err != nil {
		t.Fatal(err)
	}
	ast, issues := env.Compile(when)
	if issues.Err() != nil {
		t.Fatal(issues.Err())
	}
	program, err := env.Program(ast, cel.EvalOptions(cel.OptPartialEval), cel.CostLimit(maxCost))
	if err != nil {
		t.Fatal(err)
	}
	known, err := activation(facts)
	if err != nil {
		t.Fatal(err)
	}
	value, _, err := program.Eval(known)
	if err != nil && strings.Contains(err.Error(), "cost limit") {
		return false, false
	}
	return err == nil && value == types.True, true
}

// No file makes reading rules panic; what is wrong is said in a line.
func FuzzFile(f *testing.F) {
	f.Add([]byte(goodFile))
	f.Add([]byte("[[rule]]\nname = 'a'\nwehn = 'true'\n"))
	f.Add([]byte("rule = [{name = 'a', when = '''\ntrue'''}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, err := parseRules(text)
		if err != nil && (strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 1000 || rules != nil) {
			t.Fatalf("%q, %v", err, rules)
		}
	})
}
