package policy

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/identity"
)

var (
	secretNames = []string{"SHOP_DB", "SHOP_KEY", "deploy/token"}
	profiles    = []string{"production", "staging"}
)

// grants is a rule that grants one secret on a condition.
func grants(when string) config.Rule {
	return config.Rule{Name: "r", When: when, Secrets: []string{"SHOP_DB"}}
}

func compile(t testing.TB, rules ...config.Rule) *Policy {
	t.Helper()
	p, err := Compile(config.Policy{Rules: rules}, profiles, secretNames)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A condition that could not mean what its writer meant is refused with the
// place and, where one is near, the right name.
func TestTypos(t *testing.T) {
	for when, want := range map[string]string{
		``:                                   `it is empty; to grant to every job, write when = "true"`,
		" \n":                                `it is empty; to grant to every job, write when = "true"`,
		"ref == \"\xd7\"":                    `it holds bytes that are no text`,
		"ref == \"\x1b\"":                    `it holds bytes that are no text`,
		`reff == "main"`:                     `column 1: unknown name "reff"; did you mean ref?`,
		`ref_protected && projectpath == ""`: `column 18: unknown name "projectpath"; did you mean project_path?`,
		"ref == \"a\" &&\n  rf == \"b\"":     `line 2, column 3: unknown name "rf"; did you mean ref?`,
		`git.ref == "x"`:                     `column 1: unknown name "git"; the facts are deployment_tier, `,
		`ref.startWith("x")`:                 `column 14: unknown name "startWith"; did you mean startsWith?`,
		`Glob(ref, "x")`:                     `column 5: unknown name "Glob"; did you mean glob?`,
		`ref = "main"`:                       `column 5: syntax error: to compare, write ==`,
		`ref == "a" &&`:                      `column 14: syntax error: it ends too early`,
		`"open`:                              `column 1: syntax error: `,
		`ref`:                                `it is a string and must be true or false: compare it, as in ref == "main"`,
		`project_id`:                         `it is a int and must be true or false`,
		`dyn(ref_protected)`:                 `it is a dyn and must be true or false`,
		`ref == 1`:                           `column 5: == does not go with (string, int)`,
		`project_id == 1.0`:                  `column 12: == does not go with (int, double)`,
		`!ref`:                               `column 1: ! does not go with (string)`,
		`ref_protected == "true"`:            `column 15: == does not go with (bool, string)`,
		`ref[0] == "x"`:                      `column 4: [] does not go with (string, int)`,
		`ref_protected && 1`:                 `column 18: expected type 'bool' but found 'int'`,
		`ref in ["a", 1]`:                    `column 14: expected type 'string' but found 'int'`,
		`["a"].exists(x, x == ref)`:          `column 13: exists() and CEL's other macros are not available`,
		`has(ref.x)`:                         `column 4: has() and CEL's other macros are not available`,
		`ref.matches("(")`:                   `column 13: the pattern is no regular expression of RE2, or too large a one`,
		`ref.matches("(a{100}){10}")`:        `column 13: regex program size 1022 exceeds limit of 1000`,
		`ref.matches(job_name)`:              `column 12: the pattern of matches must be a text in quotes`,
		`matches(ref, job_name + "x")`:       `column 8: the pattern of matches must be a text in quotes`,
		`glob(ref, job_name)`:                `column 5: the pattern of glob must be a text in quotes`,
		`glob(ref, "{")`:                     `column 5: "{" is no glob: close its brackets and braces, or escape them with \`,
		`glob(ref)`:                          `glob does not go with (string)`,
		strings.Repeat("(", 60) + "true" + strings.Repeat(")", 60): `recursion`,
		"ref == " + strings.Repeat("x", 5000):                      `size`,
	} {
		_, err := Compile(config.Policy{Rules: []config.Rule{grants(when)}}, profiles, secretNames)
		if !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "bad policy: rule r: when: ") {
			t.Errorf("%s: %v; want %q", when, err, want)
		} else if strings.ContainsAny(err.Error(), "\r\n") || len(err.Error()) > 600 {
			t.Errorf("%s: not one line of decent length: %q", when, err)
		}
	}
}

func TestBadRules(t *testing.T) {
	for want, change := range map[string]func(*config.Rule){
		`rule 1: its name is "" and must be`:                             func(r *config.Rule) { r.Name = "" },
		`rule 1: its name is "a b" and must be`:                          func(r *config.Rule) { r.Name = "a b" },
		`rule 1: its name is "a\n" and must be`:                          func(r *config.Rule) { r.Name = "a\n" },
		`rule r: it grants nothing: list secrets`:                        func(r *config.Rule) { r.Secrets = nil },
		`rule r: it has stages but no secrets`:                           func(r *config.Rule) { r.Secrets, r.Images, r.Stages = nil, []string{"x"}, []string{"step_*"} },
		`rule r: secrets: an empty glob`:                                 func(r *config.Rule) { r.Secrets = []string{""} },
		`rule r: images: "a{b" is no glob`:                               func(r *config.Rule) { r.Images = []string{"a{b"} },
		`rule r: services: "a[" is no glob`:                              func(r *config.Rule) { r.Services = []string{"a["} },
		`rule r: stages: "cleanup_file_variables" is no stage`:           func(r *config.Rule) { r.Stages = []string{"cleanup_file_variables"} },
		`rule r: stages: "step_{" is no glob`:                            func(r *config.Rule) { r.Stages = []string{"step_{"} },
		`rule r: secrets: no secret "SHOP_BD" is configured; did you me`: func(r *config.Rule) { r.Secrets = []string{"SHOP_BD"} },
		`rule r: secrets: no secret "OTHER_THING" is configured`:         func(r *config.Rule) { r.Secrets = []string{"OTHER_THING"} },
		`no identity profile "prodction" is configured; did you mean production?`: func(r *config.Rule) {
			r.Identity = []string{"staging", "prodction"}
		},
		`rule r: profiles: "soft" is none of compatible, hardened, strict`: func(r *config.Rule) { r.Profiles = []string{"soft"} },
		`rule r: hint: it must be one line`:                                func(r *config.Rule) { r.Hint = "a\nb" },
		`rule r: hint: 501 bytes`:                                          func(r *config.Rule) { r.Hint = strings.Repeat("x", 501) },
		`rule r: images: 1001 entries`:                                     func(r *config.Rule) { r.Images = make([]string, 1001) },
	} {
		r := grants("true")
		change(&r)
		_, err := Compile(config.Policy{Rules: []config.Rule{r}}, profiles, secretNames)
		if !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
	if _, err := Compile(config.Policy{Rules: []config.Rule{grants("true"), grants("true")}}, nil, secretNames); err == nil || !strings.Contains(err.Error(), "rule r: there are two of this name") {
		t.Error(err)
	}
	if _, err := Compile(config.Policy{Rules: make([]config.Rule, maxRules+1)}, nil, nil); err == nil || !strings.Contains(err.Error(), "1001 rules") {
		t.Error(err)
	}
	r := grants("true")
	r.Secrets, r.Profiles, r.Identity = []string{"SHOP_*", "deploy/token", "later-{a,b}"}, []string{"compatible"}, []string{"production"}
	compile(t, r)
}

// The version is part of every job's record: it must not change by itself,
// not even with a new version of the CEL library.
func TestVersion(t *testing.T) {
	first := config.Rule{Name: "a", When: `ref_protected&&ref=="main" // why`, Secrets: []string{"SHOP_DB", "SHOP_KEY"}, Hint: "ask"}
	second := config.Rule{Name: "b", When: `glob(project_path, "shop/**") || !(user_id in [1,2])`, Images: []string{"x"}}
	const want = "37caa8cd3c74964e1772f5ed2cb5a3874ed2a9eaa02338c31045b5a1825c8c78"
	base := compile(t, first, second)
	if base.Version() != want {
		t.Errorf("version %s, want %s", base.Version(), want)
	}
	if got := compile(t).Version(); got != "23a83337af42b272efc07c66969c5cb57c5cfb2dea2a75bf25fb65d49b211d03" {
		t.Errorf("version of no rules: %s", got)
	}
	spaced := first
	spaced.When, spaced.Images = "ref_protected &&\n\t(ref == 'main')", []string{}
	if compile(t, spaced, second).Version() != want {
		t.Error("space, quotes and comments change the version")
	}
	changed := map[string]bool{want: true}
	for name, change := range map[string]func(*config.Rule){
		"name": func(r *config.Rule) { r.Name = "c" }, "when": func(r *config.Rule) { r.When = "ref_protected" },
		"hint": func(r *config.Rule) { r.Hint = "beg" }, "secrets": func(r *config.Rule) { r.Secrets = r.Secrets[:1] },
		"images": func(r *config.Rule) { r.Images = []string{"y"} }, "services": func(r *config.Rule) { r.Services = []string{"y"} },
		"profiles": func(r *config.Rule) { r.Profiles = []string{"hardened"} }, "stages": func(r *config.Rule) { r.Stages = []string{"script"} },
		"identity": func(r *config.Rule) { r.Identity = []string{"staging"} }, "warn": func(r *config.Rule) { r.Warn = []string{"y"} },
		"caches": func(r *config.Rule) { r.Caches = []string{"y"} },
	} {
		r := first
		change(&r)
		if v := compile(t, r, second).Version(); changed[v] {
			t.Errorf("a change of %s does not show in the version", name)
		} else {
			changed[v] = true
		}
	}
	if changed[compile(t, second, first).Version()] {
		t.Error("the order does not show in the version")
	}
	if n := reflect.TypeFor[config.Rule]().NumField(); n != len(ruleKeys) {
		t.Errorf("config.Rule has %d fields: versionOf and ruleKeys know %d", n, len(ruleKeys))
	}
}

func TestRules(t *testing.T) {
	p := compile(t, grants(`ref=="main"`))
	if got := p.Rules(); len(got) != 1 || got[0].When != `ref == "main"` || got[0].Name != "r" {
		t.Errorf("%+v", got)
	}
	c := config.Config{Policy: config.Policy{Rules: []config.Rule{{Name: "x", When: "true", Secrets: []string{"A"}, Identity: []string{"P"}}}}}
	if _, err := FromConfig(c); err == nil {
		t.Error("a secret that is not there passes")
	}
	c.Secrets, c.Identity.Profiles = []config.Secret{{Name: "A"}}, []config.TokenProfile{{Name: "P"}}
	if _, err := FromConfig(c); err != nil {
		t.Error(err)
	}
}

var twenty = func() []config.Rule {
	var rules []config.Rule
	for i := range 20 {
		rules = append(rules, config.Rule{
			Name: fmt.Sprint("rule-", i), Secrets: []string{"SHOP_*"}, Images: []string{"registry.example.com/shop/**"},
			When: fmt.Sprintf(`project_path == "shop/app-%d" && ref_protected && environment in ["production", "staging"] && ref.matches("^v[0-9]+$")`, i),
		})
	}
	return rules
}()

func BenchmarkCompile20(b *testing.B) {
	for b.Loop() {
		compile(b, twenty...)
	}
}

func BenchmarkDecide20(b *testing.B) {
	p := compile(b, twenty...)
	facts := identity.Facts{"project_path": {Value: "shop/app-19", Source: "s"}, "ref_protected": {Value: true, Source: "s"},
		"environment": {Value: "production", Source: "s"}, "ref": {Value: "v1", Source: "s"}}
	for b.Loop() {
		if !p.Decide(Secret, "SHOP_DB", facts).Allowed {
			b.Fatal("denied")
		}
	}
}
