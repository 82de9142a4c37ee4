package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cleanroom/executor/identity/idptest"
	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// TestTokensThatProductionWouldRefuse: each is found before the room is made,
// with a line that says what is wrong.
func TestTokensThatProductionWouldRefuse(t *testing.T) {
	idp := idptest.New(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, idp.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := install(t, rig.RunnerOptions{Config: fmt.Sprintf(`
[[identity.issuer]]
url = %q
ca_file = %q
audience = "cleanroom"
[[identity.profile]]
name = "production"
issuer = %[1]q
audience = ["https://api.example.com"]
min_lifetime = "10m"
[[identity.profile.claim]]
name = "environment"
values = ["production"]
`, idp.URL, ca)})
	now := time.Now()
	claims := func(change ...any) map[string]any {
		c := map[string]any{"iss": idp.URL, "aud": "https://api.example.com", "sub": "project_path:shop/items", "iat": now.Unix(), "nbf": now.Unix() - 5,
			"exp": now.Add(time.Hour).Unix(), "environment": "production", "project_id": "1", "job_id": "999999"}
		for i := 0; i < len(change); i += 2 {
			if c[change[i].(string)] = change[i+1]; change[i+1] == nil {
				delete(c, change[i].(string))
			}
		}
		return c
	}
	old := idp.Sign(claims())
	idp.RotateKeys()
	idp.WithdrawOldKeys()
	for name, test := range map[string]struct{ token, says string }{
		"audience":      {idp.Sign(claims("aud", "staging")), `token API_ID_TOKEN: audience is "staging", production accepts "https://api.example.com"`},
		"claim":         {idp.Sign(claims("environment", "staging")), `claim environment is "staging", production requires "production"`},
		"lifetime":      {idp.Sign(claims("exp", now.Add(5*time.Minute).Unix())), "production needs at least 10m0s"},
		"expired":       {idp.Sign(claims("exp", now.Add(-time.Hour).Unix())), "token API_ID_TOKEN: expired 1h0m"},
		"not yet valid": {idp.Sign(claims("nbf", now.Add(time.Hour).Unix())), "token API_ID_TOKEN: is not valid before "},
		"alg none":      {idp.Sign(claims(), idptest.None()), `is signed with "none", this runner accepts RS256`},
		"RS/HS":         {idp.Sign(claims(), idptest.HS256WithPublicKey()), `is signed with "HS256", this runner accepts RS256`},
		"unknown kid":   {idp.Sign(claims(), idptest.Header("kid", "nobody")), `token API_ID_TOKEN: is signed by key "nobody", which is not among those of ` + idp.URL},
		"retired key":   {old, `token API_ID_TOKEN: is signed by key "rsa-1", which is not among those of ` + idp.URL},
		"other's token": {idp.Sign(claims()), `token API_ID_TOKEN: claim job_id is "999999", the job response says`},
	} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			r := s.run(gitlab.JobSpec{Project: project, Script: []string{"echo the script ran"}, Variables: []gitlab.Variable{
				{Key: "API_ID_TOKEN", Value: test.token, Masked: true}, {Key: "CLEANROOM_IDENTITY", Value: "production", Public: true}}})
			r.is(t, job.Failed, "script_failure", 1)
			r.says(t, "token API_ID_TOKEN", test.says)
			r.hides(t, "the script ran", "Using image", test.token)
		})
	}
	idp.Down(true) // its keys are on disk
	r := s.run(gitlab.JobSpec{Project: project, Script: []string{"echo the script ran"}, Variables: []gitlab.Variable{
		{Key: "API_ID_TOKEN", Value: idp.Sign(claims("aud", "staging"))}, {Key: "CLEANROOM_IDENTITY", Value: "production"}}})
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, `audience is "staging"`)
}

// TestGitLabsTokensAreFacts: a token of the job itself earns what the job
// response alone does not tell.
func TestGitLabsTokensAreFacts(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: fmt.Sprintf(`
[[identity.issuer]]
url = %q
audience = "https://cleanroom.test"
plain_http = true
[[identity.profile]]
name = "api"
issuer = %[1]q
audience = ["https://api.test"]
tokens = ["API_*"]
[[provider]]
name = "store"
kind = "store"
[[secret]]
name = "KEY"
provider = "store"
[[policy.rule]]
name = "people"
when = 'user_login == "ada" && ref_protected && namespace_path == "shop"'
secrets = ["KEY"]
identity = ["api"]
`, theRig.URL)})
	s.cleanroom("secret", "set", "KEY", "--generator", "random")
	spec := func(login string, tokens map[string][]string) gitlab.JobSpec {
		return gitlab.JobSpec{Project: project, User: gitlab.User{ID: 9, Login: login}, IDTokens: tokens, Variables: asking("KEY"), Script: []string{`echo "the key has $(printenv KEY | wc -c)"`}}
	}
	both := map[string][]string{"CLEAN_ID_TOKEN": {"https://cleanroom.test"}, "API_ID_TOKEN": {"https://api.test"}}
	r := s.run(spec("ada", both))
	r.is(t, job.Success, "", 0)
	r.says(t, "token API_ID_TOKEN: api accepts it for", "granted by rule people", "the key has 44")

	r = s.run(spec("eve", both))
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "rule people", `"eve"`, "ID token CLEAN_ID_TOKEN")

	r = s.run(spec("ada", nil))
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, "rule people needs the fact", "user_login", "ID token")

	r = s.run(spec("ada", map[string][]string{"CLEAN_ID_TOKEN": {"https://cleanroom.test"}, "API_ID_TOKEN": {"https://staging.test"}}))
	r.is(t, job.Failed, "script_failure", 1)
	r.says(t, `token API_ID_TOKEN: audience is "https://staging.test", api accepts "https://api.test"`)
}
