package secret

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/sandbox/fault"
)

// Errors.
var (
	// ErrLocked is a journal that another process works on.
	ErrLocked = errors.New("another process works on this journal")
	// ErrMute is a journal that does not tell whose it is.
	ErrMute = errors.New("nobody can tell by it whether its job is over: if it is, run `cleanroom room wipe`, revoke by hand what else it stood for, and remove it")
)

// maxJournal bounds a journal, in bytes: more leases than any job has.
const maxJournal = 64 << 20

// Head is the first line of a journal: whose room and leases they are, and
// when anyone may end them.
type Head struct {
	Room     string                 `json:"room"`
	Job      int64                  `json:"job"`
	Project  string                 `json:"project"`
	Began    time.Time              `json:"began"`
	Deadline time.Time              `json:"deadline"`
	Clock    contract.Clock         `json:"clock,omitzero"`  // when the deadline is by a clock that nobody sets
	Runner   contract.RunnerProcess `json:"runner,omitzero"` // zero: not known
	Temp     string                 `json:"temp,omitempty"`  // the runner's own folder of the job
}

// stillborn is how old a journal without a head must be before it counts as
// one of a prepare that was killed, and not of one that is about to write it.
const stillborn = 5 * time.Minute

// Over says why the job is certainly over; empty: it may still run.
func (j *Journal) Over(now time.Time) string {
	switch {
	case j.ending:
		return "its cleanup began and did not end"
	case j.Mute != nil:
	case j.Head.Room == "":
		if info, err := j.f.Stat(); err == nil && now.Sub(info.ModTime()) > stillborn {
			return "its prepare was killed before it began"
		}
	case j.Head.Runner.Gone():
		return "its runner is gone"
	case j.Head.Clock.Known():
		if j.Head.Clock.Passed() {
			return "its deadline has passed"
		}
	case now.After(j.Head.Deadline):
		return "its deadline has passed"
	}
	return ""
}

// Entry is one lease, as the journal keeps it. What names it is in the clear;
// what revoking needs is sealed to the host's key.
type Entry struct {
	Number   int       `json:"number"`
	Secret   string    `json:"secret"`
	Provider string    `json:"provider"`
	Kind     string    `json:"kind"`
	ID       string    `json:"id"`
	Issued   time.Time `json:"issued"`
	Expires  time.Time `json:"expires,omitzero"`
	Sealed   []byte    `json:"sealed"`
}

// kept is what Entry.Sealed holds. The provider's settings as they were: by
// the time of revoking the configuration may have lost them.
type kept struct {
	Provider config.Provider `json:"provider"`
	Lease    Lease           `json:"lease"`
}

// line is one line of a journal but the first.
type line struct {
	Lease *Entry `json:"lease,omitempty"`
	Ended int    `json:"ended,omitempty"` // the number of one that was revoked, or that only expires
	Over  bool   `json:"over,omitempty"`  // the job is over: all that is left may be revoked
}

// Sealer seals to the host's key, with a context that a sealed thing cannot
// leave.
type Sealer interface {
	Seal(plaintext []byte, context string) ([]byte, error)
	Unseal(sealed []byte, context string) ([]byte, error)
}

// Journal says that there is a room, and is the list of its leases; on disk
// and locked: it survives a reboot, and a kill at any instant.
type Journal struct {
	Head    Head
	Open    []Entry // leases not ended yet, in the order of their issue
	Damaged error   // lines that nobody can read; the others count all the same
	Mute    error   // of Damaged: the head, which is left zero; wraps ErrMute

	f      *os.File
	path   string
	room   string
	host   Sealer // of Begin
	last   int
	ending bool
	mu     sync.Mutex // of what follows, and of Open
	broken error      // a line could not be written: no more
}

func journalDir(dataDir string) string { return filepath.Join(dataDir, "leases") }

const journalExt = ".jsonl"

