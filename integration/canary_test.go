package integration

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cleanroom/executor/identity/idptest"
	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/hunt"
	"cleanroom/integration/rig"
)

// sources are one provider of each kind, each with a value that is nowhere
// else on the machine.
type sources struct {
	t        *testing.T
	dir      string
	canaries map[string]string // by the secret's name
	config   strings.Builder
	idp      *idptest.Provider
}

func (s *sources) canary(name string) string {
	s.canaries[name] = "canary-" + strings.ToLower(name) + "-" + rand.Text()
	return s.canaries[name]
}

// add configures a provider and a secret of it, delivered both ways.
func (s *sources) add(name, kind, table, secret, value string) {
	fmt.Fprintf(&s.config, `
[[provider]]
name = %[1]q
kind = %[1]q
%[2]s
[[secret]]
name = %[3]q
provider = %[1]q
%[4]s
[[secret.deliver]]
variable = "%[3]s_ENV"
%[5]s
[[secret.deliver]]
as = "file"
variable = "%[3]s_FILE"
%[5]s
`, kind, table, name, secret, value)
}

func newSources(t *testing.T) *sources {
	s := &sources{t: t, dir: t.TempDir(), canaries: map[string]string{}, idp: idptest.New(t)}
	s.idp.AddClient("cleanroom", "client-secret")
	ca := s.write("ca.pem", string(s.idp.CA()), 0o600)
	s.write("folder/FILE", s.canary("FILE"), 0o400)
	program := s.write("issue", "#!/bin/sh\necho '{\"value\":\""+s.canary("EXEC")+"\"}'\n", 0o700)
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>AKIAEXAMPLE</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>session-token-of-a-test</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>`+
			`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, s.canaries["AWS"])
	}))
	t.Cleanup(sts.Close)
	s.canary("AWS")
	s.canary("STORE")

	vault := startVault(t)
	ctx := t.Context()
	if err := errors.Join(vault.TrustGitLab(ctx, theRig), vault.Put(ctx, "shop/api", map[string]any{"key": s.canary("VAULT")}),
		vault.Role(ctx, "shop", project, `path "secret/data/shop/*" { capabilities = ["read"] }`)); err != nil {
		t.Fatal(err)
	}

	fmt.Fprintf(&s.config, "[[identity.issuer]]\nurl = %q\naudience = \"https://cleanroom.test\"\nplain_http = true\n[[policy.rule]]\nname = \"all\"\nwhen = 'project_path == \"shop/items\"'\nsecrets = [\"*\"]\n", theRig.URL)
	s.add("STORE", "store", "", "", "")
	s.add("VAULT", "vault", fmt.Sprintf("[provider.vault]\naddress = %q\nca_file = %q\nrole = \"shop\"\ntoken = \"VAULT_ID_TOKEN\"", vault.URL, vault.CA), `path = "secret/shop/api"`, "")
	s.add("FILE", "file", fmt.Sprintf("[provider.file]\ndir = %q", filepath.Join(s.dir, "folder")), "", "")
	s.add("EXEC", "exec", fmt.Sprintf("[provider.exec]\ncommand = [%q]", program), "", "")
	s.add("AWS", "aws", fmt.Sprintf("[provider.aws]\nregion = \"eu-central-1\"\nendpoint = %q\ntoken = \"AWS_ID_TOKEN\"", sts.URL),
		"path = \"arn:aws:iam::123456789012:role/shop\"", "value = \"{{.secret_access_key}}\"")
	s.add("OIDC", "oidc", fmt.Sprintf("[provider.oidc]\nissuer = %q\nca_file = %q\ngrant = \"client_credentials\"\nclient_id = \"cleanroom\"\nclient_secret_file = %q",
		s.idp.URL, ca, s.write("client-secret", "client-secret", 0o400)), "", "value = \"{{.access_token}}\"")
	return s
}

