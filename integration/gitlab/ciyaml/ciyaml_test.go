package ciyaml

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

const whole = `
stages: [build, check, ship]
variables:
  MODE: fast
  COUNT: 3
  RAW: {value: "$MODE", expand: false, description: not expanded}
default:
  image: {name: "base:1", entrypoint: [""], pull_policy: if-not-present, docker: {user: "1000", platform: linux/arm64}}
  before_script: [echo default]
  tags: [any]
  retry: 2
.common: &anchor
  variables: {MODE: slow, OWN: "1"}
  timeout: 1h 30m
compile:
  <<: *anchor
  stage: build
  script:
    - make
    - - echo nested
      - [echo deeper]
  cache:
    - {key: {files: [go.sum], prefix: go}, paths: [.cache/], policy: pull}
    - {key: plain, paths: [x/], when: always, unprotect: true}
  artifacts:
    paths: [bin/]
    exclude: [bin/*.o]
    expire_in: 1 week
    reports: {dotenv: build.env, junit: [a.xml, b.xml]}
unit:
  extends: [.common, .after]
  stage: check
  image: alpine
  services:
    - redis:7
    - {name: "postgres:16", alias: db, command: [serve], entrypoint: [/x], variables: {PGPASS: $MODE}}
  before_script: []
  script: go test
  allow_failure: {exit_codes: [3, 137]}
.after:
  after_script: [echo after]
  id_tokens: {VAULT_ID_TOKEN: {aud: https://vault}}
early:
  stage: ship
  needs: [{job: compile, artifacts: false}, {job: absent, optional: true}]
  script: [deploy]
  rules:
    - if: $CI_COMMIT_BRANCH == "other"
      when: never
    - if: $CI_COMMIT_BRANCH =~ /^ma/ && $MODE != "slow"
      variables: {SHIP: "yes"}
absent:
  stage: check
  script: x
  rules: [{if: $NEVER_SET}]
cleanup:
  stage: .post
  when: always
  dependencies: [unit]
  script: [tidy]
`

func parse(t *testing.T, file string) map[string]job.Planned {
	t.Helper()
	planned, err := Parse([]byte(file), Context{
		Variables: map[string]string{"CI_COMMIT_BRANCH": "main"},
		Protected: true,
		Blob:      func(path string) (string, bool) { return "id of " + path, path == "go.sum" },
	})
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]job.Planned{}
	for _, p := range planned {
		byName[p.Spec.Name] = p
	}
	return byName
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n got %#v\nwant %#v", what, got, want)
	}
}

