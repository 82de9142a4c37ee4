package executor

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/identity"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
	"cleanroom/sandbox"
)

const canary = "canary-0123456789abcdef"

// withSecrets gives a job two providers: a folder of files, and a program
// that issues and takes back. Every lease is a line in the returned file, and
// is struck out when it is revoked.
func withSecrets(t *testing.T) (j *job, ledger string) {
	t.Helper()
	j = newJob(t, "19.3")
	dir := t.TempDir()
	j.config.StateDir, j.config.DataDir = filepath.Join(dir, "state"), filepath.Join(dir, "data")
	ledger = filepath.Join(dir, "ledger")
	folder := filepath.Join(dir, "files")
	program := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := errors.Join(os.Mkdir(folder, 0o700), os.WriteFile(filepath.Join(folder, "API_KEY"), []byte(canary+"-file\n"), 0o400), os.WriteFile(ledger, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	j.config.Providers = []config.Provider{
		{Name: "folder", Kind: "file", Timeout: time.Minute, Files: config.Files{Dir: folder}},
		{Name: "program", Kind: "exec", Timeout: time.Minute, Exec: config.Exec{
			Command: []string{program("issue", `echo "$CLEANROOM_LEASE" >>`+ledger+`; echo '{"value":"`+canary+`-exec","revoke_token":"`+canary+`-token"}'`)},
			Revoke:  []string{program("revoke", `grep -v "$CLEANROOM_LEASE" `+ledger+` >`+ledger+`.new; mv `+ledger+`.new `+ledger)},
		}},
	}
	j.config.Secrets = []config.Secret{
		{Name: "API_KEY", Provider: "folder", Path: "API_KEY", Deliver: []config.Deliver{{As: "file", Variable: "API_KEY", File: "api_key"}}},
		{Name: "DATABASE_URL", Provider: "program", Path: "db", Deliver: []config.Deliver{{As: "env", Variable: "DATABASE_URL"}}},
		{Name: "WELL_KEY", Provider: "folder", Path: "API_KEY", Deliver: []config.Deliver{{As: "env", Variable: "WELL_KEY"}}},
	}
	j.config.Policy.Rules = []config.Rule{
		{Name: "shed", When: `project_path == "garden/shed"`, Secrets: []string{"API_KEY", "DATABASE_URL"}, Hint: "ask the gardener"},
		{Name: "well", When: "true", Secrets: []string{"WELL_KEY"}, Stages: []string{"service:water", "get_sources"}},
	}
	j.variables[SecretsVariable] = "API_KEY, DATABASE_URL"
	return j, ledger
}

func (j *job) stage(name string) sandbox.Stage {
	j.t.Helper()
	script := filepath.Join(j.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("true"), 0o600); err != nil {
		j.t.Fatal(err)
	}
	if err := j.executor().RunStage(j.t.Context(), script, name); err != nil {
		j.t.Fatal(err)
	}
	return j.engine.stages[len(j.engine.stages)-1]
}

func leases(t *testing.T, ledger string) int {
	t.Helper()
	b, err := os.ReadFile(ledger)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// TestSecretsOfAJob: from the grant to the stage, and back at cleanup.
func TestSecretsOfAJob(t *testing.T) {
	j, ledger := withSecrets(t)
	spec := j.spec()
	if log := j.out.String(); !strings.Contains(log, "Secret DATABASE_URL: granted by rule shed, from program (revoked after the job)") ||
		!strings.Contains(log, "Secret API_KEY: granted by rule shed, from folder (rotated ") || !strings.Contains(log, "Z, not issued for this job alone: it stays good)") {
		t.Error(log)
	}
	if spec.Job.FilesDir != filesDir || spec.Helper.FilesDir != "" || leases(t, ledger) != 1 {
		t.Errorf("%q, %q, %d leases", spec.Job.FilesDir, spec.Helper.FilesDir, leases(t, ledger))
	}
	for _, stage := range []string{"build_script", "step_script", "after_script", "step_release"} {
		s := j.stage(stage)
		if !slices.Contains(s.Env, "DATABASE_URL="+canary+"-exec") || !slices.Contains(s.Env, "API_KEY=/run/secrets/api_key") || !slices.Contains(s.Env, "CLEANROOM_SECRETS_DIR=/run/secrets") ||
			len(s.Files) != 1 || s.Files[0].Name != "api_key" || s.Files[0].Mode != 0o400 || string(s.Files[0].Data) != canary+"-file" {
			t.Errorf("%s: %+v", stage, s)
		}
	}
	for _, stage := range []string{"get_sources", "prepare_script", "archive_cache", "upload_artifacts_on_success"} {
		if s := j.stage(stage); len(s.Env)+len(s.Files) > 0 {
			t.Errorf("%s: %+v", stage, s)
		}
	}
	unseen(t, j)
	x := j.executor()
	if err := x.CleanupStage(t.Context()); err != nil || leases(t, ledger) != 0 || len(j.engine.wiped) != 1 {
		t.Errorf("%v, %d leases, %d wiped", err, leases(t, ledger), len(j.engine.wiped))
	}
	if err := x.CleanupStage(t.Context()); err != nil { // and again
		t.Error(err)
	}
	var left []string
	filepath.WalkDir(filepath.Dir(j.config.StateDir), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.Contains(path, "/leases/") || strings.Contains(path, "/sealed/")) {
			left = append(left, path)
		}
		return err
	})
	if len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	unseen(t, j)
}

// unseen fails for a value in a log, or on the disk but for where the
// provider itself keeps it.
func unseen(t *testing.T, j *job) {
	t.Helper()
	if strings.Contains(j.out.String()+j.log.String(), canary) {
		t.Errorf("a value is in a log:\n%s\n%s", &j.out, &j.log)
	}
	filepath.WalkDir(filepath.Dir(j.config.StateDir), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "/files/API_KEY") || strings.HasSuffix(path, "/issue") {
			return err
		}
		if b, err := os.ReadFile(path); err != nil || strings.Contains(string(b), canary) {
			t.Errorf("%s: a value, or %v", path, err)
		}
		return nil
	})
}

