package policy

import (
	"slices"
	"strings"
	"testing"

	"cleanroom/config"
	"cleanroom/config/glob"
	"cleanroom/executor/identity"
)

func fromResponse(key string) string { return "job response (" + key + ")" }

// response are the facts that a job response of a new server gives.
func response() identity.Facts {
	return identity.Facts{
		"project_path":  {Value: "shop/api", Source: fromResponse("job_info.project_full_path")},
		"project_id":    {Value: int64(12), Source: fromResponse("job_info.project_id")},
		"ref":           {Value: "spring", Source: fromResponse("git_info.ref")},
		"ref_protected": {Value: false, Source: fromResponse("git_info.protected")},
		"job_name":      {Value: "dig", Source: fromResponse("job_info.name")},
	}
}

const askToken = ", which this job's response does not tell: give the job an ID token (id_tokens:) that this runner accepts"

// One rule, one condition: what is decided and what is said.
func TestConditions(t *testing.T) {
	for _, test := range []struct{ when, reason string }{
		{`true`, "granted by rule r"},
		{`false`, `rule r: false is false`},
		{`ref_protected`, `rule r: ref_protected is false (job response (git_info.protected))`},
		{`!ref_protected`, "granted by rule r"},
		{`project_path == "shop/api"`, "granted by rule r"},
		{`project_id == 12 && job_name == "dig"`, "granted by rule r"},
		{`!(project_id == 12)`, `rule r: !(project_id == 12) is false: project_id is 12 (job response (job_info.project_id))`},
		{`ref == "main"`, `rule r: ref == "main" is false: ref is "spring" (job response (git_info.ref))`},
		{`ref == "main" && ref_protected && project_id == 12`,
			`rule r: ref == "main" is false: ref is "spring" (job response (git_info.ref)) and ref_protected is false (job response (git_info.protected))`},
		{`ref == "main" || ref == job_name`,
			`rule r: ref == "main" || ref == job_name is false: ref is "spring" (job response (git_info.ref)), job_name is "dig" (job response (job_info.name))`},
		// What is not known decides nothing, unless it cannot matter.
		{`environment == "production"`, "rule r needs the fact environment" + askToken},
		{`!(environment == "production")`, "rule r needs the fact environment" + askToken},
		{`environment != "production"`, "rule r needs the fact environment" + askToken},
		{`environment == "" || sha == "" || user_id == 1`, "rule r needs the facts environment, sha and user_id" + askToken},
		{`environment == "production" || ref == "spring"`, "granted by rule r"},
		{`ref == "spring" || environment == "production"`, "granted by rule r"},
		{`environment == "production" && ref == "main"`, `rule r: ref == "main" is false: ref is "spring" (job response (git_info.ref))`},
		{`environment_protected ? true : true`, "rule r needs the fact environment_protected" + askToken},
		{`glob(sha, "*") || glob(ref, "spr*")`, "granted by rule r"},
		{`(ref == "main" || environment == "x") && project_id == 12`, "rule r needs the fact environment" + askToken},
		// The strings extension and globs.
		{`ref.startsWith("spr") && ref.matches("^s.*g$") && "api" in project_path.split("/")`, "granted by rule r"},
		{`glob(project_path, "shop/*") && glob(ref, "{main,spring}")`, "granted by rule r"},
		{`glob(project_path, "*")`, `rule r: glob(project_path, "*") is false: project_path is "shop/api" (job response (job_info.project_full_path))`},
		// What fails grants nothing.
		{`ref.split("/")[3] == "x"`, `rule r: ref.split("/")[3] == "x" fails: index out of bounds: 3; ask the runner's admin to mend it`},
		{`ref.split("/")[3] == "x" || true`, "granted by rule r"},
		{`ref.split("/")[3] == "x" && environment == ""`, "rule r needs the fact environment" + askToken},
		{`dyn(ref) && true`, `rule r: dyn(ref) fails`},
		{`glob(dyn(project_id), "*")`, `rule r: glob(dyn(project_id), "*") fails`},
	} {
		d := compile(t, grants(test.when)).Decide(Secret, "SHOP_DB", response())
		granted := strings.HasPrefix(test.reason, "granted")
		if d.Allowed != granted || (d.Rule == "r") != granted || !strings.HasPrefix(d.Reason, test.reason) ||
			len(d.Reason) > len(test.reason) && !strings.HasSuffix(test.reason, "fails") {
			t.Errorf("%s: %+v; want %s", test.when, d, test.reason)
		}
	}
}

