package identity

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/contract"
	"cleanroom/executor/identity/idptest"
)

// What each runner hands on, and nothing that it does not.
func TestFromJob(t *testing.T) {
	for version, want := range map[string]map[string]any{
		"17.11": {"job_id": int64(4711), "job_name": "dig", "project_id": int64(12), "ref": "spring", "ref_type": "branch", "sha": strings.Repeat("a", 40)},
		"19.3": {"job_id": int64(4711), "job_name": "dig", "project_id": int64(12), "project_path": "garden/shed", "namespace_id": int64(3), "namespace_path": "garden",
			"pipeline_id": int64(88), "user_id": int64(9), "ref": "spring", "ref_type": "branch", "ref_protected": true, "sha": strings.Repeat("a", 40)},
	} {
		data, err := os.ReadFile("../contract/testdata/" + version + "-response.json")
		if err != nil {
			t.Fatal(err)
		}
		j, err := contract.ParseJob(data)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]any{}
		for name, fact := range FromJob(j) {
			got[name] = fact.Value
			if _, known := Names[name]; !known || !strings.HasPrefix(fact.Source, "job response (") {
				t.Errorf("%s: %s from %q", version, name, fact.Source)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s:\n%v\nwant\n%v", version, got, want)
		}
	}
	nested := job()
	nested.JobInfo.ProjectFullPath = "garden/back/shed"
	if f := FromJob(nested); f["namespace_path"].Value != "garden/back" {
		t.Errorf("%+v", f["namespace_path"])
	}
}

