package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
)

// Between two tries of a destination that fails.
const (
	firstWait = 5 * time.Second
	longWait  = 5 * time.Minute
	longAsked = time.Hour // at most, if it asks for more itself
)

// item is something to send: a record, or a notice of ours about one.
type item struct {
	Record
	leaf   string
	notice string // "refused" or "rewritten"; empty for a record
}

// sender speaks to a destination.
type sender interface {
	// send returns nil once the destination has acknowledged the whole
	// batch. An error is a *refusal if what is in the batch is the reason,
	// an *away if the destination says when to come again.
	send(ctx context.Context, batch []item) error
	// most is how much a batch may hold: a number of records and, if it is
	// more than one, of bytes.
	most() (records, bytes int)
}

// source is what every record has in common.
type source struct{ origin, version string }

func newSender(c config.Forward, from source) (sender, error) {
	if c.Kind == "otlp" {
		return newOTLP(c, from)
	}
	return newSyslog(c, from)
}

// refusal is a destination that does not take count of the records of a
// batch, now or ever, but may take others.
type refusal struct {
	count  int
	reason string
}

func (r *refusal) Error() string { return r.reason }

// away is a destination that asks for some time.
type away struct {
	error
	time.Duration
}

func (a *away) Unwrap() error { return a.error }

// trouble is of the destination, not of our own log or disk.
type trouble struct{ error }

func (t trouble) Unwrap() error { return t.error }

// delivery is one pass over what a destination has not got yet.
type delivery struct {
	*Forwarder
	sender
	to     config.Forward
	state  *State
	report *logrus.Entry
}

// all sends the records below size in batches. After a failure the first
// batch has one record, and each one twice as many as that before: a
// destination that is slow gets what it can take, and one that comes and goes
// gets little twice.
func (d *delivery) all(ctx context.Context, size int64) error {
	if err := d.continuity(ctx, size); err != nil {
		return err
	}
	records, bytes := d.most()
	limit := records
	if d.state.Tries > 0 {
		limit = 1
	}
	var batch []item
	held := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := d.deliver(ctx, batch)
		batch, held, limit = batch[:0], 0, min(2*limit, records)
		return d.failed(ctx, err)
	}
	for r, err := range d.Log.Read(ctx, d.state.Next) {
		if err != nil {
			return errors.Join(flush(), err)
		}
		if want := d.state.Next + int64(len(batch)); r.Index != want {
			return errors.Join(flush(), fmt.Errorf("the log gave record %d for %d: run `cleanroom audit verify`", r.Index, want))
		}
		if len(batch) == limit || len(batch) > 0 && held+len(r.Body) > bytes {
			if err := flush(); err != nil {
				return err
			}
		}
		batch = append(batch, item{Record: r, leaf: leafOf(r.Body)})
		held += len(r.Body)
	}
	if err := flush(); err != nil {
		return err
	}
	if d.state.Next < size {
		return fmt.Errorf("the log gave %d records of %d: run `cleanroom audit verify`", d.state.Next, size)
	}
	return nil
}

// deliver sends a batch. If something in it is not taken, it is cut in halves
// until it is clear what; in that record's place goes a notice. That shows, too,
// that it is the record: a destination that takes no notice takes nothing now,
// and is no reason to pass over a record.
func (d *delivery) deliver(ctx context.Context, batch []item) error {
	err := d.sendOne(ctx, batch)
	var not *refusal
	switch {
	case err == nil:
		return d.advance(batch)
	case !errors.As(err, &not):
		return err
	case not.count < len(batch):
		// It took the others. Which, it does not say, and OTLP forbids to send
		// such a batch again.
		d.note(batch, int64(not.count), not.reason)
		return d.advance(batch)
	case len(batch) > 1:
		half := len(batch) / 2
		if err := d.deliver(ctx, batch[:half]); err != nil {
			return err
		}
		return d.deliver(ctx, batch[half:])
	}
	r := batch[0]
	notice := newNotice("refused", r.Record, map[string]any{"cleanroom": "record refused", "index": r.Index, "leaf": r.leaf, "bytes": len(r.Body), "reason": not.reason})
	if err := d.sendOne(ctx, []item{notice}); err != nil {
		return trouble{fmt.Errorf("record %d: %s; nor a notice of that: %w", r.Index, not.reason, err)}
	}
	d.note(batch, 1, not.reason)
	return d.advance(batch)
}

