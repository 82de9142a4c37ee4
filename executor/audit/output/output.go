// Package output stands between a stage and the job's log, and says what went
// through: how many bytes, their hash, and hashes on the way, by which
// package match finds them again in what GitLab has.
//
// What it promises: the runner writes the log on as it is. What the runner
// would change, is changed here in the same way: what it would mask is masked,
// and what is no UTF-8 is replaced. What goes through is never held longer than
// until it can be told whether it is the beginning of such a thing.
package output

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"sync"

	"cleanroom/executor/audit/record"
)

// firstMark is the distance of marks in a short output, in bytes; in a long
// one it is doubled until there are at most maxMarks.
const (
	firstMark = 256
	maxMarks  = 16
)

// Options say what else the runner of this job masks.
type Options struct {
	// Prefixes of tokens, beside DefaultPrefixes (features.token_mask_prefixes
	// of the job response).
	Prefixes []string
	// Phrases are values that are hidden wherever they stand.
	Phrases []string
}

// Meter is an io.Writer; several goroutines may use it.
type Meter struct {
	w io.Writer

	mu     sync.Mutex
	repair repairer
	mask   *masker
	sum    hash.Hash
	bytes  int64
	every  int64
	marks  []string
}

// New makes the meter of one stage.
func New(w io.Writer, o Options) *Meter {
	return &Meter{w: w, mask: newMasker(o.Prefixes, o.Phrases), sum: sha256.New(), every: firstMark}
}

// Write takes all of p, whatever becomes of it: the error is that of what
// stands behind, and what that has lost counts as written.
func (m *Meter) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.put(p, false); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close lets out what is held, and says what went through.
func (m *Meter) Close() (record.Output, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := m.put(nil, true)
	o := record.Output{Bytes: m.bytes, SHA256: hex.EncodeToString(m.sum.Sum(nil))}
	if len(m.marks) > 0 {
		o.Every, o.Marks = m.every, m.marks
	}
	return o, err
}

func (m *Meter) put(p []byte, end bool) error {
	text := m.mask.text(m.repair.text(p, end), end)
	m.measure(text)
	if len(text) == 0 {
		return nil
	}
	_, err := m.w.Write(text)
	return err
}

func (m *Meter) measure(text []byte) {
	for len(text) > 0 {
		next := (int64(len(m.marks)) + 1) * m.every
		n := min(int64(len(text)), next-m.bytes)
		m.sum.Write(text[:n])
		m.bytes += n
		text = text[n:]
		if m.bytes == next {
			m.marks = append(m.marks, record.Mark(m.sum))
			m.thin()
		}
	}
}

// thin takes every second mark away when there are too many.
func (m *Meter) thin() {
	if len(m.marks) <= maxMarks {
		return
	}
	kept := m.marks[:0]
	for i := 1; i < len(m.marks); i += 2 {
		kept = append(kept, m.marks[i])
	}
	m.marks, m.every = kept, m.every*2
}