// The words of a job's author gain nothing, by whatever name, in the response
// and so in CUSTOM_ENV_ (which Establish does not even take).
func TestAuthorsWordsAreNoFacts(t *testing.T) {
	r := newRig(t)
	words := map[string]string{
		"CI_PROJECT_PATH": "bank/vault", "CI_PROJECT_ID": "1", "CI_PROJECT_NAMESPACE": "bank", "CI_PROJECT_NAMESPACE_ID": "1",
		"CI_COMMIT_REF_PROTECTED": "true", "CI_COMMIT_REF_NAME": "main", "CI_COMMIT_BRANCH": "main", "CI_COMMIT_TAG": "v1", "CI_COMMIT_SHA": strings.Repeat("b", 40),
		"CI_ENVIRONMENT_NAME": "production", "CI_ENVIRONMENT_TIER": "production", "CI_JOB_ID": "1", "CI_JOB_NAME": "deploy", "CI_PIPELINE_ID": "1",
		"CI_PIPELINE_SOURCE": "web", "GITLAB_USER_ID": "1", "GITLAB_USER_LOGIN": "root", "project_path": "bank/vault", "ref_protected": "true",
		"CI_JOB_JWT": "bank", "CI_SERVER_URL": "https://evil.test",
	}
	honest, author := job(), job()
	for _, j := range []*contract.Job{honest, author} { // a runner of 17, where most facts are missing
		j.JobInfo.ProjectFullPath, j.JobInfo.NamespaceID, j.JobInfo.PipelineID, j.JobInfo.UserID = "", 0, 0, 0
		j.GitInfo.Ref, j.GitInfo.Protected = "feature", nil
	}
	for name, value := range words {
		t.Setenv(name, value)
		t.Setenv("CUSTOM_ENV_"+name, value)
		author.Variables = append(author.Variables, variable(name, value))
	}
	// Tokens by the author's own hand: unsigned, and signed by an issuer that
	// nobody configured, under the name of a real one.
	forger := idptest.New(t)
	author.Variables = append(author.Variables, variable("ID", forger.Sign(claims(map[string]any{"project_path": "bank/vault"}))))
	want, err := Establish(t.Context(), honest, r.verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Establish(t.Context(), author, r.verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got.Facts, want.Facts) {
		t.Errorf("the author's words made\n%v\nof\n%v", got.Facts, want.Facts)
	}
	if _, known := got.Facts["ref_protected"]; known {
		t.Error("a variable says that the ref is protected")
	}
	for _, raw := range []string{
		forger.Sign(claims(map[string]any{"iss": r.idp.URL, "project_path": "bank/vault"})),
		r.idp.Sign(claims(map[string]any{"project_path": "bank/vault"}), idptest.None()),
		r.idp.Sign(claims(nil), idptest.Tampered(func(c map[string]any) { c["project_path"] = "bank/vault" })),
	} {
		author.Variables[len(author.Variables)-1].Value = raw
		i, err := Establish(t.Context(), author, r.verifier(t))
		if i != nil {
			t.Errorf("an identity with %v", i.Facts)
		}
		refused(t, err, ErrToken, "token ID: ", raw)
	}
}

func TestEstablish(t *testing.T) {
	r := newRig(t)
	raw := r.idp.Sign(claims(map[string]any{"environment": "production", "environment_protected": "true", "deployment_tier": "production"}))
	forVault := r.idp.Sign(claims(map[string]any{"aud": "https://vault.test", "ref": "elsewhere"}))
	j := job(variable("VAULT_ID_TOKEN", forVault), variable("ID_TOKEN", raw), variable("CI_JOB_TOKEN", "x"), variable("TEXT", "a.b.c"))
	i, err := Establish(t.Context(), j, r.verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	token := "ID token ID_TOKEN (" + r.idp.URL + ")"
	both := func(field string) string { return "job response (" + field + "), " + token }
	want := Facts{
		"job_id": {int64(4711), both("id")}, "job_name": {"dig", "job response (job_info.name)"},
		"project_id": {int64(12), both("job_info.project_id")}, "project_path": {"garden/shed", both("job_info.project_full_path")},
		"namespace_id": {int64(3), both("job_info.namespace_id")}, "namespace_path": {"garden", both("job_info.project_full_path")},
		"ref": {"main", both("git_info.ref")}, "ref_type": {"branch", both("git_info.ref_type")}, "ref_protected": {true, both("git_info.protected")},
		"sha": {strings.Repeat("a", 40), both("git_info.sha")}, "pipeline_id": {int64(88), both("job_info.pipeline_id")},
		"pipeline_source": {"push", token}, "user_id": {int64(9), both("job_info.user_id")}, "user_login": {"rose", token},
		"environment": {"production", token}, "environment_protected": {true, token}, "deployment_tier": {"production", token},
	}
	if !maps.Equal(i.Facts, want) {
		t.Errorf("facts are\n%v\nwant\n%v", mustJSON(t, i.Facts), mustJSON(t, want))
	}
	if len(want) != len(Names) {
		t.Errorf("the test knows %d facts of %d", len(want), len(Names))
	}
	if got := i.Tokens(); !slices.Equal(got, []string{"ID_TOKEN", "VAULT_ID_TOKEN"}) {
		t.Errorf("tokens are %v", got)
	}
	if got, err := i.Token(t.Context(), "VAULT_ID_TOKEN"); err != nil || got != forVault {
		t.Error("the token for Vault:", err)
	}
	printed := fmt.Sprintf("%v %+v %#v %v %#v", i, i, i, *i, *i)
	data, _ := json.Marshal(i)
	clean(t, strings.ReplaceAll(printed+string(data), "\n", ""), raw)
	clean(t, strings.ReplaceAll(printed+string(data), "\n", ""), forVault)

	// Without an environment GitLab writes none of these claims.
	i, err = Establish(t.Context(), job(variable("A", r.idp.Sign(claims(nil)))), r.verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{"environment": "", "environment_protected": false, "deployment_tier": ""} {
		if fact, known := i.Facts[name]; !known || fact.Value != value {
			t.Errorf("%s is %+v", name, fact)
		}
	}
}

// Without a token for us what only tokens tell is not known.
func TestWithoutTokens(t *testing.T) {
	r := newRig(t)
	raw := r.idp.Sign(claims(map[string]any{"aud": "https://vault.test"}))
	for name, v := range map[string]*Verifier{"no issuer": nil, "no token for us": r.verifier(t)} {
		i, err := Establish(t.Context(), job(variable("VAULT_ID_TOKEN", raw)), v)
		if err != nil {
			t.Fatal(name, err)
		}
		if !maps.Equal(i.Facts, FromJob(job())) {
			t.Errorf("%s: %v", name, i.Facts)
		}
		if _, known := i.Facts["environment"]; known {
			t.Errorf("%s: the environment is known", name)
		}
	}
	i, _ := Establish(t.Context(), job(variable("VAULT_ID_TOKEN", raw)), nil)
	_, err := i.Token(t.Context(), "VAULT_ID_TOKEN")
	refused(t, err, ErrToken, "token VAULT_ID_TOKEN: cannot be verified: this runner knows no issuer", raw)
	if _, err := i.CheckProfile(t.Context(), "production"); err == nil || len(i.Tokens()) > 0 {
		t.Error(err, i.Tokens())
	}
}

// A token is this very job's, and agrees with all that is known.
func TestBinding(t *testing.T) {
	r := newRig(t)
	for _, test := range []struct {
		name    string
		changes map[string]any
		kind    error // nil: accepted
		line    string
	}{
		{"ids as numbers", map[string]any{"job_id": jobID, "project_id": project, "pipeline_id": 88}, nil, ""},
		{"truth as such", map[string]any{"ref_protected": true}, nil, ""},
		{"older GitLab, without job_project_id", map[string]any{"job_project_id": nil}, nil, ""},
		{"a job_name, which GitLab does not write", map[string]any{"job_name": "deploy"}, nil, ""},
		{"no user", map[string]any{"user_id": "", "user_login": nil}, nil, ""},
		{"another job", map[string]any{"job_id": "4712"}, ErrDisagree, `token ID: claim job_id is "4712", the job response says "4711": it is another job's token`},
		{"another project", map[string]any{"project_id": "1", "job_project_id": "1"}, ErrDisagree, `token ID: claim project_id is "1", the job response says "12"`},
		{"a fork", map[string]any{"project_id": "77"}, ErrDisagree, `token ID: claim project_id is "77", the job runs in project 12: a merge request of a fork`},
		{"no job", map[string]any{"job_id": nil}, ErrDisagree, "token ID: has no claim job_id"},
		{"no project", map[string]any{"project_id": nil}, ErrDisagree, "token ID: has no claim project_id"},
		{"job as list", map[string]any{"job_id": []string{"4711"}}, ErrDisagree, "token ID: has no claim job_id"},
		{"job almost", map[string]any{"job_id": "04711"}, ErrDisagree, `claim job_id is "04711"`},
		{"path", map[string]any{"project_path": "garden/Shed"}, ErrDisagree, `token ID: claim project_path is "garden/Shed", the job response (job_info.project_full_path) says "garden/shed"`},
		{"namespace", map[string]any{"namespace_id": "4"}, ErrDisagree, "token ID: claim namespace_id is 4, the job response (job_info.namespace_id) says 3"},
		{"ref", map[string]any{"ref": "other"}, ErrDisagree, `token ID: claim ref is "other", the job response (git_info.ref) says "main"`},
		{"ref type", map[string]any{"ref_type": "tag"}, ErrDisagree, "claim ref_type is"},
		{"protected", map[string]any{"ref_protected": "false"}, ErrDisagree, "token ID: claim ref_protected is false, the job response (git_info.protected) says true"},
		{"sha", map[string]any{"sha": "b"}, ErrDisagree, "claim sha is"},
		{"pipeline", map[string]any{"pipeline_id": "89"}, ErrDisagree, "claim pipeline_id is 89"},
		{"user", map[string]any{"user_id": "1"}, ErrDisagree, "claim user_id is 1"},
		{"odd truth", map[string]any{"ref_protected": "yes"}, ErrToken, "token ID: claim ref_protected cannot be read"},
		{"odd number", map[string]any{"user_id": "nine"}, ErrToken, "token ID: claim user_id cannot be read"},
		{"odd text", map[string]any{"environment": 7}, ErrToken, "token ID: claim environment cannot be read"},
		{"expired", map[string]any{"exp": time.Now().Add(-time.Hour)}, ErrToken, "token ID: expired"},
		{"newline", map[string]any{"ref": "x\nforged"}, ErrDisagree, `claim ref is "x\nforged"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			raw := r.idp.Sign(claims(test.changes))
			i, err := Establish(t.Context(), job(variable("ID", raw)), r.verifier(t))
			if test.kind == nil {
				if err != nil || i.Facts["project_id"].Value != int64(12) || i.Facts["ref_protected"].Value != true || i.Facts["job_name"].Value != "dig" {
					t.Errorf("%+v %v", i, err)
				}
				return
			}
			if i != nil {
				t.Error("a refusal comes with an identity")
			}
			refused(t, err, test.kind, test.line, raw)
		})
	}

	t.Run("two tokens", func(t *testing.T) {
		raw := r.idp.Sign(claims(map[string]any{"environment": "staging"}))
		_, err := Establish(t.Context(), job(variable("A", r.idp.Sign(claims(map[string]any{"environment": "production"}))), variable("B", raw)), r.verifier(t))
		refused(t, err, ErrDisagree, `token B: claim environment is "staging", the ID token A (`+r.idp.URL+`) says "production"`, raw)
	})
	t.Run("the same name twice", func(t *testing.T) {
		bad := r.idp.Sign(claims(map[string]any{"job_id": "1"}))
		_, err := Establish(t.Context(), job(variable("A", bad), variable("A", r.idp.Sign(claims(nil)))), r.verifier(t))
		refused(t, err, ErrDisagree, "token A: claim job_id", bad)
	})
	t.Run("issuer down", func(t *testing.T) {
		r := newRig(t)
		raw := r.idp.Sign(claims(nil))
		r.idp.Down(true)
		_, err := Establish(t.Context(), job(variable("A", raw)), r.verifier(t))
		refused(t, err, ErrIssuer, "token A: cannot be verified", raw)
	})
}

// In a merge request's pipeline the token's ref is the source branch, perhaps
// a branch called main: that must not make it main.
func TestMergeRequest(t *testing.T) {
	r := newRig(t)
	j := job(variable("ID", r.idp.Sign(claims(nil))))
	j.GitInfo.Ref = "refs/merge-requests/7/head"
	i, err := Establish(t.Context(), j, r.verifier(t))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Fact{"refs/merge-requests/7/head", "job response (git_info.ref)"}); i.Facts["ref"] != want {
		t.Errorf("%+v", i.Facts["ref"])
	}
}

// A job token that is a JWT is no ID token: its key is none of those that
// are published.
func TestJobToken(t *testing.T) {
	r := newRig(t)
	raw := r.idp.Sign(claims(nil), idptest.WrongKey())
	j := job(variable("CI_JOB_TOKEN", raw), variable("CI_REGISTRY_PASSWORD", raw))
	j.Token = raw
	i, err := Establish(t.Context(), j, r.verifier(t))
	if err != nil || len(i.Tokens()) > 0 {
		t.Error(i, err)
	}
}

func TestToken(t *testing.T) {
	r := newRig(t)
	vault := func(changes map[string]any, options ...idptest.Option) string {
		c := claims(changes)
		c["aud"] = "https://vault.test"
		return r.idp.Sign(c, options...)
	}
	for _, test := range []struct {
		name, raw string
		kind      error
		line      string
	}{
		{"none", "", ErrToken, "job has no ID token VAULT_ID_TOKEN: add it under id_tokens: in .gitlab-ci.yml"},
		{"a text", "hunter2", ErrToken, "job has no ID token VAULT_ID_TOKEN: add it"},
		{"expired", vault(map[string]any{"exp": time.Now().Add(-time.Minute)}), ErrToken, "token VAULT_ID_TOKEN: expired"},
		{"another job", vault(map[string]any{"job_id": "1"}), ErrDisagree, `token VAULT_ID_TOKEN: claim job_id is "1"`},
		{"tampered", vault(nil, idptest.Tampered(func(c map[string]any) { c["job_id"] = "1" })), ErrToken, "signature is not that of key"},
		{"another issuer", vault(map[string]any{"iss": "https://other.test"}), ErrToken, `token VAULT_ID_TOKEN: issuer is "https://other.test", this runner accepts "` + r.idp.URL + `"`},
		{"oversized", vault(map[string]any{"x": strings.Repeat("x", MaxToken)}), ErrToken, "more than the 65536"},
	} {
		t.Run(test.name, func(t *testing.T) {
			i, err := Establish(t.Context(), job(variable("VAULT_ID_TOKEN", test.raw)), r.verifier(t))
			if err != nil {
				t.Fatal("a token for another audience is no fact, and no refusal:", err)
			}
			got, err := i.Token(t.Context(), "VAULT_ID_TOKEN")
			if got != "" {
				t.Error("a refusal comes with the token")
			}
			refused(t, err, test.kind, test.line, test.raw)
		})
	}
}