// TestSecretsAreHiddenInTheLog: the value that was given, and the parts that it
// was made of, in every stage's log.
func TestSecretsAreHiddenInTheLog(t *testing.T) {
	j, _ := withSecrets(t)
	j.config.Secrets[1].Deliver[0].Value = "pg://u:{{.value}}@db"
	j.spec()
	value := canary + "-exec"
	for _, stage := range []string{"build_script", "get_sources", "after_script"} {
		j.out.Reset()
		j.engine.prints = "url pg://u:" + value + "@db, password " + value + ", " + base64.StdEncoding.EncodeToString([]byte(value)) + ", " + canary + "-file, all else"
		j.stage(stage)
		if want := "url [cleanroom: DATABASE_URL], password [cleanroom: DATABASE_URL], [cleanroom: DATABASE_URL], [cleanroom: API_KEY], all else"; j.out.String() != want {
			t.Errorf("%s: %s", stage, &j.out)
		}
	}
	j.out.Reset()
	j.engine.prints = "ends with " + value[:12] // a long beginning
	if j.stage("build_script"); j.out.String() != "ends with [cleanroom: DATABASE_URL]" {
		t.Errorf("%s", &j.out)
	}
	// An error that quotes a service's last words.
	j.engine.made, j.engine.err = nil, fmt.Errorf("%w: it said: password is %s", sandbox.ErrUser, value)
	x := j.executor()
	err := x.PrepareStage(t.Context())
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "[cleanroom: DATABASE_URL]") || ExitCode(x.Call, err) != 55 {
		t.Errorf("%v", err)
	}
	unseen(t, j)
}

// TestSecretsForServicesAndHelpers: only where a rule says so.
func TestSecretsForServicesAndHelpers(t *testing.T) {
	j, _ := withSecrets(t)
	j.variables[SecretsVariable] = "WELL_KEY"
	spec := j.spec()
	want := "WELL_KEY=" + canary + "-file"
	for i, service := range spec.Services {
		if has := slices.Contains(service.Env, want); has != (i == 0) {
			t.Errorf("service %s: %t", service.Image, has)
		}
	}
	if s := j.stage("get_sources"); !slices.Contains(s.Env, want) {
		t.Errorf("%+v", s)
	}
	if s := j.stage("build_script"); len(s.Env) > 0 {
		t.Errorf("%+v", s)
	}
}

