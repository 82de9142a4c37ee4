package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"
)

// Change of a secret, or a new one. What is nil stays as it is; a new secret
// has no generator, never rotates, and one hour of grace.
type Change struct {
	Generator *Generator
	Rotate    *Rotation
	Grace     *time.Duration
	Fields    map[string]string // the new value
}

func (c Change) apply(d Definition) Definition {
	if c.Generator != nil {
		d.Generator = c.Generator
	}
	if c.Rotate != nil {
		d.Rotate = *c.Rotate
	}
	if c.Grace != nil {
		d.Grace = *c.Grace
	}
	return d
}

// Set makes a secret or changes one. A generator makes the first value at
// once, unless Fields gives it or each job gets its own. Number is that of
// the new version, 0 if there is none.
func (s *Store) Set(ctx context.Context, name string, c Change) (number int, err error) {
	if err := CheckName(name); err != nil {
		return 0, err
	}
	for range 3 {
		if number, err = s.trySet(ctx, name, c); !errors.Is(err, errStale) {
			return number, err
		}
	}
	return 0, fmt.Errorf("store: secret %s: %w", name, errStale)
}

func (s *Store) trySet(ctx context.Context, name string, c Change) (number int, err error) {
	doc, err := s.load()
	if err != nil {
		return 0, err
	}
	before, isNew := doc.Secrets[name], false
	if before == nil {
		before, isNew = &entry{Definition: Definition{Grace: defaultGrace}, Next: 1}, true
	}
	e := &entry{Definition: c.apply(before.Definition), Next: before.Next, Versions: slices.Clone(before.Versions)}
	if err := doc.checkSet(name, e, c); err != nil {
		return 0, err
	}
	made := value{fields: c.Fields}
	// A generator makes a value where it is new, or where there is none yet
	// that everybody gets.
	if made.fields == nil && e.Generator != nil && !e.Rotate.PerJob && (c.Generator != nil || e.current() == nil) {
		if e.Generator.Kind == Command {
			lock, err := s.oneCommand(ctx, name, e.Generator.Timeout)
			if err != nil {
				return 0, err
			}
			defer lock.Remove()
		}
		if made, err = s.generate(ctx, name, e, holder{}); err != nil {
			return 0, err
		}
		ctx = context.WithoutCancel(ctx)
	}
	err = s.update(ctx, func(doc *document) (bool, error) {
		now := doc.Secrets[name]
		if (now == nil) != isNew || now != nil && !reflect.DeepEqual(now.Definition, before.Definition) {
			return false, errStale
		}
		if now == nil {
			now = &entry{Next: 1}
			doc.Secrets[name] = now
		}
		now.Definition = e.Definition
		if err := doc.checkSet(name, now, c); err != nil {
			return false, err
		}
		if now.Rotate.PerJob {
			now.retire(s.now())
		}
		if made.fields != nil {
			number = now.add(made, "", time.Time{}, s.now()).Number
		}
		return true, nil
	})
	return number, err
}

// checkSet says whether a secret may become e.
func (d *document) checkSet(name string, e *entry, c Change) error {
	if c.Fields != nil {
		if err := CheckFields(c.Fields); err != nil {
			return err
		}
		if e.Rotate.PerJob {
			return fmt.Errorf("%w: secret %s rotates per job: its generator makes each value", ErrInput, name)
		}
		if e.Generator != nil && e.Generator.Kind == JWT {
			return fmt.Errorf("%w: secret %s is a token: its generator makes each value", ErrInput, name)
		}
	} else if e.Generator == nil && e.current() == nil {
		return fmt.Errorf("%w: secret %s has neither a value nor a generator", ErrInput, name)
	}
	if err := e.Definition.Check(); err != nil {
		return err
	}
	if g := e.Generator; g != nil && g.Kind == JWT {
		key := d.Secrets[g.Key]
		if key == nil || g.Key == name {
			return fmt.Errorf("%w: the key %s is not in the store: set it first", ErrInput, g.Key)
		}
		return fits(e.Definition, key.Definition)
	}
	for _, token := range d.tokensOf(name) {
		if err := fits(d.Secrets[token].Definition, e.Definition); err != nil {
			return fmt.Errorf("it signs %s: %w", token, err)
		}
	}
	return nil
}

// tokensOf are the names of the secrets that a key signs.
func (d *document) tokensOf(key string) []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(d.Secrets)) {
		if g := d.Secrets[name].Generator; g != nil && g.Kind == JWT && g.Key == key {
			names = append(names, name)
		}
	}
	return names
}

// Rotate makes a new version now, and gives its number. The old one stays for
// the grace period.
func (s *Store) Rotate(ctx context.Context, name string) (number int, err error) {
	doc, err := s.load()
	if err != nil {
		return 0, err
	}
	e, err := doc.get(name)
	if err != nil {
		return 0, err
	}
	if e.Rotate.PerJob {
		return 0, fmt.Errorf("%w: secret %s has a new version for each job already", ErrRotate, name)
	}
	got, err := s.renew(ctx, name, func(*entry) *version { return nil }, holder{})
	return got.Number, err
}

// Remove destroys secrets with all their versions: all of them or, when one
// is not there or signs a token that stays, none.
func (s *Store) Remove(ctx context.Context, names ...string) error {
	return s.update(ctx, func(doc *document) (bool, error) {
		for _, name := range names {
			if _, err := doc.get(name); err != nil {
				return false, err
			}
			for _, token := range doc.tokensOf(name) {
				if !slices.Contains(names, token) {
					return false, fmt.Errorf("store: %s signs the token %s: remove that as well", name, token)
				}
			}
		}
		for _, name := range names {
			delete(doc.Secrets, name)
		}
		return len(names) > 0, nil
	})
}

// Sweep destroys the versions whose time is over, and says how many.
func (s *Store) Sweep(ctx context.Context) (int, error) {
	doc, err := s.load()
	if err != nil || doc.sweep(s.now()) == 0 {
		return 0, err // nothing to write, and no file made
	}
	return s.sweepAnd(ctx, func(*document) (bool, error) { return false, nil })
}

// Info is what may be shown of a secret: all but its values.
type Info struct {
	Name      string        `json:"name"`
	Generator Kind          `json:"generator,omitempty"` // empty: set by hand
	Rotate    Rotation      `json:"rotate"`
	Grace     string        `json:"grace"`
	Versions  []VersionInfo `json:"versions"`
}

// VersionInfo is what may be shown of a version.
type VersionInfo struct {
	Number  int       `json:"number"`
	State   State     `json:"state"`
	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // when it is destroyed
	Room    string    `json:"room,omitempty"`   // whose own it is
}

// List tells of all secrets, by name. What has expired is shown as destroyed:
// no job gets it any more.
func (s *Store) List() ([]Info, error) {
	doc, err := s.load()
	if err != nil {
		return nil, err
	}
	doc.sweep(s.now())
	all := []Info{}
	for _, name := range slices.Sorted(maps.Keys(doc.Secrets)) {
		e := doc.Secrets[name]
		info := Info{Name: name, Rotate: e.Rotate, Grace: short(e.Grace), Versions: []VersionInfo{}}
		if e.Generator != nil {
			info.Generator = e.Generator.Kind
		}
		for _, v := range e.Versions {
			info.Versions = append(info.Versions, VersionInfo{v.Number, v.State, v.Created, v.Expires, v.Room})
		}
		all = append(all, info)
	}
	return all, nil
}
