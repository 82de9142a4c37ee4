package executor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// Ending is the evidence of one try at ending a room, as it is kept: what was
// removed, what a second look still found, and what became of the leases.
type Ending struct {
	Room    string         `json:"room"`
	Job     int64          `json:"job,omitempty"`
	Project string         `json:"project,omitempty"`
	Began   time.Time      `json:"began,omitzero"` // the room
	At      time.Time      `json:"at"`
	Seconds float64        `json:"seconds"` // that it took
	By      string         `json:"by"`      // cleanup, reap, room wipe
	Why     string         `json:"why"`
	Leases  []EndedLease   `json:"leases"`
	Removed []sandbox.Item `json:"removed"`
	Left    []sandbox.Item `json:"left"`
	// Runners is the folder with the job's response and scripts where the
	// runner lives and removes it by itself, once cleanup has ended.
	Runners  string `json:"runners_folder,omitempty"`
	Complete bool   `json:"complete"` // nothing is left, and no lease
	Error    string `json:"error,omitempty"`
}

// EndedLease is what became of a lease.
type EndedLease struct {
	Secret   string         `json:"secret"`
	Provider string         `json:"provider"`
	ID       string         `json:"id"`
	Issued   time.Time      `json:"issued"`
	Expires  time.Time      `json:"expires,omitzero"`
	Outcome  secret.Outcome `json:"outcome"`
	Error    string         `json:"error,omitempty"`
}

// keepEndings is how long evidence is kept; reap removes what is older.
const keepEndings = 30 * 24 * time.Hour

func endingsDir(dataDir string) string { return filepath.Join(dataDir, "ended") }

func newEnding(room, by, why string, began time.Time, ended Ended, err error) Ending {
	e := Ending{
		Room: room, At: time.Now().UTC(), Seconds: time.Since(began).Seconds(), By: by, Why: why, Leases: []EndedLease{},
		Removed: append([]sandbox.Item{}, ended.Evidence.Removed...), Left: append([]sandbox.Item{}, ended.Evidence.Left...), Complete: err == nil,
	}
	for _, l := range ended.Leases {
		one := EndedLease{Secret: l.Entry.Secret, Provider: l.Entry.Provider, ID: l.Entry.ID, Issued: l.Entry.Issued, Expires: l.Entry.Expires, Outcome: l.Outcome}
		if l.Err != nil {
			one.Error = l.Err.Error()
		}
		e.Leases = append(e.Leases, one)
	}
	if err != nil {
		e.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return e
}

// keep appends the evidence to what is known of the room's end.
func (e Ending) keep(dataDir string) error {
	dir := endingsDir(dataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("evidence of the wipe: %w", err)
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("evidence of the wipe: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, filepath.Base(e.Room)+".jsonl"), os.O_CREATE|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return fmt.Errorf("evidence of the wipe: %w", err)
	}
	if torn(f) { // by a disk that was full: it would swallow this one
		line = append([]byte("\n"), line...)
	}
	if _, err = f.Write(append(line, '\n')); err == nil {
		err = f.Sync() // before the journal goes
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("evidence of the wipe: %w", err)
	}
	return nil
}

// torn tells whether a file does not end in a whole line.
func torn(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

// Endings is the evidence that is kept of a room's end, oldest try first;
// fs.ErrNotExist when there is none. A torn line is left out.
func Endings(dataDir, room string) (all []Ending, err error) {
	text, err := os.ReadFile(filepath.Join(endingsDir(dataDir), filepath.Base(room)+".jsonl"))
	if err != nil {
		return nil, fmt.Errorf("evidence of the wipe: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1)
	for lines.Scan() {
		var e Ending
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Room != "" {
			all = append(all, e)
		}
	}
	return all, nil
}

// EndedRooms are the rooms of a job of whose end evidence is kept.
func EndedRooms(dataDir string, job func(room string) bool) (rooms []string, err error) {
	found, err := os.ReadDir(endingsDir(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, one := range found {
		if room, ok := strings.CutSuffix(one.Name(), ".jsonl"); ok && job(room) {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

// forgetEndings removes evidence that is too old.
func forgetEndings(dataDir string, now time.Time) error {
	found, err := os.ReadDir(endingsDir(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, one := range found {
		info, wrong := one.Info()
		if wrong == nil && now.Sub(info.ModTime()) > keepEndings {
			err = errors.Join(err, os.Remove(filepath.Join(endingsDir(dataDir), one.Name())))
		}
	}
	return err
}

// lastEnding is when somebody last tried to end a room; zero: nobody did.
func lastEnding(dataDir, room string) time.Time {
	info, err := os.Stat(filepath.Join(endingsDir(dataDir), filepath.Base(room)+".jsonl"))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