func TestRulesInOrder(t *testing.T) {
	production := config.Rule{
		Name: "shop-production", When: `project_path == "shop/api" && ref_protected`, Hint: "run it on a protected branch",
		Secrets: []string{"SHOP_*"}, Stages: []string{"step_script"}, Identity: []string{"production"},
	}
	review := config.Rule{Name: "shop-review", When: `project_path == "shop/api" && ref.startsWith("review/")`, Secrets: []string{"SHOP_KEY"}}
	other := config.Rule{Name: "other", When: `project_path == "other" && ref == "x"`, Secrets: []string{"SHOP_*"}}
	p := compile(t, other, production, review)
	facts := response()

	d := p.Decide(Secret, "SHOP_KEY", facts)
	if want := `rule shop-production: ref_protected is false (job response (git_info.protected)) -> run it on a protected branch; ` +
		`rule shop-review: ref.startsWith("review/") is false: ref is "spring" (job response (git_info.ref)); ` +
		`rule other: project_path == "other" is false: project_path is "shop/api" (job response (job_info.project_full_path)) ` +
		`and ref == "x" is false: ref is "spring" (job response (git_info.ref))`; d.Allowed || d.Reason != want {
		t.Errorf("%+v\nwant %s", d, want)
	}
	facts["ref"] = identity.Fact{Value: "review/7", Source: "s"}
	if d := p.Decide(Secret, "SHOP_KEY", facts); !d.Allowed || d.Rule != "shop-review" || d.Stages != nil || d.Identity != nil {
		t.Errorf("%+v", d)
	}
	facts["ref_protected"] = identity.Fact{Value: true, Source: "s"}
	d = p.Decide(Secret, "SHOP_KEY", facts)
	if d.Rule != "shop-production" || !slices.Equal(d.Stages, production.Stages) || !slices.Equal(d.Identity, production.Identity) {
		t.Errorf("%+v", d)
	}
	d.Stages[0] = "changed"
	if p.Decide(Secret, "SHOP_KEY", facts).Stages[0] != "step_script" {
		t.Error("a decision reaches into the policy")
	}
	if d := p.Decide(Secret, "deploy/token", facts); d.Allowed || d.Reason != `no rule grants secret "deploy/token" to any job; ask the runner's admin` {
		t.Errorf("%+v", d)
	}
	if d := p.Decide(Kind("host"), "x", facts); d.Allowed {
		t.Errorf("%+v", d)
	}

	var many []config.Rule
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		many = append(many, config.Rule{Name: name, When: `ref == "` + name + `"`, Secrets: []string{"SHOP_DB"}})
	}
	if d := compile(t, many...).Decide(Secret, "SHOP_DB", facts); !strings.HasSuffix(d.Reason, `; 2 more that list it do not grant it either`) || strings.Contains(d.Reason, "rule d") {
		t.Errorf("%+v", d)
	}
}

// Images and services are free until a rule lists some; secrets and profiles
// never are.
func TestDefaults(t *testing.T) {
	facts := response()
	none := compile(t)
	for kind, want := range map[Kind]bool{Secret: false, Profile: false, Image: true, Service: true} {
		if d := none.Decide(kind, "x", facts); d.Allowed != want || d.Rule != "" || d.Reason == "" {
			t.Errorf("%s: %+v", kind, d)
		}
	}
	p := compile(t, config.Rule{Name: "i", When: `ref == "spring"`, Images: []string{"python:*"}, Profiles: []string{"compatible"}},
		config.Rule{Name: "j", When: "ref_protected", Images: []string{"gcc:*"}})
	for _, test := range []struct {
		kind Kind
		name string
		want bool
		rule string
	}{
		{Image, "python:3", true, "i"}, {Image, "gcc:14", false, ""}, {Image, "alpine", false, ""}, {Image, "", false, ""},
		{Service, "anything", true, ""}, {Profile, "compatible", true, "i"}, {Profile, "hardened", false, ""}, {Secret, "SHOP_DB", false, ""},
	} {
		if d := p.Decide(test.kind, test.name, facts); d.Allowed != test.want || d.Rule != test.rule {
			t.Errorf("%s %s: %+v", test.kind, test.name, d)
		}
	}
	if d := p.Decide(Image, "alpine", facts); d.Reason != `no rule grants image "alpine" to any job; ask the runner's admin` {
		t.Error(d.Reason)
	}
}

