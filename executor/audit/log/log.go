// Package log is the audit log: records that are only ever added to, under
// checkpoints that a key signs.
//
// What it promises: a record that Append returned for is durable and in every
// later checkpoint; many processes append at once and lose nothing; what is
// read was proved to be in the checkpoint it was read for; a key that follows
// another is vouched for by it, and the record that says so is in the log.
// What somebody with the disk, or even with the key, changes is found by the
// package verify.
package log

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/key"
	"cleanroom/executor/audit/tree"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// maxKeys bounds the file of the keys, in bytes.
const maxKeys = 1 << 20

// Log is an audit log in a folder. Its methods may be used at once.
type Log struct {
	store tree.Store
	mu    sync.Mutex
	keys  *key.Chain // replaced, never changed
}

// Init makes a log in a folder that has none (tree.ErrExists), for the origin
// and key of the signer. It begins with these records: no writer sees it
// without them.
func Init(ctx context.Context, dir string, signer *key.Signer, records ...[]byte) (*Log, error) {
	chain, err := key.NewChain(signer.VKey())
	if err != nil {
		return nil, err
	}
	l := &Log{store: tree.Store{Dir: dir}, keys: chain}
	if err := l.store.Init(ctx, records, func() error { return l.saveKeys(chain) }, func(t tlog.Tree) ([]byte, error) {
		cp, err := checkpoint.Sign(chain.Origin(), t, signer)
		return cp.Note, err
	}); err != nil {
		return nil, err
	}
	if err := fault.At("init.published"); err != nil {
		return nil, err
	}
	return l, l.Finish(ctx)
}

// Dir is the folder of a host's log.
func Dir(dataDir string) string { return filepath.Join(dataDir, "audit", "log") }

// Open opens the log in a folder, for reading and appending. It changes
// nothing. tree.ErrNoLog: there is none; key.ErrChain.
func Open(dir string) (*Log, error) {
	l := &Log{store: tree.Store{Dir: dir}}
	if _, err := l.store.Checkpoint(); err != nil {
		return nil, err
	}
	var err error
	l.keys, err = l.loadKeys()
	return l, err
}

// Store is where the log is kept.
func (l *Log) Store() tree.Store { return l.store }

// Keys are the log's keys, as its folder has them: who wants to know whether
// they are the right ones compares the first with one that was kept elsewhere.
func (l *Log) Keys() *key.Chain {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys
}

func (l *Log) keysPath() string { return filepath.Join(l.store.Dir, "keys") }

// loadKeys reads the chain as it is now.
func (l *Log) loadKeys() (*key.Chain, error) {
	text, err := tree.ReadPlain(l.keysPath(), maxKeys)
	if errors.Is(err, tree.ErrDamaged) {
		return nil, fmt.Errorf("%w: %w", key.ErrChain, err)
	}
	if err != nil {
		return nil, err
	}
	chain := &key.Chain{}
	if err := json.Unmarshal(text, chain); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", key.ErrChain, l.keysPath(), err)
	}
	return chain, nil
}

func (l *Log) saveKeys(chain *key.Chain) error {
	text, err := json.MarshalIndent(chain, "", "\t")
	if err != nil {
		return err
	}
	return durable.Write(l.keysPath(), append(text, '\n'))
}

// reload makes the keys those that the folder has now.
func (l *Log) reload() (*key.Chain, error) {
	chain, err := l.loadKeys()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = chain
	return chain, nil
}

// Checkpoint is the newest one, with its signature verified. It takes some
// tens of microseconds. tree.ErrNoLog; checkpoint.ErrFormat, ErrNotOurs,
// ErrSignature; key.ErrRetired.
func (l *Log) Checkpoint() (checkpoint.Checkpoint, error) {
	msg, err := l.store.Checkpoint()
	if err != nil {
		return checkpoint.Checkpoint{}, err
	}
	cp, err := l.Keys().Open(msg)
	if errors.Is(err, checkpoint.ErrNotOurs) || errors.Is(err, key.ErrRetired) {
		chain, bad := l.reload() // the key may have changed since
		if bad != nil {
			return cp, bad
		}
		cp, err = chain.Open(msg)
	}
	return cp, err
}

