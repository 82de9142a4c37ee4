// Package verify checks an audit log as somebody does who trusts neither the
// host nor those who run it: signatures, keys, every record, every hash, and
// every checkpoint of the log that anybody kept.
//
// What it promises: what was changed, dropped, inserted, moved, cut off or
// rolled back is found and named, with the index of the record, the tile, or
// the checkpoint that tells; what was rewritten with the log's own key is
// found if a checkpoint from before is known from elsewhere, as the logs of
// jobs hold one each; nothing is written; a log of any size is read once, from
// its beginning to its end, in little memory.
package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/tree"
)

// What a finding is about, for errors.Is.
var (
	// ErrRecord is a record that is not the one that was appended.
	ErrRecord = errors.New("a record was changed")
	// ErrTile is a tile that does not belong to the records.
	ErrTile = errors.New("a hash tile was changed")
	// ErrMissing is a tile or record that is not there.
	ErrMissing = errors.New("a part of the log is missing")
	// ErrInserted is what stands where nothing was appended.
	ErrInserted = errors.New("there is more than was appended")
	// ErrRoot is a checkpoint that is not of these records.
	ErrRoot = errors.New("the records do not give the root of the checkpoint")
	// ErrSignature is a checkpoint of the log without a valid signature of its
	// key, or none.
	ErrSignature = errors.New("the log's checkpoint is not signed by its key")
	// ErrKeys are keys that do not go back to the one that is known.
	ErrKeys = errors.New("the log's keys are not the ones that are known")
	// ErrRolledBack is a log that was longer once.
	ErrRolledBack = errors.New("the log was rolled back")
	// ErrForked is a log that was another once, at the same size.
	ErrForked = errors.New("the log was rewritten")
	// ErrRetired is a checkpoint of a key that was not the log's any more.
	ErrRetired = errors.New("a checkpoint is signed by a key that was not the log's at that size")
	// ErrContent is what the caller does not like of a record.
	ErrContent = errors.New("a record is not as it should be")
)

// maxFindings bounds the findings that are kept. Once a record is missing,
// none behind it is in its place.
const maxFindings = 100

// Finding is one thing that is wrong.
type Finding struct {
	Err  error  // one of the above
	From int64  // index of the first record it is about; -1: of none
	To   int64  // index of the last
	Tile string // the file, below the log's folder; empty: none
	Name string // the checkpoint that tells, as the caller named it; empty: none
	Why  string // in words
}

func (f Finding) Error() string { return f.Why }

// Unwrap gives its kind.
func (f Finding) Unwrap() error { return f.Err }

// Known is a checkpoint that was kept somewhere else.
type Known struct {
	Name string // where, for people
	Note []byte
}

// Options are what a verifier knows.
type Options struct {
	// First is the log's first public key, kept elsewhere. Without one the
	// log's folder says itself whose it is.
	First string
	// Known are checkpoints from elsewhere: job logs, witnesses, what the last
	// verification saw. One without a signature of the log's is not held
	// against the log: anybody could have written it.
	Known []Known
	// Record looks at each record that is in its place. Its error is a finding
	// (ErrContent).
	Record func(index int64, record []byte) error
}

// Report is what was found.
type Report struct {
	Checkpoint checkpoint.Checkpoint // of the log
	Keys       *key.Chain
	Pinned     bool      // whether the first key was known from elsewhere
	Records    int64     // read and in their place
	Findings   []Finding // none: all is well
	More       int       // findings beyond those
	Consistent []Known   // checkpoints that the log agrees with
	NotOurs    []Known   // those that its key did not sign
	// Trailing are files that go on behind the newest checkpoint, and Stray
	// those that are no part of the log: what an append left behind that is
	// under way, or was cut short, or what somebody put there. No checkpoint
	// covers it, and no reader sees it.
	Trailing, Stray []string
}

// Err joins all findings; nil: all is well.
func (r *Report) Err() error {
	list := make([]error, len(r.Findings))
	for i, f := range r.Findings {
		list[i] = f
	}
	if r.More > 0 {
		list = append(list, fmt.Errorf("and %d findings more", r.More))
	}
	return errors.Join(list...)
}