func (s *sources) write(name, text string, mode os.FileMode) string {
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// names of the secrets, sorted.
func (s *sources) names() []string {
	names := []string{"OIDC"} // known only when it was issued
	for name := range s.canaries {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestNoValueIsAnywhereButInItsRoom: while a job has a value of every
// provider, as variables and as files, in script and after_script, and after
// it, nothing on the machine holds one but the processes of its own stages
// (and the sources, which are this test's).
func TestNoValueIsAnywhereButInItsRoom(t *testing.T) {
	from := newSources(t)
	s := install(t, rig.RunnerOptions{Config: from.config.String() + "[log]\nlevel = \"debug\"\nfile = " + fmt.Sprintf("%q\n", from.write("driver.log", "", 0o600))})
	seed := from.write("seed", from.canaries["STORE"], 0o600)
	s.cleanroom("secret", "set", "STORE", "--from-file", seed)
	if err := os.Remove(seed); err != nil {
		t.Fatal(err)
	}

	ctx := t.Context()
	engine := hunt.At(hunt.LocalSocket)
	recorder, err := hunt.Record(ctx, engine, "/tmp", s.runner.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	check := "set -eu\n"
	for _, name := range from.names() {
		check += fmt.Sprintf("[ ${#%[1]s_ENV} -ge 20 ]; [ \"$%[1]s_ENV\" = \"$(cat \"$%[1]s_FILE\")\" ]\n", name)
	}
	pause := func(mark string) string {
		return "echo " + mark + " is here; while [ ! -e /builds/" + mark + " ]; do sleep 0.2; done"
	}
	id := s.submit(gitlab.JobSpec{
		Project: project, IDTokens: map[string][]string{"AWS_ID_TOKEN": {"sts.test"}, "VAULT_ID_TOKEN": {rig.VaultAudience}}, Variables: asking(strings.Join(from.names(), ",")),
		Services: []gitlab.Image{{Name: "cleanroom/postgres", Alias: "db", Variables: []gitlab.Variable{{Key: "POSTGRES_PASSWORD", Value: "only-for-tests"}}}},
		Script:   []string{check, pause("script")}, AfterScript: []string{check, pause("after")},
	})
	for _, mark := range []string{"script", "after"} {
		s.until(id, mark+" is here")
		if mark == "script" {
			from.canaries["OIDC"] = from.idp.Grants()[0].AccessToken
		}
		from.during(ctx, s, id, engine)
		if out, err := exec.Command("docker", "exec", s.container(id, "job"), "touch", "/builds/"+mark).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	r := s.wait(id)
	r.is(t, job.Success, "", 0)
	if err := recorder.Stop(); err != nil {
		t.Error(err)
	}

	h := hunt.New(from.canaries)
	from.machine(ctx, s, h, engine)
	log, err := os.ReadFile(filepath.Join(from.dir, "driver.log"))
	if err != nil || !strings.Contains(string(log), "secret issued") {
		t.Errorf("%v: %s", err, log)
	}
	for name, text := range map[string]string{"job's log": r.log, "runner's log": s.runner.Words(), "driver's log": string(log)} {
		if err := h.Text(name, text); err != nil {
			t.Error(err)
		}
	}
	if err := h.Recorded(ctx, recorder); err != nil {
		t.Error(err)
	}
	report := h.Report()
	t.Logf("after the job: %s", report)
	if len(report.Finds) > 0 || report.Files < 1000 || report.Documents < 50 || report.Processes < 5 || recorder.Events() < 10 {
		t.Errorf("after the job: %s, %d events", report, recorder.Events())
	}
	if g := from.idp.Grants(); len(g) != 1 || !g[0].Revoked {
		t.Errorf("the access token lives on: %+v", len(g))
	}

	// The hunt can find: one value in one file.
	planted := hunt.New(from.canaries)
	plant := from.write("planted", "x="+from.canaries["EXEC"], 0o600)
	from.machine(ctx, s, planted, engine, plant)
	if found := planted.Report().In("EXEC", "planted"); len(found) == 0 {
		t.Error("the hunt does not find what was planted: it proves nothing")
	}
}

// during searches all but the room's own job container.
func (s *sources) during(ctx context.Context, at *site, id int64, engine *hunt.Engine) {
	s.t.Helper()
	h := hunt.New(s.canaries)
	room := s.pid(ctx, engine, at.container(id, "job"))
	s.machine(ctx, at, h, engine)
	for _, role := range []string{"helper", "service"} {
		if err := h.Inside(ctx, s.pid(ctx, engine, at.container(id, role))); err != nil {
			s.t.Error(err)
		}
	}
	daemons, err := hunt.Daemons()
	if err != nil {
		s.t.Error(err)
	}
	for name, pids := range daemons {
		if err := h.Memory(ctx, pids...); err != nil {
			s.t.Errorf("memory of %s: %v", name, err)
		}
	}
	report := h.Report()
	s.t.Logf("during the job: %s", report)
	if len(report.Finds) > 0 || report.Files < 1000 || report.Processes < 5 {
		s.t.Errorf("during the job: %s", report)
	}
	// And the job's own processes do hold them.
	inside := hunt.New(s.canaries)
	if err := inside.Inside(ctx, room); err != nil {
		s.t.Error(err)
	}
	for _, name := range s.names() {
		if len(inside.Report().In(name, "/run/secrets")) == 0 {
			s.t.Errorf("the job's container does not hold %s: the hunt proves nothing", name)
		}
	}
}

// machine searches what every process of the host can reach, less what this
// test itself keeps, and what has no value of a job by its nature.
func (s *sources) machine(ctx context.Context, at *site, h *hunt.Hunt, engine *hunt.Engine, but ...string) {
	s.t.Helper()
	files := hunt.FileScope{In: []string{at.runner.StateDir(), at.runner.DataDir(), at.runner.TempDir()}}
	leave := func(reason string, paths ...string) {
		for _, path := range paths {
			if _, err := os.Stat(path); err == nil {
				files.Except = append(files.Except, hunt.Except{What: path, Reason: reason})
			}
		}
	}
	leave("the sources' own", filepath.Join(s.dir, "folder"), filepath.Join(s.dir, "issue"))
	if len(but) == 0 {
		leave("planted", filepath.Join(s.dir, "planted"))
	}
	leave("caches of toolchains, too large to search", "/root/go", "/root/.cache")
	for _, part := range []string{"images", "runner", "runsc", "vault"} { // and not its dockerd.log
		leave("built before any job, too large to search", filepath.Join(os.Getenv("TEST_CACHE"), part))
	}
	processes := hunt.ProcessScope{}
	for _, container := range strings.Fields(command(s.t, "docker", "ps", "--quiet", "--filter", "label=cleanroom.role=job")) {
		processes.Rooms = append(processes.Rooms, s.pid(ctx, engine, container))
	}
	for _, what := range strings.FieldsFunc(os.Getenv("HUNT_EXCEPT"), func(r rune) bool { return r == ',' }) {
		if strings.HasPrefix(what, "/") {
			leave("HUNT_EXCEPT", what)
		} else {
			processes.Except = append(processes.Except, hunt.Except{What: what, Reason: "HUNT_EXCEPT"})
		}
	}
	if err := h.Machine(ctx, engine, files, processes); err != nil {
		s.t.Error(err)
	}
}

func (s *sources) pid(ctx context.Context, engine *hunt.Engine, container string) int {
	s.t.Helper()
	pid, err := engine.Room(ctx, container)
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// container is the ID of a room's container by its role.
func (s *site) container(id int64, role string) string {
	s.t.Helper()
	found, err := s.rig.Find(s.t.Context(), id, "ps", "--no-trunc", "--filter", "label=cleanroom.role="+role)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(found) != 1 {
		s.t.Fatalf("%d containers of role %s", len(found), role)
	}
	return found[0]
}
