package rig

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Postgres is a real PostgreSQL, Debian's, in a container on the host's
// network. Its data is in memory.
type Postgres struct {
	Address string // host:port
	Admin   string // connection string of a superuser

	name, user, password, database string
}

// StartPostgres starts one that listens on a free port of host, an IP address
// of this machine. Stop removes all of it.
func StartPostgres(ctx context.Context, host string) (*Postgres, error) {
	address, err := freeAddress(host)
	if err != nil {
		return nil, err
	}
	p := &Postgres{
		Address: address, name: "standin-postgres-" + strings.ToLower(rand.Text()[:8]),
		user: "admin", password: rand.Text(), database: "shop",
	}
	p.Admin = fmt.Sprintf("postgresql://%s:%s@%s/%s", p.user, p.password, p.Address, p.database)
	if err := p.begin(ctx); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

func (p *Postgres) begin(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "cleanroom-postgres-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	env := filepath.Join(dir, "env")
	text := fmt.Sprintf("POSTGRES_USER=%s\nPOSTGRES_PASSWORD=%s\nPOSTGRES_DB=%s\n", p.user, p.password, p.database)
	if err := os.WriteFile(env, []byte(text), 0o600); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		return err
	}
	if _, err := docker(ctx, "run", "--detach", "--name", p.name, "--label", "standin=1", "--network", "host", "--env-file", env,
		"--tmpfs", "/var/lib/postgresql/data:mode=0777", "cleanroom/postgres", "postgres", "-c", "listen_addresses="+host, "-c", "port="+port); err != nil {
		return err
	}
	for range 600 {
		// The port is the server's that stays, and not that which made the
		// database; when it opens, that one may still be starting up.
		if c, err := net.DialTimeout("tcp", p.Address, time.Second); err == nil {
			c.Close()
			if _, err := p.Query(ctx, "select 1"); err == nil {
				return nil
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	words, _ := docker(ctx, "logs", p.name)
	return fmt.Errorf("PostgreSQL does not come up: %s", words)
}

// Query runs SQL as the superuser, over the container's own socket, and
// returns a line for each row.
func (p *Postgres) Query(ctx context.Context, sql string) ([]string, error) {
	_, port, err := net.SplitHostPort(p.Address)
	if err != nil {
		return nil, err
	}
	out, err := docker(ctx, "exec", p.name, "psql", "-AtqX", "-v", "ON_ERROR_STOP=1", "-h", "/tmp", "-p", port, "-U", p.user, "-d", p.database, "-c", sql)
	return lines(out), err
}

// Roles are the names of all roles but those that PostgreSQL has by itself
// and the superuser.
func (p *Postgres) Roles(ctx context.Context) ([]string, error) {
	return p.Query(ctx, `SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND NOT rolsuper ORDER BY rolname`)
}

// Stop removes the container; it may be called twice.
func (p *Postgres) Stop() error {
	_, err := docker(context.Background(), "rm", "--force", "--volumes", p.name)
	return err
}
