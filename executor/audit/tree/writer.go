package tree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/tree/journal"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// Errors of writing.
var (
	// ErrExists is a folder that has a log already.
	ErrExists = errors.New("there is an audit log already")
	// ErrUnfinished is an append that is durable, but that readers do not see
	// before the next writer has finished it.
	ErrUnfinished = errors.New("the record is in the audit log, but could not be published")
)

// Hooks are what a writer does not know by itself.
type Hooks struct {
	// Open verifies a checkpoint. What it refuses is not built upon: else our
	// next signature would be one under somebody else's log.
	Open func(msg []byte) (checkpoint.Checkpoint, error)
	// Change makes the statement of a change of the key known, durably, before
	// the checkpoint is published that it stands with. It may come again.
	Change func(statement []byte) error
}

// Writer appends to a log, alone until it is closed.
type Writer struct {
	s      Store
	h      Hooks
	lock   *durable.Held
	j      *journal.Journal
	tree   tlog.Tree
	bundle int64 // length of the last bundle, in bytes; 0 if that is full
}

// Tree is what the log holds.
func (w *Writer) Tree() tlog.Tree { return w.tree }

// Close lets others append.
func (w *Writer) Close() error { return errors.Join(w.j.Close(), w.lock.Unlock()) }

// Init makes the folder of a log, which begins with these records, if any.
// ready writes what a log needs before it has a checkpoint; sign gives that of
// a tree. Once there is a log, the records are decided: Init was cut short
// before, and then can be called again, or the next writer finishes it.
// ErrExists.
func (s Store) Init(ctx context.Context, records [][]byte, ready func() error, sign func(tlog.Tree) (msg []byte, err error)) error {
	if err := durable.Folder(s.Dir); err != nil {
		return err
	}
	held, err := lock(ctx, s.Dir)
	if err != nil {
		return err
	}
	defer held.Unlock()
	if _, err := os.Lstat(s.CheckpointPath()); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%w in %s", ErrExists, s.Dir))
	}
	// Somebody's records, though the checkpoint is gone.
	if _, err := os.Lstat(filepath.Join(s.Dir, "tile")); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%w in %s, without its checkpoint: move the folder away", ErrExists, s.Dir))
	}
	root, err := tlog.TreeHash(0, nil)
	if err != nil {
		return err
	}
	empty, err := sign(tlog.Tree{Hash: root})
	if err != nil {
		return err
	}
	frame, err := s.first(records, root, sign)
	if err != nil {
		return err
	}
	if err := errors.Join(ready(), fault.At("init.ready")); err != nil {
		return full(err)
	}
	if err := s.initJournal(frame); err != nil {
		return full(err)
	}
	if err := fault.At("init.journalled"); err != nil {
		return err
	}
	return full(durable.Write(s.CheckpointPath(), empty))
}

// first is the frame of the records with which a log begins; empty: of none.
func (s Store) first(records [][]byte, root tlog.Hash, sign func(tlog.Tree) ([]byte, error)) ([]byte, error) {
	if len(records) == 0 {
		return nil, nil
	}
	data, err := pack(records)
	if err != nil {
		return nil, err
	}
	p, err := s.plan(0, &root, 0, data, len(records))
	if err != nil {
		return nil, err
	}
	f := &journal.Frame{Bundle: p.bundle, Count: len(records), Records: data}
	if f.Note, err = sign(p.tree); err != nil {
		return nil, err
	}
	return f.Encode(), nil
}

