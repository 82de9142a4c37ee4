// Package addmask stands in for the one behind `gitlab-runner-helper proxy-exec` (proxy_exec = true in config.toml), and
// unlike the other stand-ins it does the work: a line `::add-mask::PHRASE` makes the job's output show [MASKED] for PHRASE
// from there on, in later stages too. What the runner itself masks in a job's log does not come by here.
package addmask

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sync"
)

const mask = "[MASKED]"

var command = []byte("::add-mask::")

// Store keeps the phrases from one stage to the next.
type Store interface {
	List() ([]string, error)
	Add(phrase string) error
}

// AddMask holds the phrases of a job, for all of its streams.
type AddMask struct {
	mu      sync.Mutex
	store   Store
	phrases [][]byte
	streams []*stream
}

// stream is one output. It holds back what may yet turn out to be part of a phrase or of a command.
type stream struct {
	m       *AddMask
	w       io.Writer
	buf     []byte // held back
	hidden  int    // so many bytes at the start of buf belong to a phrase already shown as [MASKED]
	midLine bool   // buf does not start where a line starts
}

// New masks what is written to the given writers.
func New(store Store, writers ...io.Writer) (*AddMask, error) {
	known, err := store.List()
	if err != nil {
		return nil, err
	}
	m := &AddMask{store: store}
	for _, phrase := range known {
		m.phrases = append(m.phrases, []byte(phrase))
	}
	for _, w := range writers {
		m.streams = append(m.streams, &stream{m: m, w: w})
	}
	return m, nil
}

// Get returns the masked side of writer i.
func (m *AddMask) Get(i int) io.Writer { return m.streams[i] }

// Close writes what is held back.
func (m *AddMask) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs error
	for _, s := range m.streams {
		_ = s.learn(true) // proxy-exec has closed the store by now: what is learned here masks this output only
		errs = errors.Join(errs, s.flush(true))
	}
	return errs
}

// Write takes output in pieces of any size.
func (s *stream) Write(p []byte) (int, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.buf = append(s.buf, p...)
	return len(p), errors.Join(s.learn(false), s.flush(false))
}

// learn takes the phrases from the complete lines of buf, and at last from an incomplete one.
func (s *stream) learn(last bool) error {
	var errs error
	start := !s.midLine
	for line := range bytes.Lines(s.buf) {
		phrase, isCommand := bytes.CutPrefix(line, command)
		if start && isCommand && (last || bytes.HasSuffix(line, []byte("\n"))) {
			phrase = bytes.Clone(bytes.TrimRight(phrase, "\r\n"))
			known := slices.ContainsFunc(s.m.phrases, func(p []byte) bool { return bytes.Equal(p, phrase) })
			if len(phrase) > 0 && !known {
				s.m.phrases = append(s.m.phrases, phrase)
				errs = errors.Join(errs, s.m.store.Add(string(phrase)))
			}
		}
		start = true
	}
	return errs
}

// flush writes as much of buf as is decided. Phrases that overlap are shown as one [MASKED].
func (s *stream) flush(last bool) error {
	var out []byte
	i, end := 0, s.hidden // everything before end belongs to a phrase
	for ; i < len(s.buf); i++ {
		rest := s.buf[i:]
		if !last && s.undecided(i) {
			break
		}
		longest := 0
		for _, p := range s.m.phrases {
			if bytes.HasPrefix(rest, p) {
				longest = max(longest, len(p))
			}
		}
		switch {
		case longest > 0 && i >= end:
			out = append(out, mask...)
		case i >= end:
			out = append(out, s.buf[i])
		}
		if longest > 0 {
			end = max(end, i+longest)
		}
	}
	if i > 0 {
		s.midLine = s.buf[i-1] != '\n'
	}
	s.buf, s.hidden = append([]byte(nil), s.buf[i:]...), max(0, end-i)
	if len(out) == 0 {
		return nil
	}
	_, err := s.w.Write(out)
	return err
}

// undecided says whether more output may make a phrase, or a command, of what stands at i.
func (s *stream) undecided(i int) bool {
	rest := s.buf[i:]
	for _, p := range s.m.phrases {
		if len(p) > len(rest) && bytes.HasPrefix(p, rest) {
			return true
		}
	}
	lineStart := i == 0 && !s.midLine || i > 0 && s.buf[i-1] == '\n'
	return lineStart && !bytes.Contains(rest, []byte("\n")) && (bytes.HasPrefix(command, rest) || bytes.HasPrefix(rest, command))
}
