package executor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/sandbox/fault"
)

// queueTime bounds the wait for another process that works on the queue.
const queueTime = 30 * time.Second

// ErrUntold is a change that was refused, as the audit log would not know of it.
var ErrUntold = errors.New("nothing was changed, as audit.required is on and the change cannot be written down")

// identify gives what is no job its id: by the time, which no other of this
// process has.
func identify(r *record.Record) {
	r.ID = record.MakeID(r.Kind, r.At.UTC().Format(time.RFC3339Nano), strconv.Itoa(os.Getpid()))
}

// Text is a record of what is no job.
func (a *Audit) Text(kind record.Kind, command string, fill func(*record.Record)) ([]byte, error) {
	r := a.head(kind, command)
	fill(r)
	identify(r)
	return r.Encode()
}

// Announced is a change that an admin is about to make.
type Announced struct {
	a     *Audit
	r     *record.Record
	entry queue.Entry
	place *queue.Place // nil: it could not be written down
}

// Announce writes a change down before it is made, so that the log gets to know
// of it whatever happens then. Where that fails the change is refused
// (ErrUntold) if a log is required, unless it must be made all the same.
func (a *Audit) Announce(kind record.Kind, command string, must bool, fill func(*record.Record)) (*Announced, error) {
	if a == nil {
		return nil, nil
	}
	n := &Announced{a: a, r: a.head(kind, command)}
	fill(n.r)
	identify(n.r)
	err := n.begin()
	switch {
	case err == nil:
	case a.Required && !must:
		return nil, fmt.Errorf("%w: %w", ErrUntold, err)
	default:
		a.Report.WithError(err).Error("audit: it could not be written down beforehand, and is done all the same")
	}
	return n, nil
}

func (n *Announced) begin() (err error) {
	if n.entry, err = n.a.entry(n.r); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), queueTime)
	defer cancel()
	place, err := n.a.Queue.Take(ctx, n.entry.Name)
	if err != nil {
		return err
	}
	if err := place.Draft(n.entry); err != nil {
		return oneLine([]error{err, place.Drop()})
	}
	n.place = place
	return nil
}

// Done has the log know that the change was made; fill says what was not known
// before. A log that takes no record now gets it later.
func (n *Announced) Done(fill func(*record.Record)) error {
	if n == nil {
		return nil
	}
	n.r.At = time.Now()
	fill(n.r)
	text, err := n.r.Encode()
	if err != nil {
		return fmt.Errorf("it is done, but there is no record of it: %w", err)
	}
	n.entry.Record = string(text)
	if err := errors.Join(fault.At("change.made"), n.keep()); err != nil {
		return fmt.Errorf("it is done, but neither the audit log nor its queue knows of it: write down what you did: %w", err)
	}
	return nil
}

func (n *Announced) keep() error {
	if n.place == nil {
		return n.a.keep(n.entry)
	}
	kept := n.place.Keep(n.entry)
	if kept == nil {
		err := n.place.Close()
		n.a.drain()
		return err
	}
	if err := queue.Append(n.a.Log, n.entry); err != nil {
		return oneLine([]error{err, kept, n.place.Close()}) // the draft says that it may be done
	}
	return n.place.Drop()
}

// Undone is for a change that was not made.
func (n *Announced) Undone() error {
	if n == nil || n.place == nil {
		return nil
	}
	return n.place.Drop()
}

// entry is a record on its way.
func (a *Audit) entry(r *record.Record) (e queue.Entry, err error) {
	text, err := r.Encode()
	if err != nil {
		return e, err
	}
	e.Name, e.Record = a.Queue.Name(r.ID), string(text)
	if log, ok := a.Log.(dossier.Finder); ok {
		e.From, _ = log.Size() // of one that cannot be read, all is searched
	}
	return e, nil
}

// keep puts an entry into the log, by way of the queue if that can be written.
// It can be called again with the same one.
func (a *Audit) keep(e queue.Entry) error {
	ctx, cancel := context.WithTimeout(context.Background(), queueTime)
	defer cancel()
	place, err := a.Queue.Take(ctx, e.Name)
	if err == nil {
		if err = place.Keep(e); err == nil {
			err := place.Close()
			a.drain()
			return err
		}
		err = errors.Join(err, place.Drop())
	}
	if bad := queue.Append(a.Log, e); bad != nil {
		return oneLine([]error{bad, err})
	}
	return nil
}

// drain appends what waits, and says so where that fails.
func (a *Audit) drain() {
	if err := a.Drain(context.Background()); err != nil {
		a.Report.WithError(err).Warnf("audit: it waits in %s, for the next record or `cleanroom reap`", a.Queue.Dir)
	}
}

// Drain appends the records that wait for the log.
func (a *Audit) Drain(ctx context.Context) error {
	if a == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queueTime)
	defer cancel()
	return a.Queue.Drain(ctx, a.Log)
}
