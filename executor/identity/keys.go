package identity

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/go-jose/go-jose/v4"

	"cleanroom/config"
	"cleanroom/executor/https"
)

// pause is the least time between two readings of an issuer's keys because a
// token named a key that is not known. Anybody can write such a token: without
// a pause a job could make all runners of a site hammer its GitLab.
const pause = 5 * time.Second

// issuer is a configured one, its keys and how to read them.
type issuer struct {
	config.Issuer
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	cache      *cache
}

func newIssuer(c config.Issuer, cacheDir string) (*issuer, error) {
	list, err := closed(c.Algorithms)
	if err != nil {
		return nil, err
	}
	transport, err := https.Transport(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	i := &issuer{Issuer: c, algorithms: list, client: https.Client(transport)}
	i.cache, err = newCache(cacheDir, i)
	return i, err
}

// keys finds those of a name, and says when they were read. Keys that are not
// too old come from the cache; a name that is not there is asked for once, by
// one process at a time. No keys and no error: the issuer has none of that
// name. An error is ErrIssuer's: nobody can tell.
func (i *issuer) keys(ctx context.Context, kid string, timeout time.Duration, now func() time.Time) ([]jose.JSONWebKey, time.Time, error) {
	if e := i.cache.load(now()); i.fresh(e, now()) {
		if found := e.named(kid); len(found) > 0 {
			return found, e.Fetched, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	unlock, err := i.cache.lock(ctx)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("keys of %s: %w", i.URL, err)
	}
	defer unlock()

	// Whoever had the lock before us may have read what we need.
	e := i.cache.load(now())
	if i.fresh(e, now()) {
		found, ago := e.named(kid), now().Sub(e.Asked)
		switch {
		case len(found) > 0:
			return found, e.Fetched, nil
		case ago >= 0 && ago < pause && e.Failed:
			return nil, time.Time{}, fmt.Errorf("keys of %s: key %s is not known, and asking for it failed %s ago: try again in %s", i.URL, shown(kid), seconds(ago), pause)
		case ago >= 0 && ago < pause:
			return nil, e.Fetched, nil
		}
		// Written before asking, so that a death here does not let the next
		// one ask at once.
		e.Asked, e.Failed = now(), true
		if err := i.cache.save(e); err != nil {
			return nil, time.Time{}, fmt.Errorf("keys of %s cannot be kept: %w", i.URL, err)
		}
	}
	set, keys, err := i.fetch(ctx)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("keys of %s cannot be read: %w", i.URL, err)
	}
	e = &entry{Issuer: i.URL, JWKSURL: i.JWKSURL, Fetched: now(), Asked: now(), Keys: set, keys: keys}
	if err := i.cache.save(e); err != nil {
		return nil, time.Time{}, fmt.Errorf("keys of %s cannot be kept: %w", i.URL, err)
	}
	return e.named(kid), e.Fetched, nil
}

// fresh says whether keys are young enough to be used without asking.
func (i *issuer) fresh(e *entry, now time.Time) bool {
	if e == nil {
		return false
	}
	age := now.Sub(e.Fetched)
	return age >= 0 && age < max(i.KeysMaxAge, pause)
}
