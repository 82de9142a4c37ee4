package dossier

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cleanroom/executor/audit/record"
)

// Log is where records go. When Append returns, the record survives a power
// cut.
type Log interface {
	Append(record []byte) (index int64, err error)
}

// Finder is a Log that can be asked whether a record is in it already. With
// another one, a crash at the wrong instant gives two records of one id.
type Finder interface {
	Log
	// Size is how many records there are.
	Size() (int64, error)
	// Find looks for a record of that id, from an index on.
	Find(id string, from int64) (index int64, found bool, err error)
}

// Close makes the record of one try at ending a room, and puts it into the
// log: once, however often it is called, as the one after a crash finds in the
// dossier that it may be there. The first is the job's; make gives each as the
// dossier stands (all but its ID), or nil where there is nothing to say.
//
// The dossier goes when the room is wholly ended and the record is in the log.
// One that is not there is made: it must be known that there is a record. An
// error means that it is to be called again.
func Close(dataDir, room string, log Log, make func(State) *record.Record, complete bool) (index int64, err error) {
	f, gap, err := lock(pathOf(dataDir, room), dataDir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	state := State{Job: record.Job{Room: room}, Gaps: []string{gap}}
	if gap == "" {
		state = gather(room, f)
	} else if gap == missing {
		if err := state.told(room, log); err != nil {
			return 0, err
		}
	}
	r := make(state)
	if r == nil {
		if complete {
			return 0, remove(dataDir, room)
		}
		return 0, nil
	}
	if state.recorded == 0 {
		r.ID = record.MakeID(record.OfJob, room)
	} else {
		r.ID = record.MakeID(record.OfReap, room, strconv.Itoa(state.recorded))
	}
	text, err := r.Encode()
	if err != nil { // somebody wrote into the dossier what we do not
		if text, err = salvage(r, err).Encode(); err != nil {
			return 0, err
		}
	}
	if index, err = put(dataDir, room, log, r.ID, text, state.pending); err != nil {
		return 0, err
	}
	if complete {
		return index, remove(dataDir, room)
	}
	return index, note(dataDir, room, mark{ID: r.ID, Recorded: true, Index: index})
}

// told asks the log where there is no dossier: whoever ended the room may have
// died when it had its record and before it was off the books.
func (s *State) told(room string, log Log) error {
	finder, ok := log.(Finder)
	if !ok {
		return nil
	}
	for id := record.MakeID(record.OfJob, room); ; id = record.MakeID(record.OfReap, room, strconv.Itoa(s.recorded)) {
		_, found, err := finder.Find(id, 0)
		if err != nil || !found {
			return err
		}
		if s.recorded++; s.recorded == 1 {
			s.first = id
		}
	}
}

// note adds a mark. A dossier that is full keeps no record from the log.
func note(dataDir, room string, m mark) error {
	err := Add(dataDir, room, Line{Mark: &m}, true)
	if errors.Is(err, ErrFull) {
		return nil
	}
	return err
}

// Why nothing is known.
const (
	missing  = "there is no dossier of this room: what ran in it is not known"
	unusable = "the dossier of this room cannot be used, and what ran in it is not known: "
)

// put appends the record, unless a try before this one did.
func put(dataDir, room string, log Log, id string, text []byte, pending mark) (index int64, err error) {
	finder, ok := log.(Finder)
	now := mark{ID: id}
	if ok {
		if now.From, err = finder.Size(); err != nil {
			return 0, err
		}
		if pending.ID == id {
			index, found, err := finder.Find(id, min(pending.From, now.From))
			if err != nil || found {
				return index, err
			}
		}
	}
	if err := note(dataDir, room, now); err != nil {
		return 0, err
	}
	return log.Append(text)
}

// lock opens the dossier for one closer alone. gap says why it is empty: it
// was not there, or nobody can use what is there, which is put aside.
func lock(path, dataDir string) (f *os.File, gap string, err error) {
	if err := mkdir(dataDir); err != nil {
		return nil, "", err
	}
	for {
		f, err = open(path, 0)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			gap = unusable + err.Error()
			if err := os.Rename(path, path+".unusable"); err != nil {
				return nil, "", fmt.Errorf("dossier: %w", err)
			}
		}
		if err != nil {
			if f, err = open(path, os.O_CREATE|os.O_EXCL); errors.Is(err, fs.ErrExist) {
				continue
			}
			if gap == "" {
				gap = missing
			}
		}
		if err != nil {
			return nil, "", err
		}
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		}
		if err != nil {
			return nil, "", errors.Join(fmt.Errorf("dossier: %w", err), f.Close())
		}
		opened, err := f.Stat()
		if there, wrong := os.Lstat(path); err == nil && wrong == nil && os.SameFile(opened, there) {
			if opened.Size() > 0 { // another closer was first
				gap = ""
			}
			return f, gap, nil
		}
		f.Close() // who had it removed it
	}
}

func remove(dataDir, room string) error {
	if err := os.Remove(pathOf(dataDir, room)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("dossier: %w", err)
	}
	return syncFolder(dataDir)
}

// salvage is what is certain of a record that does not fit the schema: what
// the closer itself saw.
func salvage(r *record.Record, why error) *record.Record {
	gap := []string{"the dossier of this room was damaged, and nothing in it can be used: " + strings.Join(strings.Fields(why.Error()), " ")}
	small := &record.Record{Kind: r.Kind, ID: r.ID, At: r.At, Host: r.Host, By: r.By}
	switch {
	case r.Job != nil:
		small.Job = &record.Job{Room: r.Job.Room, Outcome: record.System, End: r.Job.End, Gaps: gap}
	case r.Reap != nil:
		small.Reap = &record.Reap{Room: r.Reap.Room, End: r.Reap.End}
	}
	return small
}
