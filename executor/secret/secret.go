// Package secret gives a job the secrets it was granted and takes them back:
// the interface of a provider, the journal of leases (on disk, so that
// whoever comes next can revoke), and the seal under which values wait
// between two stages. Each provider is a folder below it.
//
// What it promises: a value is never in an error, and never on a disk but
// sealed; a lease is in the journal before it is used.
package secret

import (
	"context"
	"errors"
	"os"
	"time"

	"cleanroom/config"
)

// Errors of providers.
var (
	// ErrRefused is a provider's no: wrong identity, no such secret, one too
	// old. Trying again will not help.
	ErrRefused = errors.New("secret refused")
	// ErrNotRevocable is a lease that ends by its own expiry only.
	ErrNotRevocable = errors.New("cannot be revoked")
)

// Provider is one source of secrets, as an admin configured it. An instance
// serves one job, or one revocation; Fetch may keep a session (a login) from
// one call to the next. It is used by one goroutine at a time.
//
// Errors are one line, name the provider's own reason and what to do, never
// hold a value or a credential, and wrap ErrRefused where another try is of
// no use.
type Provider interface {
	// Fetch issues a secret for the job of the request. Before anything that
	// can be revoked is used or returned, Request.Journal has taken it.
	Fetch(ctx context.Context, r Request) (Issued, error)
	// Renew prolongs a lease, to until at the latest, and says until when it
	// holds now.
	Renew(ctx context.Context, l Lease, until time.Time) (time.Time, error)
	// Revoke takes a lease back and looks that it is gone. A lease that is
	// gone already is no error. ErrNotRevocable: it ends at Lease.Expires.
	Revoke(ctx context.Context, l Lease) error
}

// Request is one secret for one job.
type Request struct {
	Secret config.Secret
	Job    Job
	// Token gives the job's ID token of that variable, verified to be this
	// job's. Its error says why there is none; it wraps ErrRefused.
	Token func(ctx context.Context, variable string) (string, error)
	// Until is when nothing of this job may be good for any longer.
	Until time.Time
	// Journal writes a lease down, on disk, before it is used.
	Journal func(Lease) error
	// Hold is for a program that issues to inherit (nil: none): as long as one
	// of its processes has it, nobody revokes what it may still be issuing.
	Hold *os.File
}

// Job says for whom a secret is, for names and records at the provider.
type Job struct {
	ID      int64
	Project string // path, or number where that is not known
	Room    string
}

// Issued is what a provider gives.
type Issued struct {
	Fields  map[string]string // never empty
	Version string            // what the provider calls this version; may be empty
	Rotated time.Time         // when the value was made; zero: not known
	Expires time.Time         // zero: not by itself
	// Revocable says that revoking its leases ends the value itself, and not
	// only the login that it was read with.
	Revocable bool
}

// Lease is something that a provider gave and can take back.
type Lease struct {
	// ID names it and is of no use to whoever reads it (an accessor, a lease
	// id, a version).
	ID string `json:"id"`
	// Credential is what revoking needs beyond ID, and must stay secret.
	Credential []byte `json:"credential,omitempty"`
	// Expires is when it ends by itself; zero: never.
	Expires time.Time `json:"expires,omitzero"`
	// Renewable says that Renew can prolong it.
	Renewable bool `json:"renewable,omitempty"`
}
