// Package pool keeps the books of rooms that are made ahead of their jobs.
//
// It promises that a room has one owner at each instant, whoever is killed
// when: each room has one file, which says by its folder whose the room is, and
// changes folders by rename(2) only. A name is used once and never again.
//
//	making   who fills has it, and its lock while it lives
//	ready    KEY.ROOM: nobody's; who renames it owns the room
//	taken    ROOM.NONCE: a job's; claims/ROOM.NONCE, which was there before, says whose
//	gone     who throws rooms away has it; the room may be there yet
//
// A room goes down this list and never up, so that who looks into the folders in
// this order finds it wherever it moves meanwhile; nowhere means that it is
// wiped, as its file goes after it. Beside that wanted/KEY says which kinds of
// rooms jobs had.
//
// All is in the state folder, on tmpfs: what a restart of the machine would have
// to find again does not outlive one.
package pool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"cleanroom/executor/contract"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// The folders.
const (
	making = "making"
	ready  = "ready"
	claims = "claims"
	taken  = "taken"
	gone   = "gone"
	wanted = "wanted"
)

// maxFile bounds each file, in bytes.
const maxFile = 16 << 10

// Kind is what decides how a room is made, but for the configuration. Nothing
// of it is a job's variable.
type Kind struct {
	Image    string `json:"image"`
	User     string `json:"user,omitempty"`
	Platform string `json:"platform,omitempty"`
	Helper   string `json:"helper"`
	Profile  string `json:"profile"`
	Cache    bool   `json:"cache,omitempty"` // it has a folder for caches
}

// Entry is a room.
type Entry struct {
	Room  string    `json:"room"`
	Key   string    `json:"key"` // of Kind, with all that decides how it is made
	Kind  Kind      `json:"kind"`
	Made  time.Time `json:"made"`
	Until time.Time `json:"until"` // its deadline on the engine: a job that may need longer does not fit
	Print string    `json:"print"`
}

// Claimant is whose a room is that was taken.
type Claimant struct {
	Room string         `json:"room"`
	Job  int64          `json:"job"`
	PID  int            `json:"pid"`  // of the driver that claimed it
	Data string         `json:"data"` // its data_dir, where the job's journal will be
	At   time.Time      `json:"at"`
	Late contract.Clock `json:"late,omitzero"` // when its prepare must have begun
}

// slow is how long a runner may need from config to prepare, which it calls at
// once. A prepare that comes yet later finds no room, and makes one.
const slow = 5 * time.Minute

// ClaimFor is a claim of a job, by this process.
func ClaimFor(job int64, dataDir string) *Claimant {
	return &Claimant{Job: job, Data: dataDir, PID: os.Getpid(), At: time.Now(), Late: contract.ClockIn(slow)}
}

// Late says that a claim is too old for its prepare to come.
func (h *Held) Late() bool {
	if h.Claimant.Late.Known() {
		return h.Claimant.Late.Passed()
	}
	return time.Since(h.Claimant.At).Abs() > slow // or it is of nobody that can be told
}

// Pool is the books below one state folder.
type Pool struct{ dir string }

// Of is the pool of a state folder. Nothing is made yet.
func Of(stateDir string) Pool { return Pool{filepath.Join(stateDir, "pool")} }

var name = regexp.MustCompile(`^cr-pool-[0-9a-f]{20}$`)

// Named tells whether a room's name is one that a pool gave.
func Named(room string) bool { return name.MatchString(room) }

var keyRE = regexp.MustCompile(`^[0-9a-f]{32}$`)

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// open makes the folders.
func (p Pool) open() error {
	if err := durable.Folder(filepath.Dir(p.dir)); err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	for _, folder := range []string{"", making, ready, claims, taken, gone, wanted} {
		if err := durable.Folder(filepath.Join(p.dir, folder)); err != nil {
			return fmt.Errorf("pool: %w", err)
		}
	}
	return nil
}

func (p Pool) path(parts ...string) string {
	return filepath.Join(append([]string{p.dir}, parts...)...)
}

