package store

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"cleanroom/executor/secret"
)

// holder is the job for which a version is made; the zero value is nobody in
// particular.
type holder struct {
	secret.Job
	own     bool      // it gets versions of its own of what rotates per job
	until   time.Time // when it is over at the latest
	journal func(secret.Lease) error
}

// errStale: the secret's definition changed while its value was made.
var errStale = errors.New("the secret was changed meanwhile: try again")

// renew gives the version that ready accepts; if there is none, a new one is
// made. What is slow, a key or a command, happens while others can use the
// store; two commands for the same secret run one after the other.
func (s *Store) renew(ctx context.Context, name string, ready func(*entry) *version, h holder) (given, error) {
	for range 3 {
		got, err := s.tryRenew(ctx, name, ready, h)
		if !errors.Is(err, errStale) {
			return got, err
		}
	}
	return given{}, fmt.Errorf("store: secret %s: %w", name, errStale)
}

// given is a version for a caller: a copy, with what it needs of the entry.
type given struct {
	version
	kind Kind
}

func (s *Store) tryRenew(ctx context.Context, name string, ready func(*entry) *version, h holder) (given, error) {
	doc, err := s.load()
	if err != nil {
		return given{}, err
	}
	e, err := doc.get(name)
	if err != nil {
		return given{}, err
	}
	if e.Generator == nil {
		return given{}, fmt.Errorf("%w: secret %s has no generator: give it a new value with `cleanroom secret set %s`", ErrRotate, name, name)
	}
	g, made := e.Generator, value{}
	if ready(e) == nil {
		if g.Kind == Command {
			lock, err := s.oneCommand(ctx, name, g.Timeout)
			if err != nil {
				return given{}, err
			}
			defer lock.Remove()
			if doc, err = s.load(); err != nil { // whoever had the lock rotated it
				return given{}, err
			}
			if e, err = doc.get(name); err != nil {
				return given{}, err
			}
			if !reflect.DeepEqual(e.Generator, g) {
				return given{}, errStale
			}
			if ready(e) == nil {
				if made, err = s.generate(ctx, name, e, h); err != nil {
					return given{}, err
				}
			}
		} else if made, err = s.generate(ctx, name, e, h); err != nil {
			return given{}, err
		}
	}
	if made.fields != nil {
		// The source may have changed already: being cancelled now must not
		// lose the value.
		ctx = context.WithoutCancel(ctx)
	}
	return s.keep(ctx, name, ready, g, made, h)
}

// keep puts a value that was made into the store, unless another process was
// first and ready accepts its version. A job's lease is journalled before.
func (s *Store) keep(ctx context.Context, name string, ready func(*entry) *version, g *Generator, made value, h holder) (given, error) {
	var got given
	err := s.update(ctx, func(doc *document) (bool, error) {
		e, err := doc.get(name)
		if err != nil {
			return false, err
		}
		v := ready(e)
		if v == nil && (made.fields == nil || !reflect.DeepEqual(e.Generator, g)) {
			return false, errStale
		}
		changed := v == nil
		if changed {
			room, expires := "", time.Time{}
			if h.own && e.Rotate.PerJob {
				room, expires = h.Room, s.jobEnd(e, h)
			}
			v = e.add(made, room, expires, s.now())
		}
		got = given{*v, g.Kind}
		if v.Room != "" && h.journal != nil {
			return changed, h.journal(got.lease(name))
		}
		return changed, nil
	})
	return got, err
}

// generate makes a value; what is stored does not change.
func (s *Store) generate(ctx context.Context, name string, e *entry, h holder) (value, error) {
	made, err := s.generateOf(ctx, name, e, h)
	if err == nil {
		err = CheckFields(made.fields)
	}
	if err != nil {
		return value{}, fmt.Errorf("secret %s: %w", name, err)
	}
	return made, nil
}

func (s *Store) generateOf(ctx context.Context, name string, e *entry, h holder) (value, error) {
	switch g := e.Generator; g.Kind {
	case Random:
		return g.random()
	case Ed25519, RSA:
		return g.keyPair()
	case Command:
		var old map[string]string
		if v := e.current(); v != nil {
			old = v.Fields
		}
		return g.run(ctx, name, old)
	case JWT:
		key, err := s.signingKey(ctx, e, h)
		if err != nil {
			return value{}, err
		}
		until := time.Time{}
		switch {
		case e.Rotate.PerJob:
			until = s.jobEnd(e, h)
		case e.Rotate.Every > 0:
			until = s.now().Add(e.Rotate.Every + e.Grace)
		}
		return g.token(name, key, h, until, s.now())
	}
	return value{}, fmt.Errorf("%w: no such generator", ErrDamaged)
}

// signingKey is the value of a token's key: this job's own where the key
// rotates per job, so that what the job gets fits together.
func (s *Store) signingKey(ctx context.Context, e *entry, h holder) (map[string]string, error) {
	doc, err := s.load()
	if err != nil {
		return nil, err
	}
	key, err := doc.get(e.Generator.Key)
	if err != nil {
		return nil, err
	}
	if err := fits(e.Definition, key.Definition); err != nil {
		return nil, err
	}
	got, err := s.newest(ctx, e.Generator.Key, key, h)
	return got.Fields, err
}

// fits says whether a token can be signed with such a key.
func fits(token, key Definition) error {
	if key.Generator != nil && key.Generator.Kind == JWT {
		return fmt.Errorf("%w: %s is a token itself, and signs nothing", ErrInput, token.Generator.Key)
	}
	if key.Rotate.PerJob && !token.Rotate.PerJob {
		return fmt.Errorf("%w: the key %s rotates per job, so its tokens must as well: --rotate job", ErrInput, token.Generator.Key)
	}
	return nil
}

// newest is the version that a job gets now.
func (s *Store) newest(ctx context.Context, name string, e *entry, h holder) (given, error) {
	switch {
	case e.Generator == nil:
		if v := e.current(); v != nil {
			return given{*v, ""}, nil
		}
		return given{}, fmt.Errorf("%w: secret %s has no value", ErrUnknown, name)
	case e.Rotate.PerJob:
		if h.Room == "" {
			return given{}, fmt.Errorf("%w: secret %s rotates per job, and there is no job", secret.ErrRefused, name)
		}
		h.own = true
		return s.renew(ctx, name, func(e *entry) *version { return e.ofRoom(h.Room) }, h)
	}
	fresh := func(e *entry) *version {
		if v := e.current(); v != nil && !e.due(v, s.now()) {
			return v
		}
		return nil
	}
	if v := fresh(e); v != nil {
		return given{*v, e.Generator.Kind}, nil
	}
	h.journal, h.own = nil, false // everybody's version is no lease
	return s.renew(ctx, name, fresh, h)
}

// jobEnd is when a job's version is destroyed, if nobody revokes it.
func (s *Store) jobEnd(e *entry, h holder) time.Time {
	if !h.until.IsZero() {
		return h.until
	}
	return s.now().Add(max(e.Grace, defaultGrace))
}
