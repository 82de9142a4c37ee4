package secret

import (
	"context"
	"errors"
	"time"
)

// renewRetry is the pause after a renewal that failed.
const renewRetry = 5 * time.Second

// KeepAlive renews each lease when a third of its life is left, until ctx
// ends, so that none ends before the stage does. Each failure is told once per lease, and again when its lease is over.
func KeepAlive(ctx context.Context, renewals []Renewal, until time.Time, open Opener, tell func(Renewal, error)) {
	done := make(chan struct{}, len(renewals))
	for _, r := range renewals {
		go func() {
			keepAlive(ctx, r, until, open, tell)
			done <- struct{}{}
		}()
	}
	for range renewals {
		<-done
	}
}

func keepAlive(ctx context.Context, r Renewal, until time.Time, open Opener, tell func(Renewal, error)) {
	expires, told := r.Lease.Expires, false
	for expires.Before(until) {
		pause := time.Until(expires) / 3 * 2
		if told {
			pause = renewRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(0, pause)):
		}
		next, err := renew(ctx, r, until, open)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && !next.After(expires.Add(time.Second)): // as long as it may live
			return
		case err == nil:
			expires, told = next, false
		case errors.Is(err, ErrRefused):
			tell(r, err)
			return
		case time.Now().After(expires):
			tell(r, errors.Join(err, errors.New("it has expired")))
			return
		case !told:
			told = true
			tell(r, err)
		}
	}
}

func renew(ctx context.Context, r Renewal, until time.Time, open Opener) (time.Time, error) {
	p, err := open(r.Provider)
	if err != nil {
		return time.Time{}, err
	}
	return p.Renew(ctx, r.Lease, until)
}