func TestSecretsAreRefused(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*job)
		code   int
		want   string
	}{
		"other project":         {func(j *job) { j.response["job_info"].(map[string]any)["project_full_path"] = "garden/gnome" }, 55, "garden/gnome"},
		"hint":                  {func(j *job) { j.response["job_info"].(map[string]any)["project_full_path"] = "garden/gnome" }, 55, "ask the gardener"},
		"unknown secret":        {func(j *job) { j.variables[SecretsVariable] = "API_KEY NOBODYS" }, 55, `secret "NOBODYS": this runner has none of that name`},
		"no rule":               {func(j *job) { j.config.Policy.Rules = j.config.Policy.Rules[1:] }, 55, "no rule grants secret"},
		"a variable's name":     {func(j *job) { j.config.Secrets[1].Deliver[0].Variable = "SEED_KEY" }, 55, "SEED_KEY is also a variable of the job"},
		"two of one name":       {func(j *job) { j.config.Secrets[1].Deliver[0].Variable = "API_KEY" }, 55, "API_KEY is also the name of secret API_KEY"},
		"not in the folder":     {func(j *job) { j.config.Secrets[0].Path = "OTHER" }, 55, "OTHER"},
		"too old":               {func(j *job) { j.config.Secrets[0].MaxAge = time.Nanosecond }, 55, "was not rotated for"},
		"age not known":         {func(j *job) { j.config.Secrets[1].MaxAge = time.Hour }, 55, "its age is not known"},
		"a rule that is broken": {func(j *job) { j.config.Policy.Rules[0].When = "projct_path == 'x'" }, 77, "project_path"},
		"unknown profile":       {func(j *job) { j.variables[IdentityVariable] = "produktion" }, 55, "produktion"},
		"image by rule":         {func(j *job) { j.config.Policy.Rules[0].Images = []string{"ruby:*"} }, 55, `image "registry.test:5000/tools/spade:2"`},
		"service by rule":       {func(j *job) { j.config.Policy.Rules[0].Services = []string{"ruby:*"} }, 55, `service "registry.test:5000/tools/well:3"`},
	} {
		t.Run(name, func(t *testing.T) {
			j, ledger := withSecrets(t)
			test.change(j)
			j.refused(test.code, test.want)
			if err := j.executor().CleanupStage(t.Context()); err != nil || leases(t, ledger) != 0 {
				t.Errorf("%v, %d leases", err, leases(t, ledger))
			}
			unseen(t, j)
		})
	}
}

// TestVariablesAreNoFacts: what a job's environment says of it earns nothing.
func TestVariablesAreNoFacts(t *testing.T) {
	j, _ := withSecrets(t)
	j.response["job_info"].(map[string]any)["project_full_path"] = "evil/twin"
	j.variables["CI_PROJECT_PATH"], j.variables["CI_PROJECT_ID"], j.variables["CI_COMMIT_REF_PROTECTED"] = "garden/shed", "12", "true"
	j.response["variables"] = append(j.response["variables"].([]any),
		map[string]any{"key": "CI_PROJECT_PATH", "value": "garden/shed"}, map[string]any{"key": "CI_COMMIT_REF_PROTECTED", "value": "true"})
	j.refused(55, "evil/twin")

	j, _ = withSecrets(t) // a runner that tells nothing: not known is not granted
	delete(j.response["job_info"].(map[string]any), "project_full_path")
	j.variables["CI_PROJECT_PATH"] = "garden/shed"
	j.refused(55, "project_path")
}

// TestProvidersHearNoVariable: for whom a secret is issued is a fact too.
func TestProvidersHearNoVariable(t *testing.T) {
	j, _ := withSecrets(t)
	issue := j.config.Providers[1].Exec.Command[0]
	if err := os.WriteFile(issue, []byte(`#!/bin/sh
echo "{\"value\":\"for project $CLEANROOM_PROJECT\"}"
`), 0o700); err != nil {
		t.Fatal(err)
	}
	delete(j.response["job_info"].(map[string]any), "project_full_path") // as under runner 17
	j.variables["CI_PROJECT_PATH"] = "bank/vault"
	j.config.Policy.Rules[0].When = "project_id == 12"
	j.spec()
	if s := j.stage("build_script"); !slices.Contains(s.Env, "DATABASE_URL=for project 12") {
		t.Errorf("%q", s.Env)
	}
	if text, err := os.ReadFile(filepath.Join(j.config.DataDir, "leases", testRoom+".jsonl")); err != nil || strings.Contains(string(text), "bank/vault") {
		t.Errorf("%v: %s", err, text)
	}
}

