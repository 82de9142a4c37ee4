package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"cleanroom/config"
)

// Outcome of a lease.
type Outcome string

// Outcomes.
const (
	Revoked Outcome = "revoked" // and seen to be gone
	Expires Outcome = "expires" // cannot be revoked
	Failed  Outcome = "failed"  // stays in the journal
)

// Ending is what became of one lease.
type Ending struct {
	Entry   Entry
	Outcome Outcome
	Err     error // of a failed one
}

// Opener makes a provider.
type Opener func(config.Provider) (Provider, error)

// Revoke takes back every lease of the journal, the youngest first: a lease
// may need the login before it. What fails stays in the journal, for another
// try; the error joins all failures.
func (j *Journal) Revoke(ctx context.Context, host Sealer, open Opener) ([]Ending, error) {
	var endings []Ending
	var failed []error
	if !j.ending { // should we be killed, whoever comes next need not wait for the deadline
		failed = append(failed, j.write(line{Over: true}))
		j.ending = true
	}
	for _, e := range slices.Backward(slices.Clone(j.Open)) {
		ending := Ending{Entry: e, Outcome: Revoked}
		switch err := j.revoke(ctx, e, host, open); {
		case errors.Is(err, ErrNotRevocable):
			ending.Outcome = Expires
		case err != nil:
			ending.Outcome, ending.Err = Failed, err
		}
		if ending.Outcome != Failed {
			if err := j.end(e); err != nil {
				ending.Outcome, ending.Err = Failed, err
			}
		}
		if ending.Outcome == Failed {
			failed = append(failed, fmt.Errorf("lease %s of secret %s at %s: %w", e.ID, e.Secret, e.Provider, ending.Err))
		}
		endings = append(endings, ending)
	}
	return endings, errors.Join(failed...)
}

func (j *Journal) revoke(ctx context.Context, e Entry, host Sealer, open Opener) error {
	k, err := j.unseal(e, host)
	if err != nil {
		if !e.Expires.IsZero() && time.Now().After(e.Expires) { // another key's, and worth nothing any more
			return ErrNotRevocable
		}
		return fmt.Errorf("its sealed part cannot be read: %w", err)
	}
	p, err := open(k.Provider)
	if err != nil {
		return err
	}
	return p.Revoke(ctx, k.Lease)
}
