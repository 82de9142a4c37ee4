// Package queue keeps records of what is no job until the audit log takes
// them: a log may be on a full disk, locked, or without its key, and what an
// admin did must be in it all the same.
//
// What it promises: a record that was kept here survives the machine, and is
// in the log once, with the time of when it happened, after those that were
// kept before it; so is one of a change that its process did not live to tell
// the end of. It waits for no log, and no log waits for it for long.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// Queue is a folder. Each entry has its files in it: .record, or .draft of what
// is about to happen, and .lock, which is held while somebody works on them.
type Queue struct{ Dir string }

// Of is the queue of a host.
func Of(dataDir string) Queue { return Queue{filepath.Join(dataDir, "audit", "queue")} }

// Entry is a record on its way into the log.
type Entry struct {
	Name string `json:"name"` // in whose order they are appended
	// From is how many records the log had before it can have had this one.
	From   int64  `json:"from"`
	Record string `json:"record"` // as Encode gave it
}

// maxEntry bounds an entry's file, in bytes: of JSON in JSON a character may
// become six.
const maxEntry = 6*record.MaxSize + 1<<10

const (
	kept   = ".record"
	draft  = ".draft"
	locked = ".lock"
	broken = ".unusable"
)

// digits of a number in a name, so that names sort as numbers do.
const digits = 20

// Name gives a new entry's, behind all that are there, whatever the clock says.
func (q Queue) Name(id string) string {
	number := time.Now().UnixNano()
	if all, _ := q.names(); len(all) > 0 { // who takes the place is told what is wrong
		last, _, _ := strings.Cut(all[len(all)-1], "-")
		if n, err := strconv.ParseInt(last, 10, 64); err == nil {
			number = max(number, n+1)
		}
	}
	return fmt.Sprintf("%0*d-%s", digits, number, id)
}

// Place is an entry's place in the queue, and this process's until it ends.
type Place struct {
	q    Queue
	name string
	held *durable.Held
}

// Take takes the place of a name; nobody else appends what is there meanwhile.
// It waits for who does so as long as ctx allows.
func (q Queue) Take(ctx context.Context, name string) (*Place, error) {
	return q.take(name, func(path string) (*durable.Held, error) { return durable.Lock(ctx, path) })
}

func (q Queue) take(name string, lock func(path string) (*durable.Held, error)) (*Place, error) {
	if err := durable.Folder(q.Dir); err != nil {
		return nil, fmt.Errorf("audit queue: %w", err)
	}
	held, err := lock(q.path(name, locked))
	if err != nil {
		return nil, fmt.Errorf("audit queue: %w", err)
	}
	return &Place{q, name, held}, nil
}

// Draft writes down what is about to happen. Should this process end without
// another word, the log is told that it may have.
func (p *Place) Draft(e Entry) error {
	return errors.Join(p.write(draft, e), fault.At("queue.drafted"))
}

// Keep keeps what did happen.
func (p *Place) Keep(e Entry) error {
	if err := errors.Join(p.write(kept, e), fault.At("queue.kept")); err != nil {
		return err
	}
	return p.remove(draft)
}

// Close leaves the entry to whoever drains the queue.
func (p *Place) Close() error { return p.held.Unlock() }

// Drop takes the entry away.
func (p *Place) Drop() error {
	if err := errors.Join(p.remove(draft), p.remove(kept)); err != nil {
		return errors.Join(err, p.held.Unlock())
	}
	return p.held.Remove()
}

func (q Queue) path(name, ext string) string { return filepath.Join(q.Dir, name+ext) }

func (p *Place) write(ext string, e Entry) error {
	e.Name = p.name
	text, err := json.Marshal(e)
	if err == nil {
		err = durable.Write(p.q.path(p.name, ext), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("audit queue: %w", err)
	}
	return nil
}

// remove takes a file away, and what a write of it left that was cut short.
func (p *Place) remove(ext string) error {
	for _, path := range []string{p.q.path(p.name, ext), p.q.path(p.name, ext) + ".new"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("audit queue: %w", err)
		}
	}
	return nil
}

// read reads an entry; fs.ErrNotExist: there is none.
func (p *Place) read(ext string) (e Entry, r *record.Record, err error) {
	text, err := durable.Read(p.q.path(p.name, ext), maxEntry)
	if err != nil {
		return e, nil, err
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, nil, err
	}
	r, err = record.Decode([]byte(e.Record))
	return e, r, err
}

// names are those of all entries, in order.
func (q Queue) names() (all []string, err error) {
	found, err := os.ReadDir(q.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("audit queue: %w", err)
	}
	for _, one := range found { // sorted
		name, ext, ok := strings.Cut(one.Name(), ".")
		if ok && "."+ext != broken && (len(all) == 0 || all[len(all)-1] != name) {
			all = append(all, name)
		}
	}
	return all, nil
}

// Waiting is how many records wait, and how many were put aside because nobody
// can use them.
func (q Queue) Waiting() (count, unusable int, err error) {
	found, err := os.ReadDir(q.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	for _, one := range found {
		switch filepath.Ext(one.Name()) {
		case kept, draft:
			count++
		case broken:
			unusable++
		}
	}
	return count, unusable, err
}
