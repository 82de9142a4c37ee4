package key

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/canonical"
	"cleanroom/executor/audit/checkpoint"
)

// Errors of a chain.
var (
	// ErrChain is a chain that does not hold.
	ErrChain = errors.New("the audit log's keys do not follow one another")
	// ErrRetired is a checkpoint that a key signed which was no longer the
	// log's at that size: who has the old key may have forged it.
	ErrRetired = errors.New("the checkpoint is signed by a key that was not the log's at that size")
)

// changeTitle begins a statement. No checkpoint does: its second line is a
// number, and here it is not.
const changeTitle = "cleanroom audit log: change of key"

// maxChanges bounds a chain that somebody hands us.
const maxChanges = 1000

// Change says that from a checkpoint on another key signs. It is a note,
// signed by both keys: by the old one, so that who trusts that may trust the
// new one, and by the new one, so that nobody can claim another's.
//
// It is a statement of its own, and not only the record of the change that is
// the last below its checkpoint: of what a record says a job's author writes a
// part, and a checkpoint with such a record is signed every day.
type Change struct {
	Size int64     // of the checkpoint with the record of the change as its last
	Root tlog.Hash // of that checkpoint
	Old  string    // public keys in note's format
	New  string
	Note string // as signed
}

// SignChange states a change of the key at a tree.
func SignChange(tree tlog.Tree, from, to *Signer) (Change, error) {
	if from.Name() != to.Name() {
		return Change{}, fmt.Errorf("%w: a key for %s cannot follow one for %s: make it for the log's origin", ErrChain, to.Name(), from.Name())
	}
	if from.vkey == to.vkey {
		return Change{}, fmt.Errorf("%w: the new key is the old one", ErrChain)
	}
	c := Change{Size: tree.N, Root: tree.Hash, Old: from.vkey, New: to.vkey}
	msg, err := note.Sign(&note.Note{Text: c.text()}, from, to)
	c.Note = string(msg)
	return c, err
}