func (r *Report) add(f Finding) {
	if len(r.Findings) == maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

func (r *Report) note(err error, why string, args ...any) {
	r.add(Finding{Err: err, From: -1, To: -1, Why: fmt.Sprintf(why, args...)})
}

// Log verifies the log in a folder. What is wrong with it is in the report; an
// error is what kept us from looking: ctx's, of the disk, tree.ErrNoLog.
func Log(ctx context.Context, dir string, o Options) (*Report, error) {
	l, err := log.Open(dir)
	r := &Report{}
	switch {
	case errors.Is(err, key.ErrChain), errors.Is(err, fs.ErrNotExist): // the checkpoint is there
		r.note(ErrKeys, "%v", err)
		return r, nil
	case errors.Is(err, tree.ErrDamaged):
		r.note(ErrSignature, "%v", err)
		return r, nil
	case err != nil:
		return nil, err
	}
	r.Keys = l.Keys()
	if r.Pinned = o.First != ""; r.Pinned && r.Keys.First != o.First {
		r.note(ErrKeys, "the log begins with the key %s, but the one that is known is %s: it was made anew, or signed with another key", r.Keys.First, o.First)
		return r, nil
	}
	cp, err := l.Checkpoint()
	switch {
	case errors.Is(err, tree.ErrNoLog):
		return nil, err
	case err != nil:
		r.note(ErrSignature, "%s: %v", l.Store().CheckpointPath(), err)
		return r, nil
	}
	r.Checkpoint, r.Keys = cp, l.Keys()
	if r.Pinned && r.Keys.First != o.First { // read anew meanwhile
		r.note(ErrKeys, "the log's first key changed while it was verified")
		return r, nil
	}
	w := &walk{ctx: ctx, s: l.Store(), r: r, o: o, size: cp.Size}
	w.want = r.open(o.Known)
	for _, c := range r.Keys.Changes {
		if c.Size > cp.Size {
			r.add(Finding{Err: ErrRolledBack, From: cp.Size, To: c.Size - 1, Name: "the change of the key",
				Why: fmt.Sprintf("the log has %d records, but its key changed at %d: records %d to %d were dropped", cp.Size, c.Size, cp.Size, c.Size-1)})
			continue
		}
		w.want = append(w.want, wanted{Known{Name: "the change of the key"}, checkpoint.Checkpoint{Size: c.Size, Root: c.Root}, true})
	}
	slices.SortStableFunc(w.want, func(a, b wanted) int { return cmp.Compare(a.cp.Size, b.cp.Size) })
	if err := w.all(); err != nil {
		return nil, err
	}
	return r, w.strays()
}

// wanted is a checkpoint whose root is compared when the walk is there.
type wanted struct {
	Known
	cp     checkpoint.Checkpoint
	change bool // of the key: no checkpoint of anybody's
}

// open verifies what is known from elsewhere.
func (r *Report) open(known []Known) (list []wanted) {
	for _, k := range known {
		cp, err := r.Keys.Open(k.Note)
		switch {
		case errors.Is(err, key.ErrRetired):
			r.add(Finding{Err: ErrRetired, From: cp.Size, To: cp.Size, Name: k.Name,
				Why: fmt.Sprintf("%s has a checkpoint of %d records with the signature of a key that was not the log's at that size: who has that key forged it", k.Name, cp.Size)})
		case err != nil:
			r.NotOurs = append(r.NotOurs, k)
		case cp.Size > r.Checkpoint.Size:
			r.add(Finding{Err: ErrRolledBack, From: r.Checkpoint.Size, To: cp.Size - 1, Name: k.Name,
				Why: fmt.Sprintf("the log has %d records, but %s has a checkpoint of %d: records %d to %d were dropped", r.Checkpoint.Size, k.Name, cp.Size, r.Checkpoint.Size, cp.Size-1)})
		default:
			list = append(list, wanted{k, cp, false})
		}
	}
	return list
}

// check compares the roots that are due at a size with the one of the records.
func (w *walk) check(size int64, root tlog.Hash) {
	for len(w.want) > 0 && w.want[0].cp.Size <= size {
		one := w.want[0]
		w.want = w.want[1:]
		switch {
		case one.cp.Root == root && one.change:
			w.agreed = size
		case one.cp.Root == root:
			w.agreed = size
			w.r.Consistent = append(w.r.Consistent, one.Known)
		default:
			w.r.add(Finding{Err: ErrForked, From: w.agreed, To: size - 1, Name: one.Name,
				Why: fmt.Sprintf("%s has a signed root of the first %d records, and the log has another: what it holds of the records %d to %d is not what it held then", one.Name, size, w.agreed, size-1)})
		}
	}
}
