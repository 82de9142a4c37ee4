package vault

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/secret"
)

// When the token went first, nobody can see what became of the lease.
func TestTokenFirst(t *testing.T) {
	j := newJob(t, shared, "shop")
	j.must("ssh/creds/otp", "ip=192.0.2.1")
	token, lease := j.leases[0], j.leases[1]
	if err := j.revoke(token); err != nil {
		t.Fatal(err)
	}
	err := j.revoke(lease)
	if !errors.Is(err, secret.ErrNotRevocable) {
		t.Errorf("error %v", err)
	}
	tells(t, err, []string{string(token.Credential)}, lease.ID, "its token is gone already")
}

func TestExpired(t *testing.T) {
	shared.write(t, "v1/shop/expired", map[string]any{"value": "v"})
	j := newJob(t, shared, "once")
	j.fetch("v1/shop/expired") // on a busy machine it is over before the value is read
	if len(j.leases) != 1 {
		t.Fatalf("journal %+v", j.leases)
	}
	for deadline := time.Now().Add(time.Minute); shared.alive(t, j.leases[0].ID); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the token does not expire")
		}
	}
	if err := j.revoke(j.leases[0]); err != nil {
		t.Error(err)
	}
	if _, err := j.vault.Renew(t.Context(), j.leases[0], j.until); !errors.Is(err, secret.ErrRefused) {
		t.Errorf("renewing an expired token: %v", err)
	}
}

func TestRenew(t *testing.T) {
	shared.write(t, "v1/shop/renew", map[string]any{"value": "v"})
	j := newJob(t, shared, "short") // 10 minutes, and 15 at most
	began := time.Now()
	j.must("v1/shop/renew")
	had := time.Now()
	token := j.leases[0]
	if !token.Renewable || !between(token.Expires, began.Add(10*time.Minute), had.Add(10*time.Minute)) {
		t.Fatalf("the token lives until %s, from %s", token.Expires, began)
	}
	expires, err := provider(t, j.config).Renew(t.Context(), token, j.until)
	if err != nil {
		t.Fatal(err)
	}
	if !between(expires, began.Add(15*time.Minute), had.Add(15*time.Minute)) {
		t.Errorf("renewed, it lives until %s, from %s: max_ttl is 15 min", expires, began)
	}
	// Never for longer than asked.
	until := time.Now().Add(30 * time.Second)
	if expires, err = provider(t, j.config).Renew(t.Context(), token, until); err != nil || expires.After(until.Add(slack)) {
		t.Errorf("until %s: %s, %v", until, expires, err)
	}
	if _, err := j.vault.Renew(t.Context(), token, time.Now()); err == nil {
		t.Error("renewed to no time at all")
	}
}

// between two times, as Vault counts: in whole seconds.
func between(at, from, to time.Time) bool {
	return at.After(from.Add(-slack)) && at.Before(to.Add(slack))
}

// A token's life is shortened to the job's: the default is 32 days.
func TestShortened(t *testing.T) {
	j := newJob(t, shared, "shop")
	shared.write(t, "v1/shop/short", map[string]any{"value": "v"})
	j.must("v1/shop/short")
	about := shared.write(t, "auth/token/lookup-accessor", map[string]any{"accessor": j.leases[0].ID})["data"].(map[string]any)
	if ttl := about["ttl"].(float64); ttl > 3600 || ttl < 3000 || len(j.leases) != 1 || j.leases[0].Expires.After(j.until) {
		t.Errorf("ttl %v s, journal %+v", ttl, j.leases)
	}
}

// Vault is down when the job ends, and comes back with what it knew.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	s, err := start(dir, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.stop() }()
	if err := configure(s); err != nil {
		t.Fatal(err)
	}
	j := newJob(t, s, "shop")
	j.must("ssh/creds/otp", "ip=192.0.2.1")
	token, lease := j.leases[0], j.leases[1]
	s.stop()

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err = provider(t, j.config).Revoke(ctx, lease)
	if errors.Is(err, secret.ErrRefused) || errors.Is(err, secret.ErrNotRevocable) {
		t.Errorf("error %v", err)
	}
	tells(t, err, []string{string(token.Credential)}, lease.ID, "connection refused")
	_, err = newJob(t, s, "shop").fetch("v1/shop/x")
	if errors.Is(err, secret.ErrRefused) {
		t.Errorf("a Vault that is down refuses nothing: %v", err)
	}

	done := make(chan error)
	go func() { done <- provider(t, j.config).Revoke(t.Context(), lease) }()
	if s, err = start(dir, strings.TrimPrefix(s.url, "http://")); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || s.leased(t, lease.ID) {
		t.Errorf("after the restart: %v", err)
	}
	if err := j.revoke(token); err != nil || s.alive(t, token.ID) {
		t.Errorf("the token: %v", err)
	}

	s.write(t, "sys/seal", nil)
	_, err = newJob(t, s, "shop").fetch("v1/shop/x")
	if errors.Is(err, secret.ErrRefused) {
		t.Errorf("a sealed Vault refuses nothing: %v", err)
	}
	tells(t, err, nil, "sealed")
}

func TestNoCredential(t *testing.T) {
	j := newJob(t, shared, "shop")
	tells(t, j.revoke(secret.Lease{ID: "accessor"}), nil, "by hand")
}
