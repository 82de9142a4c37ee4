package executor

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/executor/contract"
	"cleanroom/executor/metrics"
	"cleanroom/executor/secret/hostkey/durable"
)

// note is what the driver keeps, in the state folder, of a job's way: the
// stage that runs, for `cleanroom room list`, and how the job went so far, for
// cleanup, which nobody tells. Nothing depends on it: a job goes on without.
//
// A stage counts as running only while its process has the note locked, so
// that a driver that was killed leaves no lie.
type note struct {
	Stage  string    `json:"stage,omitempty"`
	Began  time.Time `json:"began,omitzero"`
	Result string    `json:"result,omitempty"` // of the job, so far; empty: its script has not ended
	In     string    `json:"in,omitempty"`     // the stage that failed
}

// maxNote bounds the file, in bytes.
const maxNote = 4096

func notesDir(stateDir string) string { return filepath.Join(stateDir, "stages") }

func notePath(stateDir, room string) string {
	return filepath.Join(notesDir(stateDir), filepath.Base(room))
}

// openNote is a note with its lock; nobody's, where there is none or another
// process has it. The file goes when the room has ended, so only a prepare
// makes it.
func openNote(stateDir, room string, make bool) *openedNote {
	flags := os.O_RDWR | unix.O_NOFOLLOW | unix.O_NONBLOCK
	if make {
		flags |= os.O_CREATE
		if durable.Folder(notesDir(stateDir)) != nil {
			return nil
		}
	}
	f, err := os.OpenFile(notePath(stateDir, room), flags, 0o600)
	if err != nil {
		return nil
	}
	// A lock of the open file, which a reader can ask for without taking it.
	if unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}) != nil {
		f.Close()
		return nil
	}
	n := &openedNote{f: f}
	if !make { // a prepare that is tried again begins anew
		n.note, _ = readNote(f)
	}
	return n
}

type openedNote struct {
	note
	f *os.File
}

// write puts the note in place of what the file has.
func (n *openedNote) write() {
	text, err := json.Marshal(n.note)
	if err != nil {
		return
	}
	if _, err := n.f.WriteAt(append(text, '\n'), 0); err == nil {
		_ = n.f.Truncate(int64(len(text)) + 1) // a rest of the old makes it unreadable, which is "not known"
	}
}

func readNote(f io.ReaderAt) (n note, ok bool) {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxNote))
	if err != nil || json.Unmarshal(text, &n) != nil {
		return note{}, false
	}
	return n, true
}

// begins notes a stage.
func (n *openedNote) begins(stage string) {
	if n != nil {
		n.Stage, n.Began = stage, time.Now().UTC()
		n.write()
	}
}

func (n *openedNote) close() {
	if n != nil {
		n.f.Close()
	}
}

// ends notes how the stage went, and lets go.
func (n *openedNote) ends(result string) {
	if n == nil {
		return
	}
	n.add(n.Stage, result)
	n.Stage, n.Began = "", time.Time{}
	n.write()
	n.close()
}

// add makes a stage's result a part of the job's. The first failure stays,
// unless that very stage is tried again: the runner does so with its own. A
// helper stage that went well does not make a job ok, the script does.
func (n *note) add(stage, result string) {
	if n.In != "" && n.In != stage || stage == contract.StageAfterScript {
		return
	}
	kind, _ := contract.Classify(stage)
	switch {
	case result != metrics.OK:
		n.Result, n.In = result, stage
	case kind == contract.User:
		n.Result, n.In = result, ""
	case n.In == stage:
		n.Result, n.In = "", ""
	}
}

// result of a job whose room has ended.
func (n note) result() string {
	if n.Result == "" {
		return metrics.System
	}
	return n.Result
}

// peekNote reads a note without its lock.
func peekNote(stateDir, room string) (n note, locked, ok bool) {
	f, err := os.OpenFile(notePath(stateDir, room), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return note{}, false, false
	}
	defer f.Close()
	n, _ = readNote(f)
	lock := unix.Flock_t{Type: unix.F_RDLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &lock)
	return n, err == nil && lock.Type != unix.F_UNLCK, true
}

// removeNote says whether it was this caller who removed it.
func removeNote(stateDir, room string) (bool, error) {
	err := os.Remove(notePath(stateDir, room))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case errors.Is(err, unix.ENOTEMPTY): // no note of ours
		return false, os.RemoveAll(notePath(stateDir, room))
	}
	return err == nil, err
}

// RunningStage is the stage of a room that runs now, prepare and cleanup
// among them, and since when; empty: none, or it is not known on this machine.
func RunningStage(stateDir, room string) (stage string, began time.Time) {
	n, locked, ok := peekNote(stateDir, room)
	if !ok || !locked {
		return "", time.Time{}
	}
	return n.Stage, n.Began
}

// forgetNotes removes notes of rooms that are not there: of a prepare that was
// refused before it made anything, and whose cleanup never came. It returns
// the results of their jobs.
func forgetNotes(stateDir string, rooms []string, now time.Time) (results []string, err error) {
	found, err := os.ReadDir(notesDir(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, one := range found {
		info, wrong := one.Info()
		if wrong != nil || slices.Contains(rooms, one.Name()) || now.Sub(info.ModTime()) < noteTime {
			continue
		}
		n, locked, ok := peekNote(stateDir, one.Name())
		if locked || !ok {
			continue
		}
		removed, wrong := removeNote(stateDir, one.Name())
		err = errors.Join(err, wrong)
		if removed {
			results = append(results, n.result())
		}
	}
	return results, err
}

// noteTime is how long a cleanup may take to come.
const noteTime = 5 * time.Minute
