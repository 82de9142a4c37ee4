package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cleanroom/executor/secret"
)

// slack is how far Vault may round a lifetime that we ask for.
const slack = 2 * time.Second

// longest is the longest lifetime that is believed, in seconds: Vault's own
// limit is far below it.
const longest = 100 * 365 * 24 * 3600

// ends is when something ends that lives for so many seconds; zero: never.
func ends(asked time.Time, seconds int) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	return asked.Add(time.Duration(min(seconds, longest)) * time.Second)
}

// earlier of two ends, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// secondsUntil a time, rounded down, but one at least: 0 would be Vault's default.
func secondsUntil(t time.Time) int {
	return int(max(1, min(longest, time.Until(t)/time.Second)))
}

// isToken tells the two kinds of leases apart: the id of a secret's lease is
// the path it came from and a random part; an accessor has no slash.
func isToken(l secret.Lease) bool { return !strings.Contains(l.ID, "/") }

// keep journals what was issued, and shortens its life to the job's. What
// cannot be journalled is taken back at once. Of a lease, token is when the
// token ends, and the lease with it; but the database behind it knows only
// what Vault told it when it was issued or renewed.
func (v *Vault) keep(ctx context.Context, r secret.Request, l secret.Lease, token time.Time) (secret.Lease, error) {
	shorten := l.Renewable && !r.Until.IsZero() && (l.Expires.IsZero() || l.Expires.After(r.Until.Add(slack)))
	issued := earlier(l.Expires, token)
	l.Expires = issued
	if shorten {
		l.Expires = earlier(r.Until, token)
	}
	if err := r.Journal(l); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.timeout)
		defer cancel()
		if failed := v.Revoke(ctx, l); failed != nil {
			return l, fmt.Errorf("%w, and it could not be revoked: %w", err, failed)
		}
		return l, err
	}
	if !shorten {
		return l, nil
	}
	expires, err := v.renew(ctx, l, r.Until)
	switch {
	case err == nil && !expires.IsZero() && !expires.After(r.Until.Add(slack)):
		return l, nil
	case ctx.Err() != nil:
		return l, err
	case err != nil: // as it was issued
		expires = issued
	}
	// A second entry, which is true: the first one is revoked with it.
	l.Expires = expires
	return l, r.Journal(l)
}

// revocable refuses a lease that could not be taken back before its token is.
func (v *Vault) revocable(ctx context.Context, l secret.Lease) error {
	if l.Renewable { // then it can be made to end
		return nil
	}
	const path = "sys/leases/revoke"
	answer, err := v.call(ctx, string(l.Credential), "sys/capabilities-self", map[string]any{"paths": []string{path}})
	if err != nil {
		return fmt.Errorf("capabilities of the token: %w", refused(err, "restore Vault's default policy, which allows this"))
	}
	list, _ := answer.Data[path].([]any)
	if !slices.Contains(list, any("update")) && !slices.Contains(list, any("root")) {
		return fmt.Errorf("%w: %s: Vault cannot renew this lease, nor can this job revoke it: add to a policy of %s: path %q { capabilities = [\"update\"] }",
			secret.ErrRefused, l.ID, v.who(), path)
	}
	return nil
}

// Renew prolongs a token or a lease. What it returns may be earlier than
// until: then max_ttl ends it.
func (v *Vault) Renew(ctx context.Context, l secret.Lease, until time.Time) (time.Time, error) {
	expires, err := v.renew(ctx, l, until)
	if err != nil {
		return time.Time{}, fmt.Errorf("renewing %s at provider %s: %w", l.ID, v.name, refused(err, "let its max_ttl outlast the job, or retry the job"))
	}
	return expires, nil
}

func (v *Vault) renew(ctx context.Context, l secret.Lease, until time.Time) (time.Time, error) {
	asked := time.Now()
	if !until.After(asked) {
		return time.Time{}, errors.New("the job's time is over: nothing is renewed any more")
	}
	return v.extend(ctx, l, secondsUntil(until), asked)
}

func (v *Vault) extend(ctx context.Context, l secret.Lease, seconds int, asked time.Time) (time.Time, error) {
	if isToken(l) {
		answer, err := v.call(ctx, string(l.Credential), "auth/token/renew-self", map[string]any{"increment": seconds})
		switch {
		case err != nil:
			return time.Time{}, err
		case answer.Auth == nil:
			return time.Time{}, errors.New("Vault does not say how long the token lives")
		}
		return ends(asked, answer.Auth.LeaseDuration), nil
	}
	answer, err := v.call(ctx, string(l.Credential), "sys/leases/renew", map[string]any{"lease_id": l.ID, "increment": seconds})
	if err != nil {
		return time.Time{}, err
	}
	if answer.LeaseDuration <= 0 {
		return time.Time{}, errors.New("Vault does not say how long the lease lives")
	}
	return ends(asked, answer.LeaseDuration), nil
}
