package queue

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// Errors of Drain.
var (
	// ErrLog is a log that does not take records. They wait.
	ErrLog = errors.New("records wait for the audit log")
	// ErrUnusable is an entry that somebody damaged. It was put aside.
	ErrUnusable = errors.New("an entry of the audit queue cannot be read, and what it says is not in the log: look at it")
)

// Drain appends all that waits, oldest first. It waits for others that do so
// as long as ctx allows. ErrLog; ErrUnusable, and others, after the rest was
// appended.
func (q Queue) Drain(ctx context.Context, log dossier.Log) error {
	return q.drain(log, func(path string) (*durable.Held, error) { return durable.Lock(ctx, path) })
}

// TryDrain leaves it to another who does it already.
func (q Queue) TryDrain(log dossier.Log) error {
	if err := q.drain(log, durable.Try); !errors.Is(err, durable.ErrHeld) {
		return err
	}
	return nil
}

func (q Queue) drain(log dossier.Log, lock func(path string) (*durable.Held, error)) (err error) {
	if all, err := q.names(); len(all) == 0 { // nearly always
		return err
	}
	held, err := lock(filepath.Join(q.Dir, "lock"))
	if err != nil {
		return fmt.Errorf("audit queue: %w", err)
	}
	defer func() { err = errors.Join(err, held.Unlock()) }()
	all, err := q.names()
	failed := []error{err}
	for _, name := range all {
		err := q.one(log, name)
		if failed = append(failed, err); errors.Is(err, ErrLog) {
			break
		}
	}
	return errors.Join(failed...)
}

// one appends an entry, unless somebody has not finished it yet.
func (q Queue) one(log dossier.Log, name string) error {
	p, err := q.take(name, durable.Try)
	if errors.Is(err, durable.ErrHeld) {
		return nil
	}
	if err != nil {
		return err
	}
	e, err := p.settled()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p.Drop() // of one that ended before its draft was whole
	case errors.Is(err, ErrUnusable):
		return errors.Join(err, p.Drop())
	case err == nil:
		err = Append(log, e)
	}
	if err == nil {
		err = fault.At("queue.appended")
	}
	if err != nil {
		return errors.Join(err, p.Close())
	}
	return p.Drop()
}

// Append puts an entry into the log, unless it is there.
func Append(log dossier.Log, e Entry) error {
	r, err := record.Decode([]byte(e.Record))
	if err != nil {
		return err
	}
	if finder, ok := log.(dossier.Finder); ok {
		size, err := finder.Size()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrLog, err)
		}
		if _, found, err := finder.Find(r.ID, min(e.From, size)); found {
			return nil
		} else if err != nil {
			return fmt.Errorf("%w: %w", ErrLog, err)
		}
	}
	if _, err := log.Append([]byte(e.Record)); err != nil {
		return fmt.Errorf("%w: %w", ErrLog, err)
	}
	return nil
}

// CutShort ends the command of a record whose process ended before it said
// whether it was done.
const CutShort = " (cut short: it may be done)"

// settled is an entry whose process is done with it, or ended: a draft then
// becomes what is kept, so that all who look at it later find the same.
func (p *Place) settled() (Entry, error) {
	e, _, err := p.read(kept)
	if errors.Is(err, fs.ErrNotExist) {
		var r *record.Record
		e, r, err = p.read(draft)
		if err == nil {
			r.By.Command += CutShort
			text, bad := r.Encode()
			if bad != nil {
				return e, p.aside(draft, bad)
			}
			e.Record = string(text)
			return e, p.Keep(e)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return e, p.aside(draft, err)
		}
		return e, err
	}
	if err != nil {
		return e, p.aside(kept, err)
	}
	return e, nil
}

// aside puts a file where it is in nobody's way.
func (p *Place) aside(ext string, why error) error {
	path := p.q.path(p.name, broken)
	if err := os.Rename(p.q.path(p.name, ext), path); err != nil {
		return fmt.Errorf("audit queue: %w", err)
	}
	return fmt.Errorf("%w: %s: %w", ErrUnusable, path, why)
}
