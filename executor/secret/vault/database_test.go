package vault

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/secret"
)

// database is a PostgreSQL in a container, at an address of this host alone.
type database struct {
	name, address string
	admin         string // password
}

// theDatabase is made by the first test that needs one.
var theDatabase *database

func docker(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

func postgres(t *testing.T) *database {
	t.Helper()
	if theDatabase != nil {
		return theDatabase
	}
	// Below the ports that the kernel gives to whoever asks for any.
	port := ""
	for port == "" {
		try := fmt.Sprint(20000 + mathrand.IntN(12000))
		if free, err := net.Listen("tcp", "127.0.0.1:"+try); err == nil {
			free.Close()
			port = try
		}
	}
	address := "127.0.0.1:" + port
	theDatabase = &database{name: "vault-test-" + strings.ToLower(rand.Text()[:8]), address: address, admin: rand.Text()}
	d := theDatabase
	env := write(t, "POSTGRES_PASSWORD="+d.admin+"\n", 0o600)
	if _, err := docker("run", "--detach", "--name", d.name, "--network", "host", "--env-file", env, "--tmpfs", "/var/lib/postgresql/data:mode=0777",
		"cleanroom/postgres", "postgres", "-c", "listen_addresses=127.0.0.1", "-c", "port="+port); err != nil {
		t.Fatal(err)
	}
	for range 600 {
		// The port is the server's that stays, and not that which made the
		// database; when it opens, that one may still be starting up.
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			if _, err := d.ask("select 1"); err == nil {
				return d
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	log, _ := docker("logs", d.name)
	t.Fatalf("PostgreSQL does not come up: %s", log)
	return nil
}

func removeDatabase() {
	if theDatabase != nil {
		if _, err := docker("rm", "--force", "--volumes", theDatabase.name); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// query runs SQL over the container's own socket.
func (d *database) query(t *testing.T, sql string) string {
	t.Helper()
	out, err := d.ask(sql)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (d *database) ask(sql string) (string, error) {
	_, port, _ := net.SplitHostPort(d.address)
	return docker("exec", d.name, "psql", "-AtqX", "-h", "/tmp", "-p", port, "-U", "postgres", "-c", sql)
}

func (d *database) has(t *testing.T, role string) bool {
	t.Helper()
	return d.query(t, "select rolname from pg_roles where rolname = '"+role+"'") == role
}

// engine has the server make roles in the database, of an hour by default.
func (d *database) engine(t *testing.T) {
	t.Helper()
	shared.write(t, "sys/mounts/database", map[string]any{"type": "database"})
	t.Cleanup(func() {
		if _, err := shared.ask("DELETE", "sys/mounts/database", nil); err != nil {
			t.Error(err)
		}
	})
	shared.write(t, "database/config/shop", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": []string{"*"}, "username": "postgres", "password": d.admin,
		"connection_url": "postgresql://{{username}}:{{password}}@" + d.address + "/postgres?sslmode=disable",
	})
	for role, life := range map[string][2]int{"shop": {7200, 86400}, "short": {300, 600}} {
		shared.write(t, "database/roles/"+role, map[string]any{
			"db_name": "shop", "default_ttl": life[0], "max_ttl": life[1],
			"creation_statements": []string{`CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';`},
		})
	}
}

func TestDatabase(t *testing.T) {
	d := postgres(t)
	d.engine(t)
	for name, vaultRole := range map[string]string{"a policy that may revoke": "shop", "Vault's default policy": "plain"} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, shared, vaultRole)
			issued := j.must("database/creds/shop")
			user := issued.Fields["username"]
			if issued.Fields["password"] == "" || !d.has(t, user) {
				t.Fatalf("role %s is not there", user)
			}
			lease := j.leases[1]
			if len(j.leases) != 2 || !lease.Renewable || !strings.HasPrefix(lease.ID, "database/creds/shop/") {
				t.Fatalf("journal of %d, lease %s", len(j.leases), lease.ID)
			}
			// Two hours by default, and the job has one: both Vault and
			// PostgreSQL end it then, should nobody revoke it.
			if !issued.Expires.Equal(j.until) {
				t.Errorf("it expires at %s, the job at %s", issued.Expires, j.until)
			}
			valid := d.query(t, "select extract(epoch from rolvaliduntil)::bigint from pg_roles where rolname = '"+user+"'")
			var at int64
			if _, err := fmt.Sscan(valid, &at); err != nil || time.Unix(at, 0).After(j.until.Add(time.Minute)) {
				t.Errorf("PostgreSQL takes it until %s, the job ends at %s", time.Unix(at, 0), j.until)
			}

			if err := j.revoke(lease); err != nil {
				t.Fatal(err)
			}
			if d.has(t, user) || shared.leased(t, lease.ID) {
				t.Error("the role is there after it was revoked")
			}
			if err := j.revoke(lease); err != nil {
				t.Errorf("revoking twice: %v", err)
			}
			if err := j.revoke(j.leases[0]); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestRenewRole(t *testing.T) {
	d := postgres(t)
	d.engine(t)
	j := newJob(t, shared, "shop")
	began := time.Now()
	issued := j.must("database/creds/short") // 5 minutes, and 10 at most
	had := time.Now()
	if !between(issued.Expires, began.Add(5*time.Minute), had.Add(5*time.Minute)) {
		t.Fatalf("it lives until %s, from %s", issued.Expires, began)
	}
	expires, err := provider(t, j.config).Renew(t.Context(), j.leases[1], j.until)
	if err != nil {
		t.Fatal(err)
	}
	if !between(expires, began.Add(10*time.Minute), had.Add(10*time.Minute)) {
		t.Errorf("renewed, it lives until %s, from %s: max_ttl is 10 min", expires, began)
	}
	if err := j.revoke(j.leases[1]); err != nil || d.has(t, issued.Fields["username"]) {
		t.Errorf("revoke: %v", err)
	}
	_, err = provider(t, j.config).Renew(t.Context(), j.leases[1], j.until)
	refuses(t, err, []string{issued.Fields["password"]}, j.leases[1].ID)
}

// The database is down when the job ends: the lease is not told as revoked.
func TestDatabaseDown(t *testing.T) {
	d := postgres(t)
	d.engine(t)
	j := newJob(t, shared, "shop")
	user := j.must("database/creds/shop").Fields["username"]
	if _, err := docker("pause", d.name); err != nil {
		t.Fatal(err)
	}
	stopped := true
	resume := func() {
		if _, err := docker("unpause", d.name); err != nil {
			t.Error(err)
		}
		stopped = false
	}
	defer func() {
		if stopped {
			resume()
		}
	}()
	j.config.Timeout = time.Second
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := provider(t, j.config).Revoke(ctx, j.leases[1])
	if errors.Is(err, secret.ErrNotRevocable) || errors.Is(err, secret.ErrRefused) {
		t.Errorf("error %v", err)
	}
	tells(t, err, []string{string(j.leases[0].Credential)}, j.leases[1].ID)
	resume()
	j.config.Timeout = time.Minute
	if err := j.revoke(j.leases[1]); err != nil || d.has(t, user) {
		t.Errorf("when it is back: %v", err)
	}
}