// list is the files of a folder; none where there is no pool.
func (p Pool) list(folder string) ([]string, error) {
	found, err := os.ReadDir(p.path(folder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pool: %w", err)
	}
	var names []string
	for _, one := range found {
		names = append(names, one.Name())
	}
	return names, nil
}

// Exists tells whether there ever was a room in it.
func (p Pool) Exists() bool {
	_, err := os.Lstat(p.dir)
	return err == nil
}

// ID tells this pool's rooms from another's on the same engine. It ends with the
// state folder.
func (p Pool) ID() (string, error) {
	if err := p.open(); err != nil {
		return "", err
	}
	path := p.path("id")
	for {
		text, err := durable.Read(path, 64)
		if err == nil && keyRE.Match(text) {
			return string(text), nil
		}
		if err == nil {
			return "", fmt.Errorf("pool: %s is damaged: remove the folder when no job runs", path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("pool: %w", err)
		}
		draft := path + "." + random(8)
		if err := os.WriteFile(draft, []byte(random(16)), 0o600); err != nil {
			return "", fmt.Errorf("pool: %w", err)
		}
		err = os.Link(draft, path) // one of many is first
		_ = os.Remove(draft)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("pool: %w", err)
		}
	}
}

func write(path string, what any) error {
	text, err := json.Marshal(what)
	if err == nil && len(text) > maxFile {
		err = errors.New("too long")
	}
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	return nil
}

func read(path string, into any) error {
	text, err := durable.Read(path, maxFile)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("pool: %s: %w", path, err)
	}
	return nil
}

// Ready are the rooms that wait for jobs, oldest first. One whose file cannot be
// read has an entry that fits nothing.
func (p Pool) Ready() ([]Entry, error) {
	files, err := p.list(ready)
	var all []Entry
	for _, file := range files {
		key, room, ok := strings.Cut(file, ".")
		if !ok || !keyRE.MatchString(key) || !Named(room) {
			continue // nobody's: it is left
		}
		var e Entry
		if wrong := read(p.path(ready, file), &e); errors.Is(wrong, fs.ErrNotExist) {
			continue
		} else if wrong != nil || e.Room != room || e.Key != key {
			e = Entry{}
		}
		e.Room, e.Key = room, key
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b Entry) int { return a.Made.Compare(b.Made) })
	return all, err
}

// For tells whether a job of a key may have the room: it was made after since,
// and has until for its deadline or later.
func (e Entry) For(key string, since, until time.Time) bool {
	return e.Key == key && e.Print != "" && !e.Made.Before(since) && !e.Until.Before(until) &&
		!e.Made.After(fault.Now()) // by a clock that was set back, and nobody knows how old it is
}

// Count is how many rooms a job of a key could claim.
func (p Pool) Count(key string, since, until time.Time) (n int) {
	all, _ := p.Ready()
	for _, e := range all {
		if e.For(key, since, until) {
			n++
		}
	}
	return n
}

// Claim makes a room that is for such a job the claimant's. ok: c.Room names it.
// Whatever happens to the claimant, its name is on the books before the room is
// off the list.
func (p Pool) Claim(key string, since, until time.Time, c *Claimant) (ok bool, err error) {
	all, err := p.Ready()
	if err != nil {
		return false, err
	}
	for _, e := range all {
		if !e.For(key, since, until) {
			continue
		}
		if ok, err := p.claim(e, c); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

func (p Pool) claim(e Entry, c *Claimant) (bool, error) {
	mine := e.Room + "." + random(8)
	c.Room = e.Room
	if err := write(p.path(claims, mine), c); err != nil {
		_ = os.Remove(p.path(claims, mine))
		return false, err
	}
	if err := fault.At("claim.noted"); err != nil {
		return false, err
	}
	err := os.Rename(p.path(ready, e.Key+"."+e.Room), p.path(taken, mine))
	if err != nil { // somebody was first
		_ = os.Remove(p.path(claims, mine))
		c.Room = ""
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("pool: %w", err)
	}
	return true, fault.At("claim.taken")
}