func (c Change) text() string {
	return fmt.Sprintf("%s\nold %s\nnew %s\nsize %d\nroot %s\n", changeTitle, c.Old, c.New, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// readChange reads a statement and verifies both its signatures.
func readChange(msg string) (Change, error) {
	if len(msg) > checkpoint.MaxSize {
		return Change{}, fmt.Errorf("%w: a statement is too long", ErrChain)
	}
	c, root := Change{Note: msg}, ""
	text, _, _ := strings.Cut(msg, "\n\n")
	lines := strings.Split(text, "\n")
	if len(lines) != 5 {
		return Change{}, fmt.Errorf("%w: a statement does not have five lines", ErrChain)
	}
	for i, format := range []string{"old %s", "new %s", "size %d", "root %s"} {
		if _, err := fmt.Sscanf(lines[i+1], format, []any{&c.Old, &c.New, &c.Size, &root}[i]); err != nil {
			return Change{}, fmt.Errorf("%w: a statement has no line %q", ErrChain, format)
		}
	}
	if raw, err := base64.StdEncoding.DecodeString(root); err == nil && len(raw) == len(c.Root) {
		c.Root = tlog.Hash(raw)
	}
	if c.Size < 1 || c.text() != text+"\n" {
		return Change{}, fmt.Errorf("%w: a statement is written in another way than ours", ErrChain)
	}
	from, err := Public(c.Old)
	if err != nil {
		return Change{}, fmt.Errorf("%w: %w", ErrChain, err)
	}
	to, err := Public(c.New)
	if err != nil {
		return Change{}, fmt.Errorf("%w: %w", ErrChain, err)
	}
	n, err := note.Open([]byte(msg), note.VerifierList(from, to))
	if err != nil {
		return Change{}, fmt.Errorf("%w: the change at %d records: %w", ErrChain, c.Size, err)
	}
	if from.Name() != to.Name() || c.Old == c.New || len(n.Sigs) != 2 {
		return Change{}, fmt.Errorf("%w: the change at %d records is not signed by both keys", ErrChain, c.Size)
	}
	return c, nil
}

// Chain is all keys of a log, one after the other.
type Chain struct {
	First   string
	Changes []Change
	keys    []note.Verifier // the first's and each change's
}

// NewChain begins one.
func NewChain(first string) (*Chain, error) {
	v, err := Public(first)
	if err != nil {
		return nil, err
	}
	return &Chain{First: first, keys: []note.Verifier{v}}, nil
}

// Append adds a change. ErrChain: it does not follow.
func (c *Chain) Append(msg string) error {
	change, err := readChange(msg)
	if err != nil {
		return err
	}
	if change.Old != c.Current() {
		return fmt.Errorf("%w: the change at %d records is from %s, but the key was %s", ErrChain, change.Size, change.Old, c.Current())
	}
	if last := len(c.Changes); last > 0 && change.Size <= c.Changes[last-1].Size || last == maxChanges {
		return fmt.Errorf("%w: the change at %d records does not come after the one before", ErrChain, change.Size)
	}
	v, err := Public(change.New)
	if err != nil {
		return err
	}
	for _, k := range c.keys {
		if k.KeyHash() == v.KeyHash() { // signatures of the two could not be told apart
			return fmt.Errorf("%w: the key %s was the log's before: make a new one", ErrChain, change.New)
		}
	}
	c.Changes, c.keys = append(c.Changes, change), append(c.keys, v)
	return nil
}

// Origin is that of the log.
func (c *Chain) Origin() string { return c.keys[0].Name() }

// Current is the key that signs now.
func (c *Chain) Current() string {
	if last := len(c.Changes); last > 0 {
		return c.Changes[last-1].New
	}
	return c.First
}

// All are the keys in the order in which they signed.
func (c *Chain) All() []string {
	all := []string{c.First}
	for _, change := range c.Changes {
		all = append(all, change.New)
	}
	return all
}

// Open reads a checkpoint and verifies that a key which was the log's at that
// size signed it. checkpoint.ErrFormat, ErrNotOurs, ErrSignature; ErrRetired.
// With ErrNotOurs and ErrRetired the checkpoint is what it says of itself.
func (c *Chain) Open(msg []byte) (checkpoint.Checkpoint, error) {
	cp, n, err := checkpoint.Open(msg, note.VerifierList(c.keys...))
	if err != nil {
		return cp, err
	}
	if cp.Origin != c.Origin() {
		return cp, fmt.Errorf("%w: it is of %q, and the log is %q", checkpoint.ErrNotOurs, cp.Origin, c.Origin())
	}
	for _, sig := range n.Sigs {
		for i, k := range c.keys {
			if sig.Hash == k.KeyHash() && (i == 0 || c.Changes[i-1].Size <= cp.Size) && (i == len(c.Changes) || cp.Size <= c.Changes[i].Size) {
				return cp, nil
			}
		}
	}
	return cp, fmt.Errorf("%w (%d records)", ErrRetired, cp.Size)
}

// chainFile is a chain in JSON.
type chainFile struct {
	First   string   `json:"first"`
	Changes []string `json:"changes,omitempty"`
}

// MarshalJSON writes the first key and the statements of the changes.
func (c *Chain) MarshalJSON() ([]byte, error) {
	f := chainFile{First: c.First}
	for _, change := range c.Changes {
		f.Changes = append(f.Changes, change.Note)
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads a chain and verifies each change. Whether its first key
// is to be trusted is for the caller to know.
func (c *Chain) UnmarshalJSON(text []byte) error {
	var f chainFile
	if err := canonical.Decode(text, &f); err != nil {
		return fmt.Errorf("%w: %w", ErrChain, err)
	}
	read, err := NewChain(f.First)
	if err != nil {
		return err
	}
	for _, msg := range f.Changes {
		if err := read.Append(msg); err != nil {
			return err
		}
	}
	*c = *read
	return nil
}
