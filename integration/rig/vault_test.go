package rig

import (
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab"
)

// What tests of cleanroom rely on: Vault makes roles in PostgreSQL, takes
// them away even when they own something, and keeps what it knows while it is down.
func TestVaultAndPostgres(t *testing.T) {
	ctx := t.Context()
	v, err := StartVault(ctx, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Stop(); err != nil {
			t.Error(err)
		}
	}()
	p, err := StartPostgres(ctx, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if err := v.Database(ctx, p, "shop", time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := v.Database(ctx, p, "other", time.Minute); err != nil {
		t.Fatal(err)
	}
	answer, err := v.Read(ctx, "database/creds/shop")
	if err != nil {
		t.Fatal(err)
	}
	user := answer["data"].(map[string]any)["username"].(string)
	roles, err := p.Roles(ctx)
	if err != nil || !slices.Equal(roles, []string{user}) {
		t.Fatalf("roles %q, %v; want %s", roles, err, user)
	}
	if _, err := p.Query(ctx, `SET ROLE "`+user+`"; CREATE TABLE items (id int)`); err != nil {
		t.Fatal(err)
	}

	url := v.URL
	v.Down()
	if _, err := v.Read(ctx, "sys/health"); err == nil {
		t.Error("Vault answers while it is down")
	}
	if err := v.Up(ctx); err != nil || v.URL != url {
		t.Fatalf("up again at %s, %v; want %s", v.URL, err, url)
	}
	leases, err := v.Leases(ctx, "database/creds/shop")
	if err != nil || len(leases) != 1 || !strings.HasSuffix(answer["lease_id"].(string), leases[0]) {
		t.Fatalf("leases %q, %v", leases, err)
	}
	if _, err := v.Write(ctx, "sys/leases/revoke", map[string]any{"lease_id": answer["lease_id"], "sync": true}); err != nil {
		t.Fatal(err)
	}
	if roles, err := p.Roles(ctx); err != nil || len(roles) > 0 {
		t.Errorf("roles %q, %v after revoking", roles, err)
	}
	if leases, err := v.Leases(ctx, "database/creds/shop"); err != nil || len(leases) > 0 {
		t.Errorf("leases %q, %v after revoking", leases, err)
	}
}

func TestVaultTrustsGitLab(t *testing.T) {
	ctx := t.Context()
	s, err := gitlab.Listen("127.0.0.1:0", gitlab.Options{DataDir: t.TempDir(), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, err := StartVault(ctx, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	defer v.Stop()
	if err := v.TrustGitLab(ctx, &Rig{URL: s.URL()}); err != nil { // it asks for the keys
		t.Fatal(err)
	}
	if err := v.Role(ctx, "shop", "shop/items", `path "secret/data/shop/*" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	if err := v.Put(ctx, "shop/api", map[string]any{"key": "value"}); err != nil {
		t.Fatal(err)
	}
	if tokens, err := v.Tokens(ctx); err != nil || len(tokens) > 0 {
		t.Errorf("tokens %q, %v", tokens, err)
	}
}