// Begin makes a room's journal. It must not be there yet.
func Begin(dataDir string, host Sealer, head Head) (*Journal, error) {
	dir := journalDir(dataDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("journal of leases: %w", err)
	}
	path := filepath.Join(dir, filepath.Base(head.Room)+journalExt)
	f, err := create(path)
	if err != nil {
		return nil, fmt.Errorf("journal of leases: %w", err)
	}
	j := &Journal{Head: head, f: f, path: path, room: head.Room, host: host}
	if err = fault.At("journal.made"); err == nil {
		err = j.write(head, 0)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil { // nothing was issued yet
		return nil, fmt.Errorf("journal of leases: %w", errors.Join(err, os.Remove(path), f.Close()))
	}
	return j, nil
}

// Blank tells whether the journal says nothing at all.
func (j *Journal) Blank() bool { return j.Head.Room == "" && j.Mute == nil }

// Hold is a descriptor for programs that issue: while one of their processes
// has it open the journal is locked, and nobody revokes what is still being
// issued.
func (j *Journal) Hold() *os.File { return j.f }

// Find opens and locks a room's journal. fs.ErrNotExist: the room has no
// leases. ErrLocked: somebody has it, for longer than we wait.
func Find(dataDir, room string, wait time.Duration) (*Journal, error) {
	deadline := time.Now().Add(wait)
	path := filepath.Join(journalDir(dataDir), filepath.Base(room)+journalExt)
	for {
		f, err := open(path, os.O_RDWR|os.O_APPEND)
		if err != nil {
			return nil, fmt.Errorf("journal of leases: %w", err)
		}
		if err := lockUntil(f, deadline); err != nil {
			f.Close()
			return nil, fmt.Errorf("journal of leases of room %s: %w", room, err)
		}
		if !same(f, path) { // whoever had it has ended it
			f.Close()
			continue
		}
		j := &Journal{f: f, path: path, room: room}
		if err := j.read(); err != nil {
			f.Close()
			return nil, fmt.Errorf("journal of leases of room %s: %w", room, err)
		}
		return j, nil
	}
}

// Rooms are the names of the rooms that have a journal.
func Rooms(dataDir string) ([]string, error) {
	found, err := os.ReadDir(journalDir(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal of leases: %w", err)
	}
	var rooms []string
	for _, one := range found {
		if room, ok := cutExt(one.Name()); ok {
			rooms = append(rooms, room)
		}
	}
	return rooms, nil
}

// Peek reads whose journal it is, whoever has it.
func Peek(dataDir, room string) (Head, error) {
	f, err := open(filepath.Join(journalDir(dataDir), filepath.Base(room)+journalExt), os.O_RDONLY)
	if err != nil {
		return Head{}, fmt.Errorf("journal of leases: %w", err)
	}
	defer f.Close()
	text, _ := bufio.NewReader(io.LimitReader(f, 64<<10)).ReadBytes('\n')
	var head Head
	_ = json.Unmarshal(text, &head) // one that is just being made has none yet
	return head, nil
}

func cutExt(name string) (string, bool) {
	room := name[:max(0, len(name)-len(journalExt))]
	return room, room != "" && room+journalExt == name
}

// Add writes a lease into a journal that Begin made. When it returns, the lease survives a power cut.
func (j *Journal) Add(secret string, p config.Provider, l Lease, now time.Time) (Entry, error) {
	e := Entry{Secret: secret, Provider: p.Name, Kind: p.Kind, ID: l.ID, Issued: now, Expires: l.Expires}
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Number = j.last + 1
	plain, err := json.Marshal(kept{p, l})
	if err == nil {
		e.Sealed, err = j.host.Seal(plain, j.context(e))
	}
	clear(plain)
	if err == nil {
		err = j.write(line{Lease: &e}, len(j.Open)+1)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("journal of leases: %w", err)
	}
	j.last = e.Number
	j.Open = append(j.Open, e)
	return e, nil
}

// context binds a sealed lease to its line: nobody can have one revoked in
// the name of another.
func (j *Journal) context(e Entry) string {
	return fmt.Sprintf("cleanroom lease %s %d %s %s", j.room, e.Number, e.Provider, e.ID)
}

func (j *Journal) unseal(e Entry, host Sealer) (kept, error) {
	plain, err := host.Unseal(e.Sealed, j.context(e))
	if err != nil {
		return kept{}, err
	}
	defer clear(plain)
	var k kept
	if err := json.Unmarshal(plain, &k); err != nil {
		return kept{}, errors.New("no JSON in the seal")
	}
	return k, nil
}

// end notes that a lease needs no revoking any more.
func (j *Journal) end(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(line{Ended: e.Number}, 0); err != nil {
		return fmt.Errorf("journal of leases: %w", err)
	}
	j.Open = slices.DeleteFunc(j.Open, func(o Entry) bool { return o.Number == e.Number })
	return nil
}

// Close gives the journal free. One without an open lease is removed: there
// is nothing to revoke. One with lines that cannot be read stays, for an admin.
func (j *Journal) Close() error {
	defer j.f.Close() // and with it the lock
	if len(j.Open) > 0 || j.Damaged != nil {
		return nil
	}
	if err := os.Remove(j.path); err != nil {
		return fmt.Errorf("journal of leases: %w", err)
	}
	return syncDir(filepath.Dir(j.path))
}

// Keep gives the journal free and leaves it, even without a lease.
func (j *Journal) Keep() error { return j.f.Close() }

// maxEnd is the longest line that ends a lease, or the job, in bytes.
const maxEnd = 32

// write adds a line, and has the disk keep room for the lines that will end the
// job and so many leases: a full one would otherwise leave a room of which
// nobody knows that its job is over.
func (j *Journal) write(v any, leases int) error {
	if j.broken != nil {
		return j.broken
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	whole, err := j.f.Stat()
	if err != nil {
		return err
	}
	if _, ends := v.(line); !ends || leases > 0 {
		size := whole.Size() + int64(len(b)) + 1 + int64(leases+1)*maxEnd
		err := unix.Fallocate(int(j.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		if err != nil && !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.ENOSYS) {
			return err
		}
	}
	_, err = j.f.Write(append(b, '\n'))
	if err = errors.Join(err, j.f.Sync()); err != nil { // a full disk: half a line would swallow the next one
		j.broken = fmt.Errorf("%w; nothing more is issued", err)
		return errors.Join(err, j.f.Truncate(whole.Size()))
	}
	return nil
}

// read takes the lines in. The last one may be torn, by a power cut: then
// what it would say was not used yet. It is cut off, so that the next line
// begins anew.
func (j *Journal) read() error {
	info, err := j.f.Stat()
	if err != nil {
		return err
	}
	if info.Size() > maxJournal {
		return fmt.Errorf("%s has more than %d bytes", j.path, maxJournal)
	}
	r := bufio.NewReader(j.f)
	var good int64
	for n := 1; ; n++ {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			if len(text) > 0 {
				return j.f.Truncate(good)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := j.take(n, bytes.TrimSuffix(text, []byte("\n"))); err != nil {
			j.Damaged = errors.Join(j.Damaged, err)
		}
		good += int64(len(text))
	}
}

func (j *Journal) take(n int, text []byte) error {
	if n == 1 {
		switch err := json.Unmarshal(text, &j.Head); {
		case err != nil:
			j.Mute = fmt.Errorf("%s: line 1 is no head: %w", j.path, ErrMute)
		case j.Head.Room != j.room:
			j.Mute = fmt.Errorf("%s: line 1 is of room %.100q: %w", j.path, j.Head.Room, ErrMute)
		default:
			return nil
		}
		j.Head = Head{}
		return j.Mute
	}
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("%s: line %d is no lease: what it stood for has to be revoked by hand, and the file removed", j.path, n)
	}
	switch {
	case l.Over && l.Lease == nil && l.Ended == 0:
		j.ending = true
		return nil
	case l.Over || (l.Lease == nil) == (l.Ended == 0):
		return fmt.Errorf("%s: line %d is no lease", j.path, n)
	case l.Lease == nil:
		j.Open = slices.DeleteFunc(j.Open, func(o Entry) bool { return o.Number == l.Ended })
		return nil
	}
	j.last = max(j.last, l.Lease.Number)
	j.Open = append(j.Open, *l.Lease)
	return nil
}