// TestRulesDemandIdentity for whatever they grant.
func TestRulesDemandIdentity(t *testing.T) {
	for name, change := range map[string]func(*job, *config.Rule){
		"secret":  func(_ *job, r *config.Rule) { r.Secrets = []string{"API_KEY", "DATABASE_URL"} },
		"image":   func(j *job, r *config.Rule) { r.Images = []string{"**"}; delete(j.variables, SecretsVariable) },
		"service": func(j *job, r *config.Rule) { r.Services = []string{"**"}; delete(j.variables, SecretsVariable) },
		"profile": func(j *job, r *config.Rule) {
			r.Profiles = []string{"compatible"}
			j.variables[ProfileVariable] = "compatible"
			delete(j.variables, SecretsVariable)
		},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := withSecrets(t)
			j.config.Identity = config.Identity{
				Issuers:  []config.Issuer{{URL: "https://gitlab.test", Audience: "a", Algorithms: []string{"RS256"}, KeysMaxAge: time.Hour}},
				Profiles: []config.TokenProfile{{Name: "production", Issuer: "https://gitlab.test", Audience: []string{"https://api.test"}}},
			}
			rule := config.Rule{Name: "demanding", When: "true", Identity: []string{"production"}}
			change(j, &rule)
			j.config.Policy.Rules = []config.Rule{rule}
			j.refused(55, "job has no ID token for identity profile production")
		})
	}
}

// TestCollisions: whoever set the variable, the secret does not lose silently.
func TestCollisions(t *testing.T) {
	for name, change := range map[string]func(*job){
		"of the runner's configuration": func(j *job) { j.variables["DATABASE_URL"] = "stale" },
		"GitLab's own secrets":          func(j *job) { j.response["secrets"] = map[string]any{"DATABASE_URL": map[string]any{"file": false}} },
		"the folder's":                  func(j *job) { j.variables["CLEANROOM_SECRETS_DIR"] = "/evil" },
		"a service's": func(j *job) {
			j.variables[SecretsVariable] = "WELL_KEY"
			service := j.response["services"].([]any)[0].(map[string]any)
			service["variables"] = []any{map[string]any{"key": "WELL_KEY", "value": "stale"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			j, _ := withSecrets(t)
			change(j)
			j.refused(55, "variable")
		})
	}
}

// TestAllThatIsWrongIsSaid in one try.
func TestAllThatIsWrongIsSaid(t *testing.T) {
	j, _ := withSecrets(t)
	j.config.Secrets[0].Path, j.config.Secrets[1].MaxAge = "NOWHERE", time.Hour
	err := j.executor().PrepareStage(t.Context())
	for _, want := range []string{"secret API_KEY: ", "NOWHERE", "secret DATABASE_URL: ", "its age is not known"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestSofterProfile: only a rule can grant one.
func TestSofterProfile(t *testing.T) {
	j, _ := withSecrets(t)
	j.config.Policy.Rules[0].Profiles = []string{"compatible"}
	j.variables[ProfileVariable] = "compatible"
	if got := j.spec().Profile; got != sandbox.Compatible {
		t.Error(got)
	}
	j, _ = withSecrets(t)
	j.config.Policy.Rules[0].Profiles = []string{"compatible"}
	j.config.Policy.Rules[0].When = `ref == "nowhere"`
	j.variables[ProfileVariable] = "compatible"
	j.refused(55, "rule shed")
}

// TestPrepareTwice: the runner tries again without a cleanup, and what the
// first try was given is taken back.
func TestPrepareTwice(t *testing.T) {
	j, ledger := withSecrets(t)
	j.engine.err = errors.New("engine is away")
	if err := j.executor().PrepareStage(t.Context()); err == nil || leases(t, ledger) != 1 {
		t.Fatalf("%v, %d leases", err, leases(t, ledger))
	}
	j.engine.err = nil
	if err := j.executor().PrepareStage(t.Context()); err != nil || leases(t, ledger) != 1 {
		t.Errorf("%v, %d leases", err, leases(t, ledger))
	}
	if err := j.executor().CleanupStage(t.Context()); err != nil || leases(t, ledger) != 0 {
		t.Errorf("%v, %d leases", err, leases(t, ledger))
	}
}

func TestSecretsExitCodes(t *testing.T) {
	call := newJob(t, "19.3").executor().Call
	for err, want := range map[error]int{
		secret.ErrRefused: 55, identity.ErrToken: 55, identity.ErrDisagree: 55, ErrDenied: 55,
		identity.ErrIssuer: 77, secret.ErrLocked: 77, hostkey.ErrLoose: 77,
		oneLine([]error{errors.New("a"), ErrDenied}): 55,
	} {
		if got := ExitCode(call, err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
}
