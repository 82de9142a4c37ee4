package integration

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// vaulted is a site whose secrets come from a Vault, which makes users of a
// PostgreSQL.
type vaulted struct {
	*site
	vault    *rig.Vault
	postgres *rig.Postgres
}

// startVault starts a Vault that the runner reaches, for one test.
func startVault(t *testing.T) *rig.Vault {
	t.Helper()
	v, err := rig.StartVault(t.Context(), theRig.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Stop(); err != nil {
			t.Error(err)
		}
	})
	return v
}

// withVault: the shop's project may have a user of the database, which lives
// for ttl and twice as long when it is renewed. Vault itself knows the shop
// only, the policy lets everybody ask for OTHER.
func withVault(t *testing.T, ttl time.Duration, more string) *vaulted {
	t.Helper()
	ctx := t.Context()
	v := &vaulted{vault: startVault(t)}
	var err error
	if v.postgres, err = rig.StartPostgres(ctx, theRig.Address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.postgres.Stop(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(
		v.vault.TrustGitLab(ctx, theRig), v.vault.Database(ctx, v.postgres, "shop", ttl), v.vault.Put(ctx, "shop/api", map[string]any{"key": "canary-of-the-kv-store"}),
		v.vault.Role(ctx, "shop", project, `path "database/creds/shop" { capabilities = ["read"] }
path "secret/data/shop/*" { capabilities = ["read"] }`),
	); err != nil {
		t.Fatal(err)
	}
	v.site = install(t, rig.RunnerOptions{Config: fmt.Sprintf(`
[[identity.issuer]]
url = %q
audience = "https://cleanroom.test"
plain_http = true
[[provider]]
name = "vault"
kind = "vault"
[provider.vault]
address = %q
ca_file = %q
role = "shop"
token = "VAULT_ID_TOKEN"
[[secret]]
name = "DATABASE_URL"
provider = "vault"
path = "database/creds/shop"
[[secret.deliver]]
value = "postgresql+psycopg2://{{.username}}:{{.password | urlquery}}@%s/shop"
[[secret]]
name = "API_KEY"
provider = "vault"
path = "secret/shop/api"
[[secret]]
name = "OTHER"
provider = "vault"
path = "database/creds/shop"
[[secret.deliver]]
value = "{{.password}}"
[[policy.rule]]
name = "shop"
when = 'project_path == "shop/items"'
secrets = ["DATABASE_URL", "API_KEY"]
hint = "the shop's database is the shop's"
[[policy.rule]]
name = "everybody"
when = "true"
secrets = ["OTHER"]
%s`, theRig.URL, v.vault.URL, v.vault.CA, v.postgres.Address, more)})
	return v
}

// spec is a job that asks for the database.
func (v *vaulted) spec(script ...string) gitlab.JobSpec {
	return gitlab.JobSpec{Project: project, IDTokens: map[string][]string{"VAULT_ID_TOKEN": {rig.VaultAudience}},
		Variables: asking("DATABASE_URL,API_KEY"), Script: script}
}

// roles of the database that are there now.
func (v *vaulted) roles() []string {
	v.t.Helper()
	roles, err := v.postgres.Roles(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	return roles
}

// revoked fails the test for what Vault still has out.
func (v *vaulted) revoked() {
	v.t.Helper()
	v.ended()
	if tokens, err := v.vault.Tokens(v.t.Context()); err != nil || len(tokens) > 0 {
		v.t.Errorf("logins live on: %q, %v", tokens, err)
	}
}

// ended is revoked, but for a login of which a killed prepare never heard.
func (v *vaulted) ended() {
	v.t.Helper()
	ctx := v.t.Context()
	leases, err := v.vault.Leases(ctx, "database/creds/shop")
	if roles := v.roles(); err != nil || len(roles)+len(leases) > 0 {
		v.t.Errorf("%v: the database has the users %q, Vault the leases %q", err, roles, leases)
	}
}

const connect = `python3 -c 'import os, sqlalchemy as s; print("the database says", s.create_engine(os.environ["DATABASE_URL"]).connect().execute(s.text("select current_user")).scalar())'`

// TestDatabaseUserOfAJob: it is made for the job, is used by the sample's
// tests, and is gone afterwards, however the job ended.
func TestDatabaseUserOfAJob(t *testing.T) {
	v := withVault(t, time.Hour, graceful)
	hold := []string{connect, "echo holding; sleep 600"}
	t.Run("success", func(t *testing.T) {
		v := v.in(t)
		r := v.run(v.spec("python3 -m pytest -q tests/test_items.py", connect, `echo "the api key has $(printenv API_KEY | wc -c)"`))
		r.is(t, job.Success, "", 0)
		r.says(t, "[100%]", "the database says v-", "the api key has 23", "Secret DATABASE_URL: granted by rule shop, from vault (", "revoked after the job)",
			"Secret API_KEY: granted by rule shop, from vault (version 1, rotated ", "not issued for this job alone: it stays good)")
		r.hides(t, "canary-of-the-kv-store")
		v.revoked()
	})
	t.Run("cancelled", func(t *testing.T) {
		v := v.in(t)
		id := v.submit(v.spec(hold...))
		v.until(id, "holding")
		if n := len(v.roles()); n != 1 {
			t.Errorf("%d users while the job runs", n)
		}
		if err := theRig.Cancel(t.Context(), id, false); err != nil {
			t.Fatal(err)
		}
		if r := v.wait(id); r.State != job.Canceled {
			t.Errorf("%s\n%s", r.State, r.log)
		}
		v.revoked()
	})
	t.Run("timed out", func(t *testing.T) {
		v := v.in(t)
		spec := v.spec(hold...)
		spec.Timeout = 15 * time.Second
		r := v.run(spec)
		r.says(t, "holding")
		if r.FailureReason != "job_execution_timeout" {
			t.Errorf("%s %s\n%s", r.State, r.FailureReason, r.log)
		}
		v.revoked()
	})
	t.Run("denied", func(t *testing.T) {
		v := v.in(t)
		if _, err := theRig.AddProject(t.Context(), gitlab.Project{Path: "evil/items", Dir: "sample"}); err != nil {
			t.Fatal(err)
		}
		spec := v.spec("echo the script ran")
		spec.Project = "evil/items"
		r := v.run(spec)
		r.is(t, job.Failed, "script_failure", 1)
		r.says(t, `secret "DATABASE_URL"`, "rule shop", `"evil/items"`, "the shop's database is the shop's")
		r.hides(t, "the script ran")
		spec.Variables = asking("OTHER") // the policy lets it, Vault does not
		r = v.run(spec)
		r.is(t, job.Failed, "script_failure", 1)
		r.says(t, "secret OTHER", "vault", "project_path")
		v.revoked()
	})
}

// in is the same site, in a part of the test.
func (v *vaulted) in(t *testing.T) *vaulted {
	s := *v.site
	s.t = t
	return &vaulted{&s, v.vault, v.postgres}
}

// TestRunnerIsKilledWithALease: nobody calls cleanup; reap needs neither the
// runner's memory nor the job's key.
func TestRunnerIsKilledWithALease(t *testing.T) {
	v := withVault(t, time.Hour, graceful)
	id := v.submit(v.spec(connect, "echo holding; sleep 600"))
	v.until(id, "holding")
	if out := v.cleanroom("reap"); strings.Contains(out, "revoked") || len(v.roles()) != 1 {
		t.Errorf("reap ended a job that runs: %s", out)
	}
	if err := v.runner.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = v.runner.Wait()
	v.vault.Down()
	if out, err := v.tryCleanroom("reap"); err == nil {
		t.Errorf("reap says that all is well while Vault is down: %s", out)
	}
	if err := v.vault.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if out := v.cleanroom("reap"); !strings.Contains(out, "revoked 3 of 3 leases") && !strings.Contains(out, "revoked 2 of 2 leases") {
		t.Errorf("reap says %s", out)
	}
	v.revoked()
	for v.running("cleanroom") {
		time.Sleep(100 * time.Millisecond)
	}
	v.runnerLeftNothing()
}

// TestReapAfterAFailedCleanup: Vault was away; the runner lives on, and reap
// does not wait for its end.
func TestReapAfterAFailedCleanup(t *testing.T) {
	v := withVault(t, time.Hour, "")
	gate := newGate(t)
	id := v.submit(v.spec(connect, "echo holding", gate.line()))
	v.until(id, "holding")
	v.vault.Down()
	gate.open()
	v.wait(id)
	if err := v.vault.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(v.roles()); n != 1 {
		t.Errorf("%d users of the database after a cleanup without Vault", n)
	}
	if list := v.cleanroom("room", "list"); !strings.Contains(list, fmt.Sprint(id)) {
		t.Errorf("the room is not listed: %s", list)
	}
	if out := v.cleanroom("reap"); !strings.Contains(out, "revoked") {
		t.Errorf("reap says %q", out)
	}
	v.revoked()
}

// TestPrepareIsKilledAnywhere: at whatever instant, what Vault gave until then
// is taken back.
func TestPrepareIsKilledAnywhere(t *testing.T) {
	v := withVault(t, time.Hour, "")
	b, all := newBox(t), 0
	for round := range 4 {
		if !b.open(fmt.Sprint("round ", round)) {
			continue
		}
		id := v.submit(v.spec(connect))
		killed := v.killAnywhere(id, "prepare", 2)
		r := v.wait(id)
		t.Logf("prepare was killed %d times, the job ended as %s", killed, r.State)
		v.ended()
		all += killed
	}
	if all == 0 {
		t.Error("prepare was never killed")
	}
}

// TestCleanupIsKilledAnywhere: once it has begun, reap ends what it did not;
// before that only the runner's end, or the deadline, says that the job is over.
func TestCleanupIsKilledAnywhere(t *testing.T) {
	v := withVault(t, time.Hour, "")
	b, all := newBox(t), 0
	for round := range 4 {
		if !b.open(fmt.Sprint("round ", round)) {
			continue
		}
		id := v.submit(v.spec(connect))
		killed := v.killAnywhere(id, "cleanup", 1)
		r := v.wait(id)
		out := v.cleanroom("reap")
		t.Logf("cleanup was killed %d times, the job ended as %s, reap says %q", killed, r.State, out)
		all += killed
	}
	if all == 0 {
		t.Error("cleanup was never killed")
	}
	if err := v.runner.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = v.runner.Wait()
	v.cleanroom("reap")
	v.revoked()
	v.runnerLeftNothing()
}

// killAnywhere kills a command of the driver at random instants of its life,
// at most so many times, until the job is over.
func (s *site) killAnywhere(id int64, command string, most int) (killed int) {
	s.t.Helper()
	for killed < most {
		if pid := s.driver(command); pid > 0 {
			time.Sleep(upTo(s.luck, 400*time.Millisecond))
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
		st, err := theRig.Job(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		if st.State.Final() {
			break
		}
	}
	return killed
}

// TestLeaseIsRenewed while a stage runs longer than it lives.
func TestLeaseIsRenewed(t *testing.T) {
	v := withVault(t, 20*time.Second, "")
	r := v.run(v.spec(connect, "sleep 25", connect))
	r.is(t, job.Success, "", 0)
	if n := strings.Count(r.log, "the database says v-"); n != 2 {
		t.Errorf("the database let the job in %d times\n%s", n, r.log)
	}
	v.revoked()
}
