package guard

import (
	"context"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"cleanroom/executor/redact"
)

// Options are what can be chosen. The zero value is good.
type Options struct {
	MaxUnpacked int64 // of one file, in bytes, if it does not grow too much before; 0: 16 GiB
	// Wrapped says that each file is an archive of such as may be many, large
	// and packed themselves: it may unpack to MaxUnpacked whatever its size is,
	// one layer deeper, and have four times as many members.
	Wrapped bool
}

// Guard looks for secrets in files. Any number of goroutines may use it.
type Guard struct {
	m    *redact.Matcher
	o    Options
	idle sync.Pool // *levels: windows and unpackers
}

// New makes a Guard that looks for what m finds. Values of less than eight
// bytes should not be in it.
func New(m *redact.Matcher, o Options) *Guard {
	return &Guard{m: m, o: o, idle: sync.Pool{New: func() any { return new(levels) }}}
}

// Finding is a secret in a file, or, if Unsearched is not empty, something in
// a file that could not be looked into, and why: what to do then is the
// caller's choice.
type Finding struct {
	Path    string
	Members []string // from the outermost archive to the innermost
	// Offset is where the secret begins in the innermost member as it is when
	// unpacked. (Of a sparse file in a tar: in what the tar holds of it.)
	Offset     int64
	Secret     string
	Unsearched string
}

// Search looks through a file of the given size, and calls found for each
// finding: at most 20, then one that says so. What could not be looked into is
// said once for each reason. The error is the reader's or the context's.
func (g *Guard) Search(ctx context.Context, path string, r io.ReaderAt, size int64, found func(Finding)) error {
	return g.SearchSum(ctx, path, r, size, found, nil)
}

// SearchSum is Search, and writes to sum what it scans of the file itself: each
// byte once, in order, the very bytes that were scanned. It writes from another
// goroutine, but not after it has returned. That is the whole file, unless
// there is an error or there were too many findings to go on.
func (g *Guard) SearchSum(ctx context.Context, path string, r io.ReaderAt, size int64, found func(Finding), sum hash.Hash) error {
	s := &search{
		g: g, ctx: ctx, path: path, found: found, sum: sum,
		left: g.o.work(size), dictionary: maxDictionary, held: maxHeld, told: map[string]bool{},
		levels: g.idle.Get().(*levels),
	}
	defer g.idle.Put(s.levels)
	c := s.content(0, nil)
	c.file, c.size = r, size
	c.sweep()
	if s.err == nil && !s.stopped {
		s.err = c.err
	}
	return s.err
}

// Name looks at a text that is stored beside a file: its path, a link's
// target.
func (g *Guard) Name(path, text string, found func(Finding)) {
	for at := 0; at < len(text); {
		start, end, name, ok := g.m.Find([]byte(text), at)
		if !ok {
			return
		}
		found(Finding{Path: path, Offset: int64(start), Secret: name})
		at = end
	}
}

// Error is the finding in one line.
func (f Finding) Error() string { return f.String() }

func (f Finding) String() string {
	var b strings.Builder
	b.WriteString(clean(f.Path))
	for i, m := range f.Members {
		switch rest := len(f.Members) - i; {
		case i < 4 || rest <= 4:
			b.WriteString(", member " + clean(m))
		case i == 4:
			b.WriteString(", ...")
		}
	}
	if f.Unsearched != "" {
		return b.String() + ": not searched: " + f.Unsearched
	}
	fmt.Fprintf(&b, ", byte %d: secret %s", f.Offset, clean(f.Secret))
	return b.String()
}

// clean makes a name fit for one line: it is the author's, who could put line
// ends and escape sequences into it, or what looks like the rest of a finding.
func clean(name string) string {
	const most = 200
	if len(name) > most {
		for name = name[:most]; len(name) > most-utf8.UTFMax && !utf8.ValidString(name); {
			name = name[:len(name)-1]
		}
		name += "..."
	}
	if q := strconv.Quote(name); name == "" || len(q) != len(name)+2 || strings.ContainsAny(name, ",:") {
		return q
	}
	return name
}