// Finish finishes what a crash may have left behind, so that readers see every
// record that was durable. If there is nothing it takes microseconds. It is
// for the host itself: it writes to the folder.
func (l *Log) Finish(ctx context.Context) error {
	if !l.store.Stale() {
		return nil
	}
	w, err := l.begin(ctx)
	if err != nil {
		return err
	}
	return w.Close()
}

// begin takes the lock, and the keys as they are now.
func (l *Log) begin(ctx context.Context) (*tree.Writer, error) {
	return l.store.Begin(ctx, tree.Hooks{
		Open: func(msg []byte) (checkpoint.Checkpoint, error) {
			chain, err := l.reload()
			if err != nil {
				return checkpoint.Checkpoint{}, err
			}
			return chain.Open(msg)
		},
		Change: l.change,
	})
}

// change makes a statement a part of the keys, unless it is already.
func (l *Log) change(statement []byte) error {
	chain, err := l.loadKeys()
	if err != nil {
		return err
	}
	for _, c := range chain.Changes {
		if c.Note == string(statement) {
			return nil
		}
	}
	if err := chain.Append(string(statement)); err != nil {
		return err
	}
	if err := l.saveKeys(chain); err != nil {
		return err
	}
	_, err = l.reload()
	return err
}

// Appended is where records are.
type Appended struct {
	Index      int64                 // of the first
	Checkpoint checkpoint.Checkpoint // that has them
}

// Append adds records, all or none, and returns when they are durable. It
// waits for others as long as ctx allows. tree.ErrRecord, ErrFull, ErrDamaged,
// ErrMissing, key.ErrKey, ErrSign and what source says: nothing was appended.
// tree.ErrUnfinished: they are in the log, at the index given, but no reader
// sees them before the next append.
func (l *Log) Append(ctx context.Context, source key.Source, records ...[]byte) (Appended, error) {
	return l.append(ctx, source, nil, records)
}

// Rotate adds the record that says so, and from then on the key is next. Its
// checkpoint is signed by both keys, and so is the statement that verifiers
// follow.
func (l *Log) Rotate(ctx context.Context, source key.Source, next *key.Signer, record []byte) (Appended, error) {
	return l.append(ctx, source, next, [][]byte{record})
}

func (l *Log) append(ctx context.Context, source key.Source, next *key.Signer, records [][]byte) (a Appended, err error) {
	w, err := l.begin(ctx)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	chain := l.Keys()
	signer, err := source(chain.Current())
	if err != nil {
		return a, err
	}
	if signer.VKey() != chain.Current() {
		return a, fmt.Errorf("%w: it is %s, but the log's is %s", key.ErrKey, signer.VKey(), chain.Current())
	}
	a.Index = w.Tree().N
	err = w.Append(records, func(t tlog.Tree) (msg, statement []byte, err error) {
		if next == nil {
			a.Checkpoint, err = checkpoint.Sign(chain.Origin(), t, signer)
			return a.Checkpoint.Note, nil, err
		}
		change, err := key.SignChange(t, signer, next)
		if err != nil {
			return nil, nil, err
		}
		// That it follows is to be known before it cannot be taken back.
		text, err := json.Marshal(chain)
		if err != nil {
			return nil, nil, err
		}
		with := &key.Chain{}
		if err := errors.Join(json.Unmarshal(text, with), with.Append(change.Note)); err != nil {
			return nil, nil, err
		}
		a.Checkpoint, err = checkpoint.Sign(chain.Origin(), t, signer, next)
		return a.Checkpoint.Note, []byte(change.Note), err
	})
	return a, err
}

