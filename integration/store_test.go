package integration

import (
	"regexp"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// storeConfig: the sample's project may have the key of its tokens, in its
// own steps.
const storeConfig = `
[[provider]]
name = "store"
kind = "store"
[[secret]]
name = "JWT_PUBLIC_KEY"
provider = "store"
path = "jwt-key"
[[policy.rule]]
name = "items"
when = 'project_path == "shop/items"'
secrets = ["JWT_PUBLIC_KEY"]
hint = "ask the shop team"
`

// jwtSettings is how the sample is told to verify tokens.
func jwtSettings() []gitlab.Variable {
	var all []gitlab.Variable
	for name, value := range map[string]string{"JWT_ALGORITHM": "HS256", "JWT_ISSUER": "https://login.test", "JWT_AUDIENCE": "items"} {
		all = append(all, gitlab.Variable{Key: name, Value: value, Public: true})
	}
	return all
}

func asking(secrets string, more ...gitlab.Variable) []gitlab.Variable {
	return append([]gitlab.Variable{{Key: "CLEANROOM_SECRETS", Value: secrets, Public: true}}, more...)
}

// verify asks the sample's own code what it thinks of $TOKEN.
const verify = `python3 -c '
import os
from fastapi import HTTPException
from fastapi.security import HTTPAuthorizationCredentials
from items.auth import caller
from items.settings import settings
try:
    print("the app lets in", caller(HTTPAuthorizationCredentials(scheme="Bearer", credentials=os.environ["TOKEN"]), settings()).sub)
except HTTPException as e:
    print("the app says", e.status_code, e.detail)
'`

const sign = `export TOKEN=$(python3 -c '
import jwt, os, time
print(jwt.encode({"iss": os.environ["JWT_ISSUER"], "aud": os.environ["JWT_AUDIENCE"], "sub": "ada", "exp": time.time() + 600}, os.environ["JWT_PUBLIC_KEY"], algorithm="HS256"))
')`

// TestKeyIsRotatedForEachJob: what one job signed, the app of the next refuses.
func TestKeyIsRotatedForEachJob(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: storeConfig})
	s.cleanroom("secret", "set", "jwt-key", "--generator", "random", "--length", "48", "--rotate", "job")

	first := s.run(gitlab.JobSpec{Project: project, Variables: asking("JWT_PUBLIC_KEY", jwtSettings()...), Script: []string{sign, verify, "echo it signed $TOKEN"}})
	first.is(t, job.Success, "", 0)
	first.says(t, "the app lets in ada", "Secret JWT_PUBLIC_KEY: granted by rule items, from store (version ")
	token := regexp.MustCompile(`it signed (ey\S+)`).FindStringSubmatch(first.log)
	if token == nil {
		t.Fatal(first.log)
	}
	second := s.run(gitlab.JobSpec{Project: project, Variables: asking("JWT_PUBLIC_KEY", append(jwtSettings(), gitlab.Variable{Key: "TOKEN", Value: token[1]})...),
		Script: []string{verify, sign, verify}})
	second.is(t, job.Success, "", 0)
	second.says(t, "the app says 401 invalid token: Signature verification failed", "the app lets in ada")
	if list := s.cleanroom("secret", "list"); !strings.Contains(list, "jwt-key") {
		t.Error(list)
	}
}

// TestSecretIsDenied: the reason is in the job's log, in its first second.
func TestSecretIsDenied(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: storeConfig})
	s.cleanroom("secret", "set", "jwt-key", "--generator", "random", "--length", "48")
	if _, err := theRig.AddProject(t.Context(), gitlab.Project{Path: "evil/items", Dir: "sample"}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		job  gitlab.JobSpec
		says []string
	}{
		"other project": {gitlab.JobSpec{Project: "evil/items", Variables: asking("JWT_PUBLIC_KEY")},
			[]string{`secret "JWT_PUBLIC_KEY"`, "rule items", `"evil/items"`, "ask the shop team"}},
		"other project that says it is this one": {gitlab.JobSpec{Project: "evil/items", Variables: asking("JWT_PUBLIC_KEY",
			gitlab.Variable{Key: "CI_PROJECT_PATH", Value: project}, gitlab.Variable{Key: "CI_PROJECT_ID", Value: "1"}, gitlab.Variable{Key: "CI_COMMIT_REF_PROTECTED", Value: "true"})},
			[]string{`secret "JWT_PUBLIC_KEY"`, `"evil/items"`}},
		"no such secret": {gitlab.JobSpec{Project: project, Variables: asking("JWT_PUBLIC_KEY, JWT_PRIVATE_KEY")},
			[]string{`secret "JWT_PRIVATE_KEY": this runner has none of that name`}},
		"a variable of that name": {gitlab.JobSpec{Project: project, Variables: asking("JWT_PUBLIC_KEY", gitlab.Variable{Key: "JWT_PUBLIC_KEY", Value: "stale"})},
			[]string{"JWT_PUBLIC_KEY is also a variable of the job, which its script would use in place of the secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			test.job.Script = []string{"echo the script ran"}
			r := s.run(test.job)
			r.is(t, job.Failed, "script_failure", 1)
			r.says(t, test.says...)
			r.hides(t, "the script ran", "Using image")
		})
	}
}