// A reason stays on its line, whatever a job's author calls things.
func TestHostileFacts(t *testing.T) {
	facts := response()
	facts["ref"] = identity.Fact{Value: "x\n\x1b[2J\u202e" + strings.Repeat("y", 500), Source: "ID token A\nB (iss x)"}
	d := compile(t, grants(`ref == "main"`)).Decide(Secret, "SHOP_DB", facts)
	if d.Allowed || strings.ContainsAny(d.Reason, "\n\x1b\u202e") || len(d.Reason) > 300 {
		t.Errorf("%q", d.Reason)
	}
	d = compile(t, grants(`sha == "a"`)).Decide(Secret, "SHOP_DB", facts)
	if d.Reason != "rule r needs the fact sha, which neither this job's response nor its ID token tells: ask the runner's admin" {
		t.Error(d.Reason)
	}
	d = compile(t, grants("true")).Decide(Secret, "no\nsuch", facts)
	if d.Allowed || strings.Contains(d.Reason, "\n") {
		t.Errorf("%q", d.Reason)
	}
	// A fact of another kind than it has is none, and one that there cannot be helps nobody.
	for _, value := range []any{"true", 1, nil, []string{"x"}} {
		facts["ref_protected"], facts["reff"] = identity.Fact{Value: value, Source: "s"}, identity.Fact{Value: "main", Source: "s"}
		d := compile(t, grants("ref_protected")).Decide(Secret, "SHOP_DB", facts)
		if d.Allowed || !strings.Contains(d.Reason, "needs the fact ref_protected") {
			t.Errorf("%v: %+v", value, d)
		}
	}
	if d := compile(t, grants(`ref == "main"`)).Decide(Secret, "SHOP_DB", nil); d.Allowed {
		t.Errorf("%+v", d)
	}
}

// An expression that costs too much fails; it does not keep a job waiting.
func TestCost(t *testing.T) {
	facts := response()
	facts["ref"] = identity.Fact{Value: strings.Repeat("x", glob.MaxName), Source: "s"}
	when := "glob(ref, \"" + strings.Repeat("{*a,*b}", 6) + "\")"
	d := compile(t, grants(when+strings.Repeat(" || "+when, 40))).Decide(Secret, "SHOP_DB", facts)
	if d.Allowed || !strings.Contains(d.Reason, "cost limit exceeded") {
		t.Errorf("%+v", d)
	}
}

// Waivers are those of every rule that is true, and of no other.
func TestWaivers(t *testing.T) {
	rule := func(name, when string, warn ...string) config.Rule {
		return config.Rule{Name: name, When: when, Warn: warn}
	}
	p := compile(t, rule("api", `project_path == "shop/api"`, "tests/**", "*.lock"), rule("main", `ref == "main"`, "**"),
		rule("unknown", `environment == "x"`, "**"), grants("true"), rule("dig", `job_name == "dig"`, "docs/*"))
	var got []string
	for _, w := range p.Waivers(response()) {
		got = append(got, w.Rule+" "+strings.Join(w.Paths, " "))
	}
	if want := []string{"api tests/** *.lock", "dig docs/*"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := p.Waivers(nil); len(got) != 0 {
		t.Errorf("without facts: %+v", got)
	}
	for path, want := range map[string]bool{"tests/a/b.txt": true, "docs/a": true, "docs/a/b": false, "poetry.lock": true, "src/a": false} {
		if d := p.Decide(Warn, path, response()); d.Allowed != want {
			t.Errorf("%s: %+v", path, d)
		}
	}
	if _, err := Compile(config.Policy{Rules: []config.Rule{rule("r", "true", "[")}}, nil, nil); err == nil || !strings.Contains(err.Error(), "rule r: warn: ") {
		t.Errorf("a bad glob: %v", err)
	}
}

// Caches are free until a rule is about them, and then what true rules list.
func TestCacheGrants(t *testing.T) {
	rule := func(name, when string, keys ...string) config.Rule {
		return config.Rule{Name: name, When: when, Caches: keys, Identity: []string{"production"}}
	}
	free := compile(t, grants("true"))
	if got := free.CacheGrants(response()); len(got) != 1 || !slices.Equal(got[0].Keys, []string{"**"}) || got[0].Rule != "" || got[0].Identity != nil {
		t.Errorf("%+v", got)
	}
	for _, key := range []string{"a", "a/b/c", ".", "a\nb", "\xff", strings.Repeat("x", 1000)} {
		if !glob.Match("**", key) || !free.Decide(Cache, key, response()).Allowed {
			t.Errorf("%q is not free", key)
		}
	}
	p := compile(t, rule("api", `project_path == "shop/api"`, "deps-*", "npm"), rule("never", `environment == "x"`, "**"), rule("main", `ref == "main"`, "**"))
	got := p.CacheGrants(response())
	if len(got) != 1 || got[0].Rule != "api" || !slices.Equal(got[0].Keys, []string{"deps-*", "npm"}) || !slices.Equal(got[0].Identity, []string{"production"}) {
		t.Errorf("%+v", got)
	}
	if got := p.CacheGrants(nil); len(got) > 0 {
		t.Errorf("without facts: %+v", got)
	}
	for key, want := range map[string]bool{"deps-a": true, "npm": true, "deps-a/b": false, "other": false} {
		if d := p.Decide(Cache, key, response()); d.Allowed != want {
			t.Errorf("%s: %+v", key, d)
		}
	}
	if _, err := Compile(config.Policy{Rules: []config.Rule{{Name: "r", When: "true", Caches: []string{"["}}}}, nil, nil); err == nil || !strings.Contains(err.Error(), "rule r: caches: ") {
		t.Errorf("a bad glob: %v", err)
	}
}