// initJournal makes the journal of a new log. Its header says that there is
// something to finish if there is a frame.
func (s Store) initJournal(frame []byte) error {
	// One that is there is another log's, or of an Init that was cut short.
	if err := os.Remove(journal.Path(s.Dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	j, err := journal.Open(s.Dir)
	if err != nil {
		return err
	}
	h := journal.Header{Boot: boot(), End: journal.Block}
	if len(frame) > 0 {
		h.Boot = ""
	}
	return errors.Join(j.Write(frame, journal.Block, h), j.Close())
}

// Stale tells whether a crash left something to finish, at the price of a few
// microseconds. While somebody appends it may say so too.
func (s Store) Stale() bool {
	if _, err := os.Lstat(s.newPath()); err == nil {
		return true
	}
	was, err := journal.Boot(s.Dir)
	return err != nil || was == "" || was != boot()
}

// newPath is the checkpoint to be. It is there from before the first change of
// an append until after its last one, and so tells the next writer that one
// was cut short.
func (s Store) newPath() string { return s.CheckpointPath() + ".new" }

// Begin waits for its turn as long as ctx allows, and finishes what an append
// that was cut short left behind. ErrNoLog, ErrDamaged, ErrMissing, ErrFull,
// and what h.Open says.
func (s Store) Begin(ctx context.Context, h Hooks) (w *Writer, err error) {
	held, err := lock(ctx, s.Dir)
	if err != nil {
		return nil, err
	}
	w = &Writer{s: s, h: h, lock: held}
	msg, err := s.Checkpoint()
	if err != nil {
		held.Unlock()
		return nil, err
	}
	if w.j, err = journal.Open(s.Dir); err != nil {
		held.Unlock()
		return nil, full(err)
	}
	if err = w.load(msg); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// load finds the state. All is as it should be if the journal's newest frame
// is the one that was published.
func (w *Writer) load(msg []byte) error {
	cp, bad := w.h.Open(msg)
	if bad == nil {
		ok, err := w.clean(cp, msg)
		if ok || err != nil {
			return err
		}
	}
	return w.recover(cp, bad)
}

// clean tells whether nothing is to be finished, and takes the state over.
func (w *Writer) clean(cp checkpoint.Checkpoint, msg []byte) (bool, error) {
	if _, err := os.Lstat(w.s.newPath()); err == nil || w.j.Boot == "" || w.j.Boot != boot() {
		return false, nil
	}
	w.tree = cp.Tree()
	if w.j.Pos != 0 {
		f, err := w.j.At(w.j.Pos)
		if err != nil || f == nil || !bytes.Equal(f.Note, msg) {
			return false, err
		}
		w.bundle = f.Bundle
	}
	if next, err := w.j.At(w.j.End); err != nil || next != nil && next.First == cp.Size {
		return false, err // of a writer that was killed before it could say so
	}
	if w.j.Pos == 0 {
		var err error
		w.bundle, err = w.s.lastBundle(cp.Size)
		return err == nil, err
	}
	return true, nil
}

// recover makes tiles and checkpoint again from the journal, and waits until
// they are durable. bad says why the published checkpoint is not to be had.
func (w *Writer) recover(cp checkpoint.Checkpoint, bad error) error {
	list, err := w.j.Frames()
	if err != nil {
		return err
	}
	var newest checkpoint.Checkpoint
	if len(list) > 0 {
		if newest, err = w.openLast(list); err != nil {
			return err
		}
	}
	if len(list) == 0 || bad == nil && cp.Size > newest.Size {
		// All that the checkpoint covers was durable before the journal began
		// anew, or the journal is lost; plan says whether the tiles are.
		if bad != nil {
			return bad
		}
		newest, list = cp, nil
	}
	base, bundle := newest.Size, int64(0)
	var records []byte
	count := 0
	for _, f := range list {
		base = min(base, f.First)
		records, count = append(records, f.Records...), count+f.Count
	}
	if bundle, err = w.s.lastBundle(base); err != nil {
		return err
	}
	p, err := w.s.plan(base, nil, bundle, records, count)
	if err != nil {
		return err
	}
	if p.tree != newest.Tree() {
		return fmt.Errorf("%w: tiles and journal do not give the root of the checkpoint at %d records: run cleanroom audit verify", ErrDamaged, newest.Size)
	}
	done, err := w.s.write(p.pieces)
	if err != nil {
		return full(err)
	}
	if err := w.s.rename(done); err != nil {
		return full(err)
	}
	if err := w.s.sweep(p.tree.N, p.bundle); err != nil {
		return err
	}
	if err := durable.Write(w.s.CheckpointPath(), newest.Note); err != nil {
		return full(err)
	}
	w.tree, w.bundle, w.j.Base = p.tree, p.bundle, base
	return w.sync()
}

// openLast verifies the newest checkpoint of the journal. The statement of a
// change of the key must be known for that.
func (w *Writer) openLast(list []*journal.Frame) (checkpoint.Checkpoint, error) {
	for _, f := range list {
		if len(f.Change) > 0 {
			if err := w.h.Change(f.Change); err != nil {
				return checkpoint.Checkpoint{}, full(err)
			}
		}
	}
	last := list[len(list)-1]
	cp, err := w.h.Open(last.Note)
	if err == nil && cp.Size != last.Size() {
		err = fmt.Errorf("%w: the journal's checkpoint is of %d records and not %d", ErrDamaged, cp.Size, last.Size())
	}
	return cp, err
}

// sync waits until all outside the journal is durable, and begins it anew.
func (w *Writer) sync() error {
	if err := w.s.flush(w.j.Base, w.tree.N); err != nil {
		// What did not reach the disk is not in memory any more either, maybe:
		// the next writer makes it again from the frames.
		h := w.j.Header
		h.Boot = ""
		_ = w.j.Write(nil, 0, h)
		return full(err)
	}
	w.j.Header = journal.Header{Boot: boot(), Base: w.tree.N, End: journal.Block}
	return w.j.Write(nil, 0, w.j.Header)
}

// Append adds records, at least one, all or none. sign gets the tree after
// them and gives its checkpoint, and the statement if the key changes with it.
// ErrRecord, ErrFull, ErrDamaged, ErrMissing, and what sign says: nothing was
// appended. ErrUnfinished: see there.
func (w *Writer) Append(records [][]byte, sign func(tlog.Tree) (msg, change []byte, err error)) error {
	data, err := pack(records)
	if err != nil {
		return err
	}
	p, err := w.s.plan(w.tree.N, &w.tree.Hash, w.bundle, data, len(records))
	if err != nil {
		return err
	}
	f := &journal.Frame{First: w.tree.N, Bundle: p.bundle, Count: len(records), Records: data}
	if f.Note, f.Change, err = sign(p.tree); err != nil {
		return err
	}
	if f.Length() > journal.Capacity-journal.Block {
		return fmt.Errorf("%w: %d bytes at once: append fewer", ErrRecord, len(data))
	}
	if w.j.End+f.Length() > journal.Capacity {
		if err := w.sync(); err != nil {
			return err
		}
	}
	done, err := w.commit(f, p.pieces)
	if err != nil {
		return full(err)
	}
	w.tree, w.bundle = p.tree, p.bundle
	if err := w.publish(f, done); err != nil {
		return fmt.Errorf("%w: the next append will try again: %w", ErrUnfinished, err)
	}
	return nil
}

// commit writes all that could find the disk full, and then decides.
func (w *Writer) commit(f *journal.Frame, pieces []piece) (done []written, err error) {
	defer func() {
		if err != nil {
			w.s.undo(done)
			_ = os.Remove(w.s.newPath())
		}
	}()
	// Not waited for: the journal has it too.
	out, err := os.OpenFile(w.s.newPath(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = durable.Give(out, w.s.Dir)
	if err == nil {
		_, err = out.Write(f.Note)
	}
	if err = errors.Join(err, out.Close(), fault.At("append.begun")); err != nil {
		return nil, err
	}
	if done, err = w.s.write(pieces); err != nil {
		return nil, err // taken back by write
	}
	if err := fault.At("append.written"); err != nil {
		return done, err
	}
	before := w.j.Header
	after := journal.Header{Boot: before.Boot, Base: before.Base, Pos: before.End, End: before.End + f.Length()}
	if err := w.j.Write(f.Encode(), before.End, after); err != nil {
		// It may be on the disk all the same, and must not be found there.
		if again := w.j.Write(make([]byte, journal.Block), before.End, before); again != nil {
			return done, errors.Join(err, fmt.Errorf("and it could not be taken back, so that it may be appended all the same: %w", again))
		}
		return done, err
	}
	w.j.Header = after
	return done, nil
}

// publish lets readers see what was decided. The statement of a new key comes
// before the checkpoint that needs it, names of tiles before what leads to
// them.
func (w *Writer) publish(f *journal.Frame, done []written) error {
	if err := fault.At("append.decided"); err != nil {
		return err
	}
	if len(f.Change) > 0 {
		if err := errors.Join(w.h.Change(f.Change), fault.At("append.key.known")); err != nil {
			return err
		}
	}
	if err := errors.Join(w.s.rename(done), fault.At("append.renamed")); err != nil {
		return err
	}
	return os.Rename(w.s.newPath(), w.s.CheckpointPath())
}
