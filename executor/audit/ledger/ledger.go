// Package ledger is this host's audit log as the configuration has it: where
// it stands, which key signs, and how a record is added and found again.
//
// What it promises: a host without a log is told from one whose log cannot be
// used; a record is in the log when Append returns; nothing but Publish, and a
// command that signs, waits for another host.
package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/forward"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/audit/record/schema"
	"cleanroom/executor/audit/tree"
	"cleanroom/executor/audit/witness"
)

func init() { record.Check = schema.Check }

// ErrNoLog is a host that keeps no audit log.
var ErrNoLog = errors.New("this host has no audit log: make one with `cleanroom audit init`")

// appendTime bounds one append: other processes', the disk, a signing command.
const appendTime = 30 * time.Second

// witnessTime is how long a witness may take to answer.
const witnessTime = 10 * time.Second

// Dir is the folder of the log.
func Dir(c config.Config) string { return log.Dir(c.DataDir) }

func keyFile(c config.Config) string { return filepath.Join(c.DataDir, "audit", "key") }

// Ledger is the log and its key.
type Ledger struct {
	*log.Log
	config config.Config
}

// Open opens the log. ErrNoLog; what else log.Open says.
func Open(c config.Config) (*Ledger, error) {
	l, err := log.Open(Dir(c))
	if errors.Is(err, tree.ErrNoLog) {
		return nil, ErrNoLog
	}
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	return &Ledger{l, c}, nil
}

func command(c config.Config) key.Command {
	return key.Command{Argv: c.Audit.SignCommand, Public: c.Audit.PublicKey}
}

// source gives the key that the log wants.
func (l *Ledger) source(ctx context.Context) key.Source {
	if len(l.config.Audit.SignCommand) == 0 {
		return key.File(keyFile(l.config))
	}
	return command(l.config).Source(ctx)
}

// Append adds a record, after those that wait in the queue. It is
// dossier.Log's.
func (l *Ledger) Append(text []byte) (index int64, err error) {
	// What is wrong with the queue itself, reap says.
	if err := l.queue().TryDrain(direct{l}); errors.Is(err, queue.ErrLog) {
		return 0, err
	}
	return l.add(text)
}

func (l *Ledger) queue() queue.Queue { return queue.Of(l.config.DataDir) }

// Drain appends what waits in the queue.
func (l *Ledger) Drain(ctx context.Context) error { return l.queue().Drain(ctx, direct{l}) }

// direct is the log for the queue.
type direct struct{ *Ledger }

func (d direct) Append(text []byte) (int64, error) { return d.add(text) }

func (l *Ledger) add(text []byte) (index int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), appendTime)
	defer cancel()
	done, err := l.Log.Append(ctx, l.source(ctx), text)
	if err != nil && !errors.Is(err, tree.ErrUnfinished) { // that one is in the log all the same
		return 0, fmt.Errorf("audit log: %w", err)
	}
	return done.Index, nil
}

// Size is how many records there are.
func (l *Ledger) Size() (int64, error) {
	cp, err := l.Checkpoint()
	return cp.Size, err
}

// Find looks for a record by its id, from an index on.
func (l *Ledger) Find(id string, from int64) (index int64, found bool, err error) {
	cp, err := l.newest()
	if err != nil {
		return 0, false, err
	}
	errFound := errors.New("found")
	want := []byte(`"id":"` + id + `"`)
	err = l.Each(cp, from, func(i int64, text []byte) error {
		if !bytes.Contains(text, want) {
			return nil
		}
		if r, err := record.Decode(text); err == nil && r.ID == id {
			index, found = i, true
			return errFound
		}
		return nil
	})
	if err != nil && err != errFound {
		return 0, false, fmt.Errorf("audit log: %w", err)
	}
	return index, found, nil
}

// newest finishes what a crash left, and gives the checkpoint of all there is.
func (l *Ledger) newest() (checkpoint.Checkpoint, error) {
	ctx, cancel := context.WithTimeout(context.Background(), appendTime)
	defer cancel()
	if err := l.Finish(ctx); err != nil {
		return checkpoint.Checkpoint{}, fmt.Errorf("audit log: %w", err)
	}
	return l.Checkpoint()
}

// Records hands over all records, each proved to be in the newest checkpoint.
func (l *Ledger) Records(yield func(index int64, text []byte) error) error {
	cp, err := l.newest()
	if err != nil {
		return err
	}
	return l.Each(cp, 0, yield)
}

// Witnesses are those that the configuration names.
func Witnesses(c config.Config) (all []witness.Witness) {
	for _, w := range c.Audit.Witness {
		all = append(all, witness.Witness{URL: w.URL, Public: w.PublicKey})
	}
	return all
}

// Forwarder sends the log's records to where the configuration wants them.
func (l *Ledger) Forwarder(version string, report *logrus.Entry) *forward.Forwarder {
	return &forward.Forwarder{Destinations: l.config.Audit.Forward, Dir: filepath.Join(l.config.DataDir, "audit", "forward"),
		Origin: l.Keys().Origin(), Log: forwarded{l}, Version: version, Report: report}
}

// Publish sends to other hosts what they have not got yet: the newest
// checkpoint to witnesses, and records, of which there may be more than there
// is time for. It ends when ctx does.
func (l *Ledger) Publish(ctx context.Context, version string, report *logrus.Entry) error {
	var failed []error
	for _, w := range Witnesses(l.config) {
		if err := l.show(ctx, w); err != nil && !errors.Is(err, witness.ErrBusy) {
			failed = append(failed, fmt.Errorf("witness %s: %w", w.URL, err))
		}
	}
	if len(l.config.Audit.Forward) > 0 {
		failed = append(failed, l.Forwarder(version, report).Run(ctx))
	}
	return errors.Join(failed...)
}

// show leaves time for the others where a witness hangs.
func (l *Ledger) show(ctx context.Context, w witness.Witness) error {
	ctx, cancel := context.WithTimeout(ctx, witnessTime)
	defer cancel()
	return w.Show(ctx, l.Log)
}

// forwarded is the log as a forwarder reads it.
type forwarded struct{ *Ledger }

func (f forwarded) Size(ctx context.Context) (int64, error) {
	if err := f.Finish(ctx); err != nil {
		return 0, err
	}
	return f.Ledger.Size()
}

func (f forwarded) Read(ctx context.Context, from int64) iter.Seq2[forward.Record, error] {
	return func(yield func(forward.Record, error) bool) {
		errEnough := errors.New("enough")
		cp, err := f.Checkpoint()
		if err == nil {
			err = f.Each(cp, from, func(i int64, text []byte) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				one := forward.Record{Index: i, Body: bytes.Clone(text)}
				if r, err := record.Decode(text); err == nil {
					one.Time = r.At
				}
				if !yield(one, nil) {
					return errEnough
				}
				return nil
			})
		}
		if err != nil && err != errEnough {
			yield(forward.Record{}, err)
		}
	}
}