func (d *delivery) sendOne(ctx context.Context, batch []item) error {
	ctx, cancel := context.WithTimeout(ctx, d.to.Timeout)
	defer cancel()
	err := d.send(ctx, batch)
	var not *refusal
	if err == nil || errors.As(err, &not) {
		return err
	}
	return trouble{err}
}

// advance writes down that a batch has been acknowledged.
func (d *delivery) advance(batch []item) error {
	last := batch[len(batch)-1]
	if d.state.Tries > 0 {
		d.report.WithField("since", stamp(d.state.FailingSince)).Info("audit: this destination takes records again")
	}
	d.state.Next, d.state.Last = last.Index+1, last.leaf
	d.state.FailingSince, d.state.Tries, d.state.Error, d.state.NotBefore = time.Time{}, 0, "", time.Time{}
	return d.save(d.to.Name, d.state)
}

// note tells of records that are passed over.
func (d *delivery) note(batch []item, count int64, reason string) {
	r := Refusal{Time: time.Now(), First: batch[0].Index, Last: batch[len(batch)-1].Index, Count: count, Reason: clean(reason)}
	d.state.refuse(r)
	d.report.WithFields(logrus.Fields{"first": r.First, "last": r.Last, "count": r.Count, "reason": r.Reason}).
		Error("audit: this destination refuses a record for good; the log has it, the destination has not")
}

// failed writes down that the destination could not be reached, and when to
// try again. That our own time is up says nothing of it.
func (d *delivery) failed(ctx context.Context, err error) error {
	var t trouble
	if !errors.As(err, &t) || ctx.Err() != nil {
		return err
	}
	s, now := d.state, time.Now()
	if s.Tries == 0 {
		s.FailingSince = now
	}
	wait := min(firstWait<<min(s.Tries, 10), longWait)
	var asked *away
	if errors.As(err, &asked) {
		wait = max(wait, min(asked.Duration, longAsked))
	}
	s.Tries++
	s.Error, s.NotBefore = clean(err.Error()), now.Add(wait)
	d.report.WithFields(logrus.Fields{"error": s.Error, "since": stamp(s.FailingSince), "next_record": s.Next, "again": stamp(s.NotBefore)}).
		Warn("audit: this destination does not take records; they wait for it in the log")
	return errors.Join(fmt.Errorf("%w: %s", ErrDestination, s.Error), d.save(d.to.Name, s))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// continuity holds the log against what was sent. One that was rewritten is
// told to the destination, in the admin's log, and sent from its beginning: so
// the destination has both versions.
func (d *delivery) continuity(ctx context.Context, size int64) error {
	s := d.state
	if s.Next == 0 && s.Origin == d.Origin {
		return nil
	}
	var now string
	if s.Next > 0 && s.Next <= size {
		var err error
		if now, err = d.leaf(ctx, s.Next-1); err != nil {
			return err
		}
	}
	if now == s.Last && s.Origin == d.Origin {
		return nil
	}
	d.report.WithFields(logrus.Fields{"sent": s.Next, "origin": s.Origin, "size": size}).
		Error("audit: the log is not the one that was sent: it was replaced or rewritten, and is sent from its beginning")
	notice := newNotice("rewritten", Record{Index: max(0, s.Next-1), Time: time.Now()}, map[string]any{
		"cleanroom": "log rewritten", "sent": s.Next, "size": size, "origin_sent": s.Origin, "leaf_sent": s.Last, "leaf_now": now})
	if err := d.sendOne(ctx, []item{notice}); err != nil {
		return d.failed(ctx, trouble{err})
	}
	s.Origin, s.Next, s.Last = d.Origin, 0, ""
	return d.save(d.to.Name, s)
}

// newNotice stands at a record's place.
func newNotice(kind string, at Record, words map[string]any) item {
	at.Body, _ = json.Marshal(words) // of strings and numbers only
	return item{Record: at, leaf: leafOf(at.Body), notice: kind}
}
