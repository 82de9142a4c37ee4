package guard

import (
	"bufio"
	"context"
	"errors"
	"hash"
	"io"
	"slices"

	"cleanroom/executor/redact"
)

var (
	errFull   = errors.New("no more is unpacked")
	errHungry = errors.New("not enough memory")
	errGone   = errors.New("no longer held")
)

// search is the search of one file.
type search struct {
	g     *Guard
	ctx   context.Context
	path  string
	found func(Finding)
	sum   hash.Hash // nil: nobody asks for it

	left       int64 // what may still be unpacked
	dictionary int   // and what memory there still is for dictionaries
	held       int   // and for zips
	members    int
	full       bool // nothing more is unpacked, the file itself is still scanned
	stopped    bool // nothing more is done
	err        error

	count  int
	told   map[string]bool
	levels *levels
}

// levels are what each layer needs, kept for the next: a wheel has a thousand
// members.
type levels [mostDepth + 1]level

type level struct {
	buf []byte
	in  *bufio.Reader // what an unpacker of something in this layer reads
	// inflate is kept because it is large.
	inflate io.ReadCloser
}

// content begins what is unpacked, or the file.
func (s *search) content(depth int, names []string) *content {
	l := &s.levels[depth]
	if l.buf == nil {
		l.buf = make([]byte, 0, window)
		l.in = bufio.NewReaderSize(nil, buffered)
	}
	c := &content{names: names, depth: depth, tar: -1, pax: attributes{size: -1}}
	c.s, c.top, c.buf, c.scan = s, depth == 0, l.buf[:0], s.g.m.Scan()
	c.note = func(f redact.Finding) {
		if len(c.pending) <= maxFindings { // more are not shown
			c.pending = append(c.pending, f)
		}
	}
	return c
}

// spend counts work. False: there was too much of it.
func (s *search) spend(n int64) bool {
	s.left -= n
	if s.left < 0 && !s.full {
		s.full = true
		s.unsearched(nil, tooBig)
	}
	return !s.full
}

// member counts a member.
func (s *search) member() bool {
	if s.members++; s.members > s.g.o.members() && !s.full {
		s.full = true
		s.unsearched(nil, tooMany)
	}
	return s.spend(memberWork)
}

func (s *search) fail(err error) {
	if s.err == nil && err != nil && err != io.EOF {
		s.err = err
	}
	s.stopped = true
}

func (s *search) secret(members []string, at int64, name string) {
	if s.stopped {
		return
	}
	if s.count == maxFindings {
		s.unsearched(nil, moreFindings)
		s.stopped = true
		return
	}
	s.count++
	s.found(Finding{Path: s.path, Members: slices.Clone(members), Offset: at, Secret: name})
}

func (s *search) unsearched(members []string, why string) {
	if !s.stopped && !s.told[why] {
		s.told[why] = true
		s.found(Finding{Path: s.path, Members: slices.Clone(members), Unsearched: why})
	}
}
