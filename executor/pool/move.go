package pool

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/sandbox/fault"
)

// Filling is a room that is being made. Its file is locked while we live.
type Filling struct {
	Entry
	pool Pool
	f    *os.File
}

// Fill begins a room of a kind, under a name of its own.
func (p Pool) Fill(key string, kind Kind, until time.Time) (*Filling, error) {
	if err := p.open(); err != nil {
		return nil, err
	}
	now := time.Now()
	e := Entry{Room: "cr-pool-" + random(10), Key: key, Kind: kind, Made: now, Until: until}
	draft := p.path("." + e.Room)
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) // before anybody sees it
	}
	if err == nil {
		err = os.Rename(draft, p.path(making, e.Room))
	}
	if err != nil {
		if f != nil {
			f.Close()
			os.Remove(draft)
		}
		return nil, fmt.Errorf("pool: %w", err)
	}
	return &Filling{e, p, f}, fault.At("fill.begun")
}

// Done puts the room on the list. False: somebody has taken it off the books
// meanwhile, and it must be wiped.
func (f *Filling) Done(print string) (bool, error) {
	defer f.f.Close()
	if err := fault.At("fill.made"); err != nil {
		return false, err
	}
	f.Print = print
	from := f.pool.path(making, f.Room)
	text, err := json.Marshal(f.Entry)
	if err == nil { // in place: what the file says counts from ready on
		_, err = f.f.WriteAt(text, 0)
	}
	if err != nil {
		return false, fmt.Errorf("pool: %w", err)
	}
	if err := fault.At("fill.written"); err != nil {
		return false, err
	}
	if err := os.Rename(from, f.pool.path(ready, f.Key+"."+f.Room)); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("pool: %w", err)
	}
	return true, fault.At("fill.ready")
}

// Fail gives the room up: it is in gone, and to be wiped.
func (f *Filling) Fail() error {
	defer f.f.Close()
	return f.pool.move(making, f.Room, f.Room)
}

// move brings a file to gone; nil also where somebody was first.
func (p Pool) move(from, file, room string) error {
	if err := os.Rename(p.path(from, file), p.path(gone, room)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pool: %w", err)
	}
	return nil
}

// Expire takes a room off the list, to be wiped by whoever did. False: somebody
// was first.
func (p Pool) Expire(e Entry) (bool, error) {
	err := os.Rename(p.path(ready, e.Key+"."+e.Room), p.path(gone, e.Room))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("pool: %w", err)
	}
	return true, fault.At("expire.moved")
}

// Withdraw sees to it that no job gets a room that somebody is about to wipe.
func (p Pool) Withdraw(room string) error {
	all, err := p.Ready()
	failed := []error{err, p.move(making, room, room)}
	for _, e := range all {
		if e.Room == room {
			_, err := p.Expire(e)
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

// Forget takes a room that is wiped off the books.
func (p Pool) Forget(room string) error {
	var failed []error
	remove := func(path string) {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = append(failed, fmt.Errorf("pool: %w", err))
		}
	}
	for _, folder := range []string{taken, claims} { // whose it was goes after that it was
		files, err := p.list(folder)
		failed = append(failed, err)
		for _, file := range files {
			if strings.HasPrefix(file, room+".") {
				remove(p.path(folder, file))
			}
		}
	}
	remove(p.path(gone, room))
	return errors.Join(failed...)
}

// Held is a claim that nobody but us acts on.
type Held struct {
	Entry
	Claimant Claimant
	f        *os.File
}

// Release lets others act on it.
func (h *Held) Release() {
	if h != nil {
		h.f.Close()
	}
}

// ErrLocked is a claim that another process acts on.
var ErrLocked = errors.New("another process has the room")

// Hold takes the lock of a claim; nil where there is none, or no more. With
// ErrLocked somebody has had it for longer than we wait.
func (p Pool) Hold(room string, wait time.Duration) (*Held, error) {
	files, err := p.list(taken)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if !strings.HasPrefix(file, room+".") {
			continue
		}
		path := p.path(taken, file)
		f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("pool: %w", err)
		}
		if err := lock(f, time.Now().Add(wait)); err != nil {
			f.Close()
			return nil, err
		}
		h := &Held{f: f}
		if err := read(path, &h.Entry); err != nil { // gone meanwhile, or nobody's work
			f.Close()
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return nil, err
		}
		_ = read(p.path(claims, file), &h.Claimant) // without one it is late
		return h, nil
	}
	return nil, nil
}

func lock(f *os.File, end time.Time) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return err
		}
		if time.Now().After(end) {
			return ErrLocked
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Abandoned brings the rooms to gone whose making ended with their makers.
func (p Pool) Abandoned() error {
	files, err := p.list(making)
	failed := []error{err}
	for _, room := range files {
		f, err := os.OpenFile(p.path(making, room), os.O_RDWR|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			err = p.move(making, room, room)
		}
		if f != nil {
			f.Close()
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// Gone are rooms to be wiped, by whoever comes.
func (p Pool) Gone() ([]string, error) { return p.rooms(gone) }

// Taken are rooms that jobs have.
func (p Pool) Taken() ([]string, error) { return p.rooms(taken) }

func (p Pool) rooms(folder string) (rooms []string, err error) {
	files, err := p.list(folder)
	for _, file := range files {
		if room, _, _ := strings.Cut(file, "."); Named(room) {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

// Known tells whether a room is on the books, wherever it moves meanwhile.
func (p Pool) Known(room string) (bool, error) {
	for _, folder := range []string{making, ready, taken, gone} { // in the order in which it goes
		files, err := p.list(folder)
		if err != nil {
			return true, err
		}
		for _, file := range files {
			if file == room || strings.HasPrefix(file, room+".") || strings.HasSuffix(file, "."+room) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Tidy removes claims that came too late, of claimants that died before they
// could.
func (p Pool) Tidy() error {
	files, err := p.list(claims)
	failed := []error{err}
	for _, file := range files {
		room, _, _ := strings.Cut(file, ".")
		all, err := p.Ready()
		if err != nil {
			return err
		}
		waits := false
		for _, e := range all {
			waits = waits || e.Room == room
		}
		if waits { // it may yet win
			continue
		}
		if _, err := os.Lstat(p.path(taken, file)); errors.Is(err, fs.ErrNotExist) {
			if err := os.Remove(p.path(claims, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, fmt.Errorf("pool: %w", err))
			}
		}
	}
	drafts, err := os.ReadDir(p.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		failed = append(failed, err)
	}
	for _, one := range drafts {
		if info, err := one.Info(); err == nil && strings.HasPrefix(one.Name(), ".") && !one.IsDir() && time.Since(info.ModTime()) > time.Minute {
			_ = os.Remove(p.path(one.Name()))
		}
	}
	return errors.Join(failed...)
}