// hashAt proves the hash of a record to be in a tree.
func (l *Log) hashAt(t tlog.Tree, index int64) (tlog.Hash, error) {
	list, err := l.store.Reader(t).ReadHashes([]int64{tlog.StoredHashIndex(0, index)})
	if err != nil {
		return tlog.Hash{}, damaged(err)
	}
	return list[0], nil
}

// damaged gives an error of tlog, which has no sentinels, ours.
func damaged(err error) error {
	if errors.Is(err, tree.ErrMissing) || errors.Is(err, tree.ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w: run cleanroom audit verify", tree.ErrDamaged, err)
}

func checkIndex(index, size int64) error {
	if index < 0 || index >= size {
		return fmt.Errorf("%w: there is none at %d: the log has %d", tree.ErrRecord, index, size)
	}
	return nil
}

// Record reads the record at an index, proved to be in the checkpoint.
// tree.ErrRecord: there is none; ErrMissing, ErrDamaged.
func (l *Log) Record(cp checkpoint.Checkpoint, index int64) ([]byte, error) {
	if err := checkIndex(index, cp.Size); err != nil {
		return nil, err
	}
	list, _, err := l.store.Records(index/tree.Width, cp.Size)
	at := int(index % tree.Width)
	if len(list) <= at {
		return nil, err
	}
	want, err := l.hashAt(cp.Tree(), index)
	if err != nil {
		return nil, err
	}
	if tlog.RecordHash(list[at]) != want {
		return nil, fmt.Errorf("%w: record %d is not the one that was appended", tree.ErrDamaged, index)
	}
	return bytes.Clone(list[at]), nil
}

// window is for how many records Each proves the hashes at once: what leads
// from them to the root is read once for all of them.
const window = 16 * tree.Width

// Each hands over the records of a checkpoint from an index on, each proved to
// be in it, until do returns an error, which it returns. The record is do's
// only until it returns.
func (l *Log) Each(cp checkpoint.Checkpoint, from int64, do func(index int64, record []byte) error) error {
	var hashes []tlog.Hash
	first := max(0, from) / tree.Width * tree.Width // of the hashes
	for n := first / tree.Width; n*tree.Width < cp.Size; n++ {
		if n*tree.Width >= first+int64(len(hashes)) {
			first = n * tree.Width
			indexes := make([]int64, min(window, cp.Size-first))
			for i := range indexes {
				indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
			}
			var err error
			if hashes, err = l.store.Reader(cp.Tree()).ReadHashes(indexes); err != nil {
				return damaged(err)
			}
		}
		list, _, err := l.store.Records(n, cp.Size)
		if err != nil {
			return err
		}
		for i, record := range list {
			index := n*tree.Width + int64(i)
			if tlog.RecordHash(record) != hashes[index-first] {
				return fmt.Errorf("%w: record %d is not the one that was appended", tree.ErrDamaged, index)
			}
			if index < from {
				continue
			}
			if err := do(index, record); err != nil {
				return err
			}
		}
	}
	return nil
}

// ProveRecord proves that the record at an index is in the checkpoint.
func (l *Log) ProveRecord(cp checkpoint.Checkpoint, index int64) (tlog.RecordProof, error) {
	if err := checkIndex(index, cp.Size); err != nil {
		return nil, err
	}
	p, err := tlog.ProveRecord(cp.Size, index, l.store.Reader(cp.Tree()))
	if err != nil {
		return nil, damaged(err)
	}
	return p, nil
}

// ProveGrowth proves that the checkpoint has all that the log had at an
// earlier size, from 1 on, in its place.
func (l *Log) ProveGrowth(cp checkpoint.Checkpoint, size int64) (tlog.TreeProof, error) {
	if size < 1 || size > cp.Size {
		return nil, fmt.Errorf("%w: the log has %d records and cannot prove to have grown from %d", tree.ErrRecord, cp.Size, size)
	}
	p, err := tlog.ProveTree(cp.Size, size, l.store.Reader(cp.Tree()))
	if err != nil {
		return nil, damaged(err)
	}
	return p, nil
}
