package secret

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cleanroom/config"
	"cleanroom/sandbox/fault"
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

// Ends notes that the job is over: should we be killed, or anything fail,
// whoever comes next need not wait for the deadline.
func (j *Journal) Ends() error {
	if j.ending {
		return nil
	}
	if err := j.write(line{Over: true}, 0); err != nil {
		return fmt.Errorf("journal of leases: %w", err)
	}
	j.ending = true
	return nil
}

// Revoke takes back every lease of the journal: of each provider the youngest
// first, as a lease may need the login before it; and all providers at once,
// each within timeout, so that one that is away delays no other. What fails
// stays in the journal, for another try; the error joins all failures.
func (j *Journal) Revoke(ctx context.Context, host Sealer, open Opener, timeout time.Duration) ([]Ending, error) {
	failed := errors.Join(j.Damaged, j.Ends())
	byProvider := map[string][]Entry{}
	for _, e := range slices.Backward(j.Open) {
		byProvider[e.Provider] = append(byProvider[e.Provider], e)
	}
	var endings []Ending
	var mu sync.Mutex
	var work sync.WaitGroup
	for _, entries := range byProvider {
		work.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			for _, e := range entries {
				ending := j.ended(ctx, e, host, open)
				mu.Lock()
				endings = append(endings, ending)
				mu.Unlock()
			}
		})
	}
	work.Wait()
	slices.SortFunc(endings, func(a, b Ending) int { return b.Entry.Number - a.Entry.Number })
	for _, e := range endings {
		if e.Err != nil {
			failed = errors.Join(failed, fmt.Errorf("lease %s of secret %s at %s: %w", e.Entry.ID, e.Entry.Secret, e.Entry.Provider, e.Err))
		}
	}
	return endings, failed
}

// ended revokes one lease and notes that.
func (j *Journal) ended(ctx context.Context, e Entry, host Sealer, open Opener) Ending {
	ending := Ending{Entry: e, Outcome: Revoked}
	switch err := j.revoke(ctx, e, host, open); {
	case errors.Is(err, ErrNotRevocable):
		ending.Outcome = Expires
	case err != nil:
		ending.Outcome, ending.Err = Failed, err
		return ending
	}
	err := fault.At("end.lease.revoked")
	if err == nil {
		err = j.end(e)
	}
	if err != nil {
		ending.Outcome, ending.Err = Failed, err
		return ending
	}
	ending.Err = fault.At("end.lease.ended") // it is known to have ended, whatever comes
	return ending
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
