// Package dossier gathers what becomes of a job while it runs: each stage is a
// process of its own and adds a line to a file of the room, and whoever ends
// the room makes the record of it.
//
// What it promises: what was added survives the process, and a restart of the
// machine once Sync was asked for; a line that is torn or that somebody
// damaged costs that line only, and the record says so; the file is bounded,
// and goes only when its record is in the log and the room is wholly ended.
package dossier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/secret/hostkey/durable"
)

// Bounds, in bytes: of a line, and of the file, but for the few lines with
// which it ends. A job of 200 secrets and 200 stages has a quarter of that.
const (
	maxLine = 256 << 10
	maxFile = 4 << 20
	endRoom = 64 << 10
)

// ErrFull is a dossier that takes no more. Its record says that.
var ErrFull = errors.New("the dossier of the room is full")

// Line is one line: what one process has to say. A Head begins anew.
type Line struct {
	Head      *Head             `json:"head,omitempty"`
	Facts     []record.Fact     `json:"facts,omitempty"`
	Policy    string            `json:"policy,omitempty"`
	Profile   string            `json:"profile,omitempty"`
	Pooled    *time.Time        `json:"pooled,omitempty"`
	Decisions []record.Decision `json:"decisions,omitempty"`
	Images    []record.Image    `json:"images,omitempty"`
	Secrets   []record.Secret   `json:"secrets,omitempty"`
	Leases    []record.Secret   `json:"leases,omitempty"` // that were ended before the room was
	Began     *record.Stage     `json:"began,omitempty"`
	Ended     *record.Stage     `json:"ended,omitempty"`
	Guard     []record.Finding  `json:"guard,omitempty"`
	Refusals  []record.Refusal  `json:"refusals,omitempty"`
	Artifacts []record.Artifact `json:"artifacts,omitempty"`
	// Provenance of what the stage stores.
	Provenance []record.Provenance `json:"provenance,omitempty"`
	Gaps       []string            `json:"gaps,omitempty"` // what was left out of the line
	Mark       *mark               `json:"mark,omitempty"`
}

// Head says whose room it is.
type Head struct {
	Room    string    `json:"room"`
	Job     int64     `json:"job"`
	Project string    `json:"project,omitempty"`
	Began   time.Time `json:"began"`
}

// mark is a step of putting a record into the log.
type mark struct {
	ID       string `json:"id"`
	From     int64  `json:"from,omitempty"`     // records in the log before
	Recorded bool   `json:"recorded,omitempty"` // it is in the log,
	Index    int64  `json:"index,omitempty"`    // there
}

func folder(dataDir string) string { return filepath.Join(dataDir, "audit", "open") }

const ext = ".jsonl"

func pathOf(dataDir, room string) string {
	return filepath.Join(folder(dataDir), filepath.Base(room)+ext)
}

// Begin makes a room's dossier, or goes on with the one of a prepare before
// this one.
func Begin(dataDir string, h Head) error {
	if err := mkdir(dataDir); err != nil {
		return err
	}
	return add(dataDir, h.Room, Line{Head: &h}, os.O_CREATE, false)
}

// Add adds what a process has to say, bounded as a record is; sync waits until
// all that was added is on the disk. fs.ErrNotExist: nobody began it, or the
// room has ended.
func Add(dataDir, room string, l Line, sync bool) error {
	l = bound(l)
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("dossier: %w", err)
	}
	if len(text) >= maxLine {
		if first, second, ok := l.split(); ok {
			return errors.Join(Add(dataDir, room, first, false), Add(dataDir, room, second, sync))
		}
	}
	return add(dataDir, room, l, 0, sync)
}

func add(dataDir, room string, l Line, flags int, sync bool) error {
	text, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("dossier: %w", err)
	}
	if len(text) >= maxLine {
		return fmt.Errorf("%w: a line of %d bytes", ErrFull, len(text))
	}
	f, err := open(pathOf(dataDir, room), flags)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("dossier: %w", err)
	}
	limit := int64(maxFile)
	if l.Mark != nil {
		limit += endRoom
	}
	if info.Size()+int64(len(text)) >= limit {
		return fmt.Errorf("%w: %d bytes", ErrFull, info.Size())
	}
	// A line that is torn ends here; else this one would be part of it.
	if _, err = f.Write(slices.Concat([]byte("\n"), text, []byte("\n"))); err == nil && sync {
		err = errors.Join(f.Sync(), syncFolder(dataDir))
	}
	if err != nil {
		return fmt.Errorf("dossier: %w", err)
	}
	return nil
}

func mkdir(dataDir string) error {
	if err := durable.Folder(folder(dataDir)); err != nil {
		return fmt.Errorf("dossier: %w", err)
	}
	return nil
}

func syncFolder(dataDir string) error {
	d, err := os.Open(folder(dataDir))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// open opens a dossier that nobody else may read or write.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("dossier: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("dossier: %s is no plain file: remove it", path)
	case info.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("dossier: others may use %s: chmod 0600 it", path)
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// Has says whether a room has a dossier.
func Has(dataDir, room string) bool {
	_, err := os.Lstat(pathOf(dataDir, room))
	return err == nil
}

// Rooms are the names of the rooms that have a dossier to which nothing was
// added since then.
func Rooms(dataDir string, since time.Time) (rooms []string, err error) {
	found, err := os.ReadDir(folder(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, one := range found {
		room, ok := strings.CutSuffix(one.Name(), ext)
		if info, err := one.Info(); ok && err == nil && info.ModTime().Before(since) {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

// State is what a dossier says, gathered.
type State struct {
	Job  record.Job // all but its end
	Gaps []string   // what is wrong with the dossier

	recorded int    // records of the room that are in the log
	first    string // id of the first of them
	pending  mark   // one that may be
}

// Recorded says whether the job's record is in the log, and its id: what
// follows is one of kind reap.
func (s State) Recorded() (id string, ok bool) { return s.first, s.recorded > 0 }

// Read gathers what there is. A dossier that is damaged, or that is not
// there, is no error: State.Gaps says so.
func Read(dataDir, room string) State {
	f, err := open(pathOf(dataDir, room), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return State{Job: record.Job{Room: room}, Gaps: []string{missing}}
	}
	if err != nil {
		return State{Job: record.Job{Room: room}, Gaps: []string{unusable + err.Error()}}
	}
	defer f.Close()
	return gather(room, f)
}

// words of a damaged dossier.
const (
	torn    = "a line of the dossier is torn: what it would say is not known"
	foreign = "the dossier says that it is of another room: what ran in this one is not known"
)

// parse is one line. Nobody but us writes what it takes.
func parse(text []byte) (l Line, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&l) != nil {
		return Line{}, false
	}
	_, err := d.Token()
	return l, err == io.EOF // nothing follows
}
