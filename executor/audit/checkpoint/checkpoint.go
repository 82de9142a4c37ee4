// Package checkpoint is the signed state of the audit log: how many records
// it has, and the root of the tree over all of them.
//
// What it promises: a checkpoint is C2SP's tlog-checkpoint in a signed-note
// (https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note), byte for
// byte as it was signed, so that what others have for these formats reads it;
// what Scan finds in a job's log is what was printed there, and nothing in
// that log, which the job's author may fill at will, hides a block that
// stands before it, costs more than the log is long, or counts before its
// signature was verified.
package checkpoint

import (
	"errors"
	"fmt"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxSize bounds a checkpoint with all its signatures, in bytes. signed-note
// wants at least sixteen signatures to be taken, and one of ML-DSA-44 has 2.4
// kB as bytes.
const MaxSize = 64 << 10

// Errors.
var (
	// ErrFormat is what is no checkpoint.
	ErrFormat = errors.New("this is no checkpoint")
	// ErrNotOurs is a checkpoint of another log, or signed by none of the keys.
	ErrNotOurs = errors.New("the checkpoint is not signed by this log's key")
	// ErrSignature is a signature in the name of a known key that is false.
	ErrSignature = errors.New("the checkpoint's signature is false")
)

// Checkpoint is a state of the log.
type Checkpoint struct {
	Origin string    // which log
	Size   int64     // records
	Root   tlog.Hash // of the tree of these records (RFC 6962)
	Note   []byte    // the text and its signatures
}

// Tree is what the checkpoint says, without who says it.
func (c Checkpoint) Tree() tlog.Tree { return tlog.Tree{N: c.Size, Hash: c.Root} }

// Text is what is signed.
func Text(origin string, tree tlog.Tree) string {
	return torchwood.Checkpoint{Origin: origin, Tree: tree}.String()
}

// Sign makes the checkpoint of a tree.
func Sign(origin string, tree tlog.Tree, signers ...note.Signer) (Checkpoint, error) {
	msg, err := note.Sign(&note.Note{Text: Text(origin, tree)}, signers...)
	if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{origin, tree.N, tree.Hash, msg}, nil
}

// Parse reads a checkpoint and verifies no signature. Nothing that it says may
// be believed before Open.
func Parse(msg []byte) (Checkpoint, error) {
	c, _, err := Open(msg, nil)
	if errors.Is(err, ErrNotOurs) {
		err = nil
	}
	return c, err
}

// Open reads a checkpoint and verifies the signatures of the keys that it is
// given: at least one must be there (ErrNotOurs), and none may be false
// (ErrSignature). The note tells whose they are. With ErrNotOurs the
// checkpoint is what it says of itself.
func Open(msg []byte, known note.Verifiers) (Checkpoint, *note.Note, error) {
	if len(msg) > MaxSize {
		return Checkpoint{}, nil, fmt.Errorf("%w: it has more than %d bytes", ErrFormat, MaxSize)
	}
	n, err := note.Open(msg, known)
	var unsigned *note.UnverifiedNoteError
	var forged *note.InvalidSignatureError
	switch {
	case errors.As(err, &unsigned):
		n, err = unsigned.Note, ErrNotOurs
	case errors.As(err, &forged):
		return Checkpoint{}, nil, fmt.Errorf("%w: that of the key %s+%08x", ErrSignature, forged.Name, forged.Hash)
	case err != nil:
		return Checkpoint{}, nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	c, bad := torchwood.ParseCheckpoint(n.Text)
	// Extension lines are no part of what we sign; a text that would be
	// written in another way would be a second form of the same.
	if bad != nil || c.Extension != "" || c.Origin == "" || c.String() != n.Text {
		return Checkpoint{}, nil, fmt.Errorf("%w: its text is not an origin, a size and a root", ErrFormat)
	}
	return Checkpoint{c.Origin, c.N, c.Hash, msg}, n, err
}

// CheckOrigin refuses an origin that cannot be a key's name too
// (https://c2sp.org/signed-note), or that would not survive a job's log.
func CheckOrigin(origin string) error {
	if origin == "" || len(origin) > 200 || strings.ContainsFunc(origin, func(r rune) bool { return r <= ' ' || r > '~' || r == '+' }) {
		return fmt.Errorf("the log's origin %q must be 1 to 200 printable ASCII characters without space and plus, like ci.example.com/cleanroom", origin)
	}
	return nil
}
