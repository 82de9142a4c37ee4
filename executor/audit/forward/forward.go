// Package forward sends the records of the audit log to other hosts, as they
// are written: to syslog servers (RFC 5424) and OpenTelemetry receivers (OTLP).
//
// What it promises: every record below the log's size is sent to every
// destination at least once and in order, whatever dies in between, and a
// record's index and leaf hash let a receiver drop what comes twice; a
// destination that is away or slow keeps nobody waiting, neither a job nor
// another destination, and gets what it missed when it is back; a record that a
// destination does not take is told to the admin and, in the record's place, to
// the destination; so is a log that was rewritten below what was sent already.
// How far that holds depends on what a destination acknowledges: OTLP says
// what it took, and of a syslog server over TCP or TLS we know that it read to
// the end, but UDP loses datagrams and tells nobody.
//
// There is no daemon. Whoever appended calls detach.Start, which starts a process
// that outlives the job's; a timer's pass calls Run for what that left.
package forward

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/config"
	"cleanroom/executor/secret/hostkey/durable"
)

// Errors.
var (
	// ErrDestination is a destination that does not take records now. What it
	// has not got yet waits for the next Run.
	ErrDestination = errors.New("destination does not take records")
	// ErrUnknown is a name that no destination has.
	ErrUnknown = errors.New("no such destination")
)

// Record is an entry of the log.
type Record struct {
	Index int64     // its place in the log, from 0
	Time  time.Time // when it was appended
	Body  []byte    // canonical JSON, the very bytes that the log's tree holds; not changed later
}

// Log is what records are read from. It is used by several goroutines at once.
type Log interface {
	// Size is the number of records there are for certain: none of those
	// below it may change or vanish, even if the machine stops now.
	Size(ctx context.Context) (int64, error)
	// Read yields the records from an index up to Size, in order, without
	// holding more of them in memory than it needs. After an error it ends.
	Read(ctx context.Context, from int64) iter.Seq2[Record, error]
}

// Forwarder sends the records of one log.
type Forwarder struct {
	Destinations []config.Forward // that were validated
	Dir          string           // where it is kept how far each destination is
	Origin       string           // the log's name, as its checkpoints have it
	Log          Log
	Version      string        // of this program
	Report       *logrus.Entry // hears of what goes wrong
	// Force tries destinations that failed a moment ago, too.
	Force bool
}

// Run sends to each destination what it has not got yet, to all at once, and
// comes back when they have everything, or when ctx ends. A destination that
// another process sends to is left to that one; one that failed is left alone
// for a while (5 s to 5 min, or what it asks for). Errors of destinations wrap
// ErrDestination; they have been reported, and are in States.
func (f *Forwarder) Run(ctx context.Context) error {
	if err := durable.Folder(f.Dir); err != nil {
		return err
	}
	failed := make([]error, len(f.Destinations))
	var all sync.WaitGroup
	for i, c := range f.Destinations {
		all.Go(func() {
			if err := f.serve(ctx, c); err != nil {
				failed[i] = fmt.Errorf("forwarding to %s: %w", c.Name, err)
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}

// serve sends to one destination until it has everything. Who finds the lock
// held goes away, so its holder looks again once it has let go: what was
// appended meanwhile has nobody else.
func (f *Forwarder) serve(ctx context.Context, c config.Forward) error {
	for {
		held, err := durable.Try(f.path(c.Name) + ".lock")
		if errors.Is(err, durable.ErrHeld) {
			return nil
		}
		if err != nil {
			return err
		}
		err = f.catchUp(ctx, c)
		held.Unlock()
		if err != nil {
			return err
		}
		s, err := f.load(c.Name)
		if err != nil {
			return err
		}
		if size, err := f.Log.Size(ctx); err != nil || size <= s.Next || f.leftAlone(s) {
			return err
		}
	}
}

// leftAlone: a time beyond what was ever waited for is of a clock that was wrong.
func (f *Forwarder) leftAlone(s *State) bool {
	wait := time.Until(s.NotBefore)
	return !f.Force && wait > 0 && wait <= longAsked
}

// catchUp sends everything that there is; the lock is ours.
func (f *Forwarder) catchUp(ctx context.Context, c config.Forward) error {
	s, err := f.load(c.Name)
	if err != nil || f.leftAlone(s) {
		return err
	}
	size, err := f.Log.Size(ctx)
	if err != nil || size == s.Next && s.Origin == f.Origin {
		return err
	}
	d := &delivery{Forwarder: f, to: c, state: s, report: f.Report.WithField("destination", c.Name)}
	if d.sender, err = newSender(c, source{origin: f.Origin, version: f.Version}); err != nil {
		return d.failed(ctx, trouble{err}) // a file that cannot be read, say
	}
	return d.all(ctx, size)
}

// Progress is how far a destination is.
type Progress struct {
	Name string `json:"name"`
	// Pending is how many records it has not got yet.
	Pending int64 `json:"pending"`
	State
}

// States tells of each destination, without sending anything.
func (f *Forwarder) States(ctx context.Context) ([]Progress, error) {
	size, err := f.Log.Size(ctx)
	if err != nil {
		return nil, err
	}
	var all []Progress
	for _, c := range f.Destinations {
		s, err := f.load(c.Name)
		if err != nil {
			return nil, err
		}
		all = append(all, Progress{Name: c.Name, Pending: max(0, size-s.Next), State: *s})
	}
	return all, nil
}

// Rewind has a destination get the records from an index on, again. It waits
// for a process that sends now as long as ctx allows. An unknown name is
// ErrUnknown.
func (f *Forwarder) Rewind(ctx context.Context, name string, next int64) error {
	known := false
	for _, c := range f.Destinations {
		known = known || c.Name == name
	}
	if !known {
		return fmt.Errorf("%w: %q is not the name of an [[audit.forward]]", ErrUnknown, name)
	}
	if err := durable.Folder(f.Dir); err != nil {
		return err
	}
	held, err := durable.Lock(ctx, f.path(name)+".lock")
	if err != nil {
		return err
	}
	defer held.Unlock()
	s, err := f.load(name)
	if err != nil {
		return err
	}
	if next < 0 || next > s.Next {
		return fmt.Errorf("%s has got records up to %d only: choose an index from 0 to that", name, s.Next)
	}
	last := ""
	if next > 0 {
		if last, err = f.leaf(ctx, next-1); err != nil {
			return err
		}
		if last == "" {
			return fmt.Errorf("the log has no record %d: run `cleanroom audit verify`", next-1)
		}
	}
	s.Next, s.Last, s.NotBefore = next, last, time.Time{}
	return f.save(name, s)
}

// leaf is the hash of a record as the log has it now; empty if it has none.
func (f *Forwarder) leaf(ctx context.Context, index int64) (string, error) {
	for r, err := range f.Log.Read(ctx, index) {
		return leafOf(r.Body), err
	}
	return "", nil
}

// leafOf is the leaf hash of RFC 6962, in base64: what proofs of inclusion
// begin with.
func leafOf(body []byte) string { return tlog.RecordHash(body).String() }
