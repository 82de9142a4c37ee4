package secret

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// renewRetry is the pause after a renewal that failed.
const renewRetry = 5 * time.Second

// KeepAlive renews each lease when a third of its life is left, until ctx
// ends, so that none ends before the stage does. It returns those that a later
// stage has to go on with: not those that live long enough, or cannot live
// longer, which is told.
func KeepAlive(ctx context.Context, renewals []Renewal, until time.Time, open Opener, tell func(Renewal, error)) []Renewal {
	var work sync.WaitGroup
	keep := make([]bool, len(renewals))
	for i, r := range renewals {
		work.Go(func() { keep[i] = keepAlive(ctx, &r, until, open, tell); renewals[i] = r })
	}
	work.Wait()
	var left []Renewal
	for i, r := range renewals {
		if keep[i] {
			left = append(left, r)
		}
	}
	return left
}

func keepAlive(ctx context.Context, r *Renewal, until time.Time, open Opener, tell func(Renewal, error)) (again bool) {
	expires, failed := &r.Lease.Expires, false
	for expires.Before(until) {
		pause := time.Until(*expires) / 3 * 2
		if failed {
			pause = renewRetry
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(max(0, pause)):
		}
		next, err := renew(ctx, *r, until, open)
		switch {
		case err != nil && ctx.Err() != nil:
			return true
		case err == nil && !next.Before(until):
			*expires = next
		case err == nil && !next.After(expires.Add(time.Second)):
			tell(*r, fmt.Errorf("it cannot live longer than %s: let its max_ttl outlast the job", next.UTC().Format(time.RFC3339)))
			return false
		case err == nil:
			*expires, failed = next, false
		case errors.Is(err, ErrRefused):
			tell(*r, err)
			return false
		case time.Now().After(*expires):
			tell(*r, errors.Join(err, errors.New("it has expired")))
			return false
		case !failed:
			failed = true
			tell(*r, err)
		}
	}
	return false
}

func renew(ctx context.Context, r Renewal, until time.Time, open Opener) (time.Time, error) {
	p, err := open(r.Provider)
	if err != nil {
		return time.Time{}, err
	}
	return p.Renew(ctx, r.Lease, until)
}
