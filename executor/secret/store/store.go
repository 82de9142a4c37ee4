// Package store is the embedded store of secrets, for teams that have no
// secret server: one file, sealed to the host's key, whose secrets are set by
// an admin or made by a generator, and rotated per job or after a time.
//
// What it promises: a value is on disk only sealed, and in no error, argument
// or environment. The file has its old content or its new one, also after a
// crash: what can be lost is a change that was not finished, never the store.
// Of processes that rotate at once none undoes what another did, and two jobs
// never share a version of a secret that rotates per job. A version that is
// over is destroyed: the file is written without it. (Blocks of the file as
// it was may linger on the disk, sealed to the host's key.)
//
// One thing no store can promise: a command that rotates a secret at its
// source and is killed before it has printed the new value has lost it.
package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
)

// Errors.
var (
	// ErrInput is a definition or value that cannot be stored.
	ErrInput = errors.New("cannot be stored")
	// ErrRotate is a secret that is not rotated by hand.
	ErrRotate = errors.New("cannot be rotated")
	// ErrUnknown is a secret or version that is not there; it is a refusal.
	ErrUnknown = fmt.Errorf("%w: not in the store", secret.ErrRefused)
	// ErrDamaged is a store's file that cannot be read. It is left as it is.
	ErrDamaged = errors.New("the store is damaged")
	// ErrFull is a store that would become too large.
	ErrFull = errors.New("the store is full")
	// ErrCommand is a generator's command that gave no value.
	ErrCommand = errors.New("the rotating command failed")
)

const (
	// fileName of the store in the data folder.
	fileName = "store.age"
	// defaultTimeout bounds the wait for other processes.
	defaultTimeout = 10 * time.Second
)

// Store is one file of secrets. As any provider it is used by one goroutine
// at a time; processes may share the file.
type Store struct {
	path    string
	dataDir string
	timeout time.Duration
	now     func() time.Time
	key     *hostkey.Key
}

var _ secret.Provider = (*Store)(nil)

// New gives the store that an admin configured. Nothing is read or made yet.
// Its key is the host's, in dataDir.
func New(p config.Provider, dataDir string) (*Store, error) {
	s := &Store{path: p.Store.Path, dataDir: dataDir, timeout: p.Timeout, now: time.Now}
	if s.path == "" {
		s.path = filepath.Join(dataDir, fileName)
	}
	if !filepath.IsAbs(s.path) || !filepath.IsAbs(dataDir) {
		return nil, fmt.Errorf("store: path %q in data_dir %q: both must be absolute", s.path, dataDir)
	}
	s.path = filepath.Clean(s.path)
	if s.timeout <= 0 {
		s.timeout = defaultTimeout
	}
	return s, nil
}

// Path of the store's file.
func (s *Store) Path() string { return s.path }

// Fetch gives the newest version, or with the parameter version=previous or
// version=NUMBER an older one that is still there. Of a secret that rotates
// per job each room has its own version, the same at each fetch.
func (s *Store) Fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	name := r.Secret.Path
	if name == "" {
		name = r.Secret.Name
	}
	want, err := parameters(r.Secret.Parameters)
	if err != nil {
		return secret.Issued{}, err
	}
	doc, err := s.load()
	if err != nil {
		return secret.Issued{}, err
	}
	e, err := doc.get(name)
	if err != nil {
		return secret.Issued{}, err
	}
	var got given
	if want == "" {
		got, err = s.newest(ctx, name, e, holder{Job: r.Job, until: r.Until, journal: r.Journal})
	} else {
		got, err = s.older(name, e, want)
	}
	if errors.Is(err, ErrInput) { // the admin's to mend, not to be tried again
		err = fmt.Errorf("%w: %w", secret.ErrRefused, err)
	}
	if err != nil {
		return secret.Issued{}, err
	}
	if !got.GoodUntil.IsZero() && !s.now().Before(got.GoodUntil) {
		return secret.Issued{}, fmt.Errorf("%w: secret %s, version %d, expired at %s: `cleanroom secret rotate %s` makes a new one",
			secret.ErrRefused, name, got.Number, got.GoodUntil.Format(time.RFC3339), name)
	}
	return secret.Issued{
		Fields: got.Fields, Version: strconv.Itoa(got.Number), Rotated: got.Created, Expires: got.GoodUntil,
		Revocable: want == "" && e.Rotate.PerJob && got.kind != JWT && got.kind != Command,
	}, nil
}

