// Package proof has the file that proves a record of the audit log to
// somebody who has nothing else of it.
//
// What it promises: the file holds the record, its index, the hashes that lead
// from it to a signed checkpoint, that checkpoint and the log's keys; Verify
// needs no log and no network; what leads to the checkpoint is C2SP's
// tlog-proof (https://c2sp.org/tlog-proof), so that other tools can check it
// with the record beside it; a file that holds anything beside
// these, or one of them twice, is refused, and so is what cannot be verified,
// whatever the file says.
package proof

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	tlogproof "github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/canonical"
	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/log"
	"cleanroom/executor/audit/tree"
	"cleanroom/executor/plain"
)

const (
	// Format is what a file of this kind says it is.
	Format = "cleanroom audit proof v1"
	// MaxSize bounds a file, in bytes. JSON may take six for one of a record.
	MaxSize = 8*tree.MaxRecord + 16*checkpoint.MaxSize
)

// Errors.
var (
	// ErrFormat is what is no such file.
	ErrFormat = errors.New("this is no proof of an audit record")
	// ErrProof is a record that the checkpoint does not have there.
	ErrProof = errors.New("the proof does not lead from the record to the checkpoint")
	// ErrKeys are keys that do not go back to the one that is known.
	ErrKeys = errors.New("the proof's keys are not the ones that are known")
)

// file is one in JSON.
type file struct {
	Format string     `json:"format"`
	Record string     `json:"record"` // as it was appended
	Proof  string     `json:"proof"`  // a tlog-proof
	Keys   *key.Chain `json:"keys"`
}

// Make makes the file of the record at an index, for the newest checkpoint, or
// for msg: that one with cosignatures. What log.Log says of errors holds.
func Make(l *log.Log, index int64, msg []byte) ([]byte, error) {
	cp, err := l.Checkpoint()
	if err == nil && msg != nil {
		cp, err = l.Keys().Open(msg)
	}
	if err != nil {
		return nil, err
	}
	record, err := l.Record(cp, index)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(record) {
		return nil, fmt.Errorf("%w: record %d is no text", ErrFormat, index)
	}
	hashes, err := l.ProveRecord(cp, index)
	if err != nil {
		return nil, err
	}
	p := tlogproof.TLogProof{Index: uint64(index), Checkpoint: cp.Note}
	for _, h := range hashes {
		p.Hashes = append(p.Hashes, h)
	}
	text, err := json.MarshalIndent(file{Format, string(record), string(p.Marshal()), l.Keys()}, "", "\t")
	return append(plain.JSON(text), '\n'), err
}

// Proved is what a file proved.
type Proved struct {
	Index      int64
	Record     []byte
	Checkpoint checkpoint.Checkpoint
	Keys       *key.Chain
	Pinned     bool     // whether the first key was known from elsewhere
	Witnesses  []string // those of the witnesses asked for that signed the checkpoint
}

// Verify verifies a file. first is the log's first public key, known from
// elsewhere; without it the file itself says whose it is. ErrFormat, ErrProof,
// ErrKeys; key.ErrChain, ErrRetired; checkpoint.ErrNotOurs, ErrSignature.
func Verify(text []byte, first string, witnesses ...note.Verifier) (Proved, error) {
	if len(text) > MaxSize {
		return Proved{}, fmt.Errorf("%w: it has more than %d bytes", ErrFormat, MaxSize)
	}
	var f file
	switch err := canonical.Decode(text, &f); {
	case errors.Is(err, key.ErrChain), errors.Is(err, key.ErrKey):
		return Proved{}, err
	case err != nil:
		return Proved{}, fmt.Errorf("%w: %w", ErrFormat, err)
	case f.Format != Format || f.Keys == nil:
		return Proved{}, fmt.Errorf("%w: it does not say %q, or lacks the keys", ErrFormat, Format)
	}
	var p tlogproof.TLogProof
	if err := p.Unmarshal([]byte(f.Proof)); err != nil {
		return Proved{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if string(p.Marshal()) != f.Proof { // written in another way than the format wants
		return Proved{}, fmt.Errorf("%w: its proof is no tlog-proof", ErrFormat)
	}
	r := Proved{Index: int64(p.Index), Record: []byte(f.Record), Keys: f.Keys, Pinned: first != ""}
	if r.Pinned && f.Keys.First != first {
		return Proved{}, fmt.Errorf("%w: it begins with %s, but %s is known", ErrKeys, f.Keys.First, first)
	}
	var err error
	if r.Checkpoint, err = f.Keys.Open(p.Checkpoint); err != nil {
		return Proved{}, err
	}
	var hashes tlog.RecordProof
	for _, h := range p.Hashes {
		hashes = append(hashes, h)
	}
	if r.Index < 0 {
		return Proved{}, fmt.Errorf("%w: its index is too large", ErrFormat)
	}
	if err := tlog.CheckRecord(hashes, r.Checkpoint.Size, r.Checkpoint.Root, r.Index, tlog.RecordHash(r.Record)); err != nil {
		return Proved{}, fmt.Errorf("%w: record %d of %d: %w", ErrProof, r.Index, r.Checkpoint.Size, err)
	}
	_, n, err := checkpoint.Open(p.Checkpoint, note.VerifierList(witnesses...))
	switch {
	case err == nil:
		for _, sig := range n.Sigs {
			r.Witnesses = append(r.Witnesses, sig.Name)
		}
	case !errors.Is(err, checkpoint.ErrNotOurs):
		return Proved{}, err
	}
	return r, nil
}