func TestWholeFile(t *testing.T) {
	jobs := parse(t, whole)
	if _, there := jobs["absent"]; there || len(jobs) != 4 {
		t.Fatalf("%d jobs, absent among them: %t", len(jobs), there)
	}
	c := jobs["compile"].Spec
	equal(t, "script", c.Script, []string{"make", "echo nested", "echo deeper"})
	equal(t, "before_script", c.BeforeScript, []string{"echo default"})
	equal(t, "timeout", c.Timeout, 90*time.Minute)
	equal(t, "variables", c.Variables, []wire.Variable{
		{Key: "COUNT", Value: "3", Public: true}, {Key: "RAW", Value: "$MODE", Public: true, Raw: true},
		{Key: "MODE", Value: "slow", Public: true}, {Key: "OWN", Value: "1", Public: true}})
	equal(t, "image", c.Image, &wire.Image{Name: "base:1", Entrypoint: []string{""}, PullPolicy: []string{"if-not-present"},
		Ports: []wire.Port{}, ExecutorOpts: wire.ExecutorOpts{Docker: &wire.DockerOpts{User: "1000", Platform: "linux/arm64"}}})
	equal(t, "artifacts", c.Artifacts, []wire.Artifact{
		{Paths: []string{"bin/"}, Exclude: []string{"bin/*.o"}, When: "on_success", Type: "archive", Format: "zip", ExpireIn: "1 week"},
		{Name: ".env", Paths: []string{"build.env"}, When: "always", Type: "dotenv", Format: "gzip", ExpireIn: "1 week"},
		{Name: "junit.xml", Paths: []string{"a.xml", "b.xml"}, When: "always", Type: "junit", Format: "gzip", ExpireIn: "1 week"}})
	if k := c.Cache[0].Key; !strings.HasPrefix(k, "go-") || !strings.HasSuffix(k, "-protected") || len(k) != len("go--protected")+40 {
		t.Errorf("cache key of files: %q", k)
	}
	equal(t, "cache key", c.Cache[1].Key, "plain-non_protected")

	u := jobs["unit"]
	equal(t, "extended after_script", u.Spec.AfterScript, []string{"echo after"})
	equal(t, "own before_script", len(u.Spec.BeforeScript), 0)
	equal(t, "exit codes", u.Spec.AllowFailure, job.AllowFailure{ExitCodes: []int{3, 137}})
	equal(t, "id tokens", u.Spec.IDTokens, map[string][]string{"VAULT_ID_TOKEN": {"https://vault"}})
	equal(t, "service", u.Spec.Services[1], wire.Image{Name: "postgres:16", Alias: "db", Command: []string{"serve"},
		Entrypoint: []string{"/x"}, Ports: []wire.Port{}, Variables: []wire.Variable{{Key: "PGPASS", Value: "$MODE", Public: true}}})
	equal(t, "artifacts of earlier stages", u.AllBefore, true)

	e := jobs["early"]
	equal(t, "needs", e.Needs, []string{"compile"})
	equal(t, "from", e.From, []string{})
	equal(t, "a rule's variable", e.Spec.Variables[len(e.Spec.Variables)-1], wire.Variable{Key: "SHIP", Value: "yes", Public: true})
	equal(t, "when", jobs["cleanup"].When, "always")
	equal(t, "dependencies", jobs["cleanup"].From, []string{"unit"})
}

func TestRefusals(t *testing.T) {
	for file, want := range map[string]string{
		"a: {script: x, parallel: 2}":                               `"parallel"`,
		"include: other.yml\na: {script: x}":                        "include",
		"default: {interruptible: true}\na: {script: x}":            `"interruptible"`,
		"a: {script: !reference [b, script]}":                       "!reference",
		"a: {script: x, stage: nowhere}":                            `"nowhere"`,
		"a: {stage: test}":                                          "script is missing",
		"a: {script: x, extends: .gone}":                            ".gone",
		".b: {extends: .c}\n.c: {extends: .b}\na: {extends: .b}":    "extends itself",
		"a: {script: x, needs: [b]}":                                `"b"`,
		"a: {script: x, needs: [b]}\nb: {script: x, stage: deploy}": "comes no earlier",
		"a: {script: [{echo: colon}]}":                              "quote it",
		"a: {script: x, rules: [{if: ($A)}]}":                       "not understood",
		"a: {script: x, rules: [{changes: [x]}]}":                   `"changes"`,
		"a: {script: x, when: manual}":                              `"manual"`,
		"a: {script: x, timeout: 1 month}":                          "month",
		"a: {script: x, artifacts: {reports: {sast: x}}}":           `"sast"`,
		"a: {script: x, image: {name: x, docker: {privileged: 1}}}": `"privileged"`,
		".hidden: {script: x}":                                      "no job would run",
		"- a":                                                       "no mapping",
	} {
		_, err := Parse([]byte(file), Context{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %s", file, err, want)
		}
	}
}

func TestRules(t *testing.T) {
	vars := map[string]string{"A": "x", "EMPTY": "", "B": "x"}
	for expr, want := range map[string]bool{
		`$A`: true, `$EMPTY`: false, `$NONE`: false, `${A} == "x"`: true, `$A == 'y'`: false, `$A != "y"`: true,
		`$NONE == null`: true, `$A != null`: true, `$A == $B`: true, `$A =~ /^x$/`: true, `$A !~ /y/`: true,
		`$NONE || $A && $B`: true, `$A && $NONE || $EMPTY`: false,
	} {
		got, err := eval(expr, vars)
		if err != nil || got != want {
			t.Errorf("%s: %t, %v", expr, got, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600": time.Hour, "90 minutes": 90 * time.Minute, "1h 30m": 90 * time.Minute, "2 hours and 5 s": 2*time.Hour + 5*time.Second,
	} {
		if got, err := duration(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}