// parameters reads what a secret of this provider may have.
func parameters(lines []string) (want string, err error) {
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		if n, err := strconv.Atoi(value); key != "version" || value != "current" && value != "previous" && (err != nil || n < 1) {
			return "", fmt.Errorf("%w: parameter %q: the store knows only version=current, version=previous and version=NUMBER", secret.ErrRefused, line)
		}
		if want = value; want == "current" {
			want = ""
		}
	}
	return want, nil
}

func (s *Store) older(name string, e *entry, want string) (given, error) {
	if e.Rotate.PerJob {
		return given{}, fmt.Errorf("%w: secret %s rotates per job, and no job gets another's version", secret.ErrRefused, name)
	}
	now := s.now()
	v := e.find(func(v *version) bool {
		alive := v.State != Destroyed && v.Room == "" && (v.Expires.IsZero() || now.Before(v.Expires))
		return alive && (want == "previous" && v.State == Old || want == strconv.Itoa(v.Number))
	})
	if v == nil {
		return given{}, fmt.Errorf("%w: secret %s has no version %s (any more)", ErrUnknown, name, want)
	}
	return given{version: *v}, nil
}

func (d *document) get(name string) (*entry, error) {
	if e, ok := d.Secrets[name]; ok {
		return e, nil
	}
	return nil, fmt.Errorf("%w: %q: `cleanroom secret list` names all there are", ErrUnknown, name)
}

// lease is a job's own version. A token or what a command made at a source
// holds beyond it.
func (g given) lease(name string) secret.Lease {
	l := secret.Lease{ID: fmt.Sprintf("store:%s@%d.%s", name, g.Number, g.Tag), Expires: g.Expires}
	switch g.kind {
	case JWT:
		l.Expires = g.GoodUntil
	case Command:
		l.Expires = time.Time{}
	}
	return l
}

var leaseRE = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^store:([A-Za-z0-9][A-Za-z0-9._-]{0,127})@([0-9]{1,18})\.([0-9a-f]{8})$`)
})

// Renew refuses: a lease of the store holds until its job is over.
func (s *Store) Renew(_ context.Context, l secret.Lease, _ time.Time) (time.Time, error) {
	return time.Time{}, fmt.Errorf("%w: a lease of the store holds until its job is over, and is never renewed", secret.ErrRefused)
}

// Revoke destroys a job's version, and looks that it is gone. A signed token
// and what a command made at its source are destroyed here, and still good
// elsewhere: that is ErrNotRevocable.
func (s *Store) Revoke(ctx context.Context, l secret.Lease) error {
	match := leaseRE().FindStringSubmatch(l.ID)
	if match == nil {
		return fmt.Errorf("store: %q is no lease of a store", l.ID)
	}
	name := match[1]
	number, err := strconv.Atoi(match[2])
	if err != nil {
		return fmt.Errorf("store: %q is no lease of a store", l.ID)
	}
	its := func(v *version) bool { return v.Number == number && v.Tag == match[3] && v.State != Destroyed }
	var kind Kind
	err = s.update(ctx, func(doc *document) (bool, error) {
		e := doc.Secrets[name]
		if e == nil {
			return false, nil
		}
		if e.Generator != nil {
			kind = e.Generator.Kind
		}
		v := e.find(its)
		if v != nil {
			v.destroy()
		}
		return v != nil, nil
	})
	if err != nil {
		return err
	}
	doc, err := s.load()
	if err != nil {
		return err
	}
	if e := doc.Secrets[name]; e != nil && slices.ContainsFunc(e.Versions, func(v version) bool { return its(&v) }) {
		return fmt.Errorf("store: %s is still there: another program writes %s; find it and revoke again", l.ID, s.path)
	}
	switch kind {
	case JWT:
		return fmt.Errorf("store: the token of %s is destroyed here, but %w: it is good until it expires", name, secret.ErrNotRevocable)
	case Command:
		return fmt.Errorf("store: the value of %s is destroyed here, but %w: its source takes it until it is rotated there", name, secret.ErrNotRevocable)
	}
	return nil
}
