package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"cleanroom/executor/secret"
)

// Pauses between two tries of a revocation.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Revoke takes a token or a lease back and looks that it is gone. While Vault
// does not answer, or the engine fails, it tries again until ctx ends.
//
// A token that Vault does not know any more, expired or revoked, is gone. A
// lease is looked up with the token that it was issued to, so it has to be
// revoked before that. When the token is gone already, Vault has ended its
// leases, or goes on trying to; but nobody can ask whether it did. That is
// not told as a success: it is ErrNotRevocable.
func (v *Vault) Revoke(ctx context.Context, l secret.Lease) error {
	if err := v.revoke(ctx, l); err != nil {
		return fmt.Errorf("revoking %s at provider %s: %w", l.ID, v.name, err)
	}
	return nil
}

func (v *Vault) revoke(ctx context.Context, l secret.Lease) error {
	if len(l.Credential) == 0 {
		return errors.New("the journal has no token for it: revoke it by hand")
	}
	try := v.revokeToken
	if !isToken(l) {
		try = (&lessor{Vault: v}).try
	}
	var reason error
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := try(ctx, l)
		if err == nil || errors.Is(err, secret.ErrRefused) || errors.Is(err, secret.ErrNotRevocable) {
			return err
		}
		if ctx.Err() == nil || reason == nil { // that the time is over is no reason
			reason = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", reason, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func (v *Vault) revokeToken(ctx context.Context, l secret.Lease) error {
	token := string(l.Credential)
	_, revoked := v.call(ctx, token, "auth/token/revoke-self", map[string]any{})
	if revoked != nil && status(revoked) != http.StatusForbidden {
		return revoked
	}
	_, err := v.call(ctx, token, "auth/token/lookup-self", nil)
	switch {
	case status(err) == http.StatusForbidden:
		return nil
	case err != nil:
		return err
	case revoked != nil:
		return refused(revoked, "restore Vault's default policy, which lets a token revoke itself")
	}
	return errors.New("the token is still good")
}

// lessor revokes one lease, in several tries.
type lessor struct {
	*Vault
	ending bool // its life was shortened
}

func (v *lessor) try(ctx context.Context, l secret.Lease) error {
	token, id := string(l.Credential), map[string]any{"lease_id": l.ID}
	var revoked error
	if !v.ending {
		// sync: the answer comes when the engine is done.
		_, revoked = v.call(ctx, token, "sys/leases/revoke", map[string]any{"lease_id": l.ID, "sync": true})
		if revoked != nil && status(revoked) == 0 {
			return revoked
		}
	}
	seen, err := v.call(ctx, token, "sys/leases/lookup", id)
	switch status(err) {
	case http.StatusBadRequest, http.StatusNotFound: // "invalid lease"
		return nil
	case http.StatusForbidden:
		return fmt.Errorf("%w: its token is gone already, so that Vault ends it and nobody can look", secret.ErrNotRevocable)
	}
	switch {
	case err != nil:
		return err
	case status(revoked) == http.StatusForbidden:
		// A policy that is made for the secret alone. Vault's default one
		// lets us renew, and so shorten what is left to a second.
		if renewable, _ := seen.Data["renewable"].(bool); !renewable {
			return refused(revoked, "let the policy update sys/leases/revoke")
		}
		if _, err := v.extend(ctx, l, 1, time.Now()); err != nil {
			return err
		}
		v.ending = true
		return errors.New("its last second is not over")
	case revoked != nil:
		return revoked
	}
	return errors.New("Vault still knows the lease")
}