// TestSecretsAreForTheStagesOfTheRule, as variables and as files.
func TestSecretsAreForTheStagesOfTheRule(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: `
[[provider]]
name = "store"
kind = "store"
[[secret]]
name = "SCRIPT_ONLY"
provider = "store"
[[secret]]
name = "EVERYWHERE"
provider = "store"
[[secret.deliver]]
as = "file"
[[secret]]
name = "STEP_ONLY"
provider = "store"
[[secret]]
name = "POSTGRES_PASSWORD"
provider = "store"
[[policy.rule]]
name = "step"
when = "true"
secrets = ["STEP_ONLY"]
stages = ["step_release"]
[[policy.rule]]
name = "script"
when = "true"
secrets = ["SCRIPT_ONLY"]
stages = ["script"]
[[policy.rule]]
name = "service"
when = "true"
secrets = ["POSTGRES_PASSWORD"]
stages = ["service:db", "after_script"]
[[policy.rule]]
name = "all"
when = "true"
secrets = ["*"]
`})
	for _, name := range []string{"SCRIPT_ONLY", "EVERYWHERE", "POSTGRES_PASSWORD", "STEP_ONLY"} {
		s.cleanroom("secret", "set", name, "--generator", "random", "--length", "32")
	}
	show := `for v in SCRIPT_ONLY EVERYWHERE POSTGRES_PASSWORD STEP_ONLY; do echo "$STEP $v has $(printenv $v | wc -c)"; done; ls -l /run/secrets; id -u`
	hook := `for v in SCRIPT_ONLY EVERYWHERE POSTGRES_PASSWORD STEP_ONLY; do echo "hook $v has $(printenv $v | wc -c)"; done; ls /run/secrets || echo hook sees no folder`
	r := s.run(gitlab.JobSpec{
		Project: project, Variables: asking("SCRIPT_ONLY EVERYWHERE POSTGRES_PASSWORD STEP_ONLY"),
		Services: []gitlab.Image{{Name: "cleanroom/postgres", Alias: "db"}}, // which does not start without its password
		Hooks:    []gitlab.Hook{{Name: "pre_get_sources_script", Script: []string{hook}}},
		Script: []string{"STEP=script", show, `echo "file has $(cat $EVERYWHERE | wc -c) in $(dirname $EVERYWHERE) of $CLEANROOM_SECRETS_DIR"`,
			`python3 -c 'import os, stat; s = os.stat(os.environ["EVERYWHERE"]); print("mode", oct(stat.S_IMODE(s.st_mode)), "mine", s.st_uid == os.getuid())'`},
		Steps: []gitlab.Step{{Name: "release", Script: []string{ // the runner expands $NAME in a further step's script
			"printenv STEP_ONLY | wc -c | sed 's/^/release STEP_ONLY has /'", "{ printenv SCRIPT_ONLY || true; } | wc -c | sed 's/^/release SCRIPT_ONLY has /'"}, When: "on_success", Timeout: 600}},
		AfterScript: []string{"STEP=after", show, `PGPASSWORD="$POSTGRES_PASSWORD" python3 -c 'import os, psycopg2 as p; p.connect(host="db", user="postgres", password=os.environ["PGPASSWORD"]); print("the service took its password")'`},
	})
	r.is(t, job.Success, "", 0)
	r.says(t,
		"script SCRIPT_ONLY has 33", "after SCRIPT_ONLY has 0", "hook SCRIPT_ONLY has 0",
		"script EVERYWHERE has 24", "after EVERYWHERE has 24", "hook EVERYWHERE has 0", // the path of /run/secrets/everywhere
		"script POSTGRES_PASSWORD has 0", "after POSTGRES_PASSWORD has 33", "hook POSTGRES_PASSWORD has 0", "the service took its password",
		"script STEP_ONLY has 0", "release STEP_ONLY has 33", "release SCRIPT_ONLY has 0", "after STEP_ONLY has 0", "hook STEP_ONLY has 0",
		"file has 32 in /run/secrets of /run/secrets", "mode 0o400 mine True", "hook sees no folder")
}
