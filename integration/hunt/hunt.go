// Package hunt looks for canaries: values that a test gave to a job as its
// secrets, in every place of a machine where a value could lie. It promises
// that a place it does not look at is either an error or a Skip with its
// reason, that it counts what it looked at (a hunt that saw nothing must not
// pass for one that found nothing), and that it never says a value: not in a
// Find, not in a Skip, not in an error, not when a Hunt is printed.
//
// A value is looked for as it is and in the forms that programs give it on the
// way (see Form), one level deep in gzip and zip files, in file names and in
// the targets of symbolic links. It is not looked for in extended attributes,
// and not in formats that the standard library does not unpack (Skips name
// them).
package hunt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

var (
	// ErrCanary says that a canary cannot be looked for.
	ErrCanary = errors.New("not a canary")
	// ErrScope says that a hunt was told to look at nothing, or to leave
	// something out without a reason.
	ErrScope = errors.New("not a scope")
	// ErrUnreadable says that a place is there and cannot be read.
	ErrUnreadable = errors.New("unreadable")
)

// minimum length of a value in bytes: shorter ones occur by chance.
const minimum = 16

// Find is one canary in one place in one form, the first time it stands there.
type Find struct {
	Canary string // its name
	Where  string // a path, a /proc file, an API object, a text's name
	Offset int64  // in bytes from the place's start; -1 in a file's name or a link's target
	Form   Form
}

func (f Find) String() string {
	return fmt.Sprintf("canary %s in %s at byte %d, %s", f.Canary, f.Where, f.Offset, f.Form)
}

// Skip is what was not looked at. Places of one kind are one Skip.
type Skip struct {
	Where  string // the first of them
	Reason string
	Count  int
}

func (s Skip) String() string { return fmt.Sprintf("%s (%d such): %s", s.Where, s.Count, s.Reason) }

// Report is what a Hunt saw so far.
type Report struct {
	Finds     []Find // by canary, place and form
	Skips     []Skip
	Files     int   // whose content was searched
	Processes int   // whose command line and environment were
	Documents int   // API objects, events and texts
	Bytes     int64 // of all of them, unpacked ones too
}

// In returns the finds of a canary whose place contains part.
func (r Report) In(canary, part string) (found []Find) {
	for _, f := range r.Finds {
		if f.Canary == canary && strings.Contains(f.Where, part) {
			found = append(found, f)
		}
	}
	return found
}

func (r Report) String() string {
	var b strings.Builder
	for _, f := range r.Finds {
		fmt.Fprintln(&b, "found:", f)
	}
	for _, s := range r.Skips {
		fmt.Fprintln(&b, "skipped:", s)
	}
	fmt.Fprintf(&b, "searched: %d files, %d processes, %d documents, %d MiB\n", r.Files, r.Processes, r.Documents, r.Bytes>>20)
	return b.String()
}

// Hunt looks for a set of canaries. Its methods add to one Report and may be
// called at the same time.
type Hunt struct {
	*matcher
	err     error // of New; every method returns it
	buffers sync.Pool

	mu    sync.Mutex
	seen  Report // without Finds and Skips
	finds map[found]int64
	skips map[string]*Skip // by reason
}

type found struct {
	canary, where string
	form          Form
}

// New makes a hunt for canaries, given by name. A value has at least 16 bytes
// and no NUL; where one has not, or there is none, every method returns
// ErrCanary.
func New(canaries map[string]string) *Hunt {
	h := &Hunt{finds: map[found]int64{}, skips: map[string]*Skip{}}
	var all []pattern
	for name, value := range canaries {
		if len(value) < minimum || strings.Contains(value, "\x00") {
			h.err = fmt.Errorf("canary %q: give it %d bytes or more and no NUL: %w", name, minimum, ErrCanary)
		}
		all = append(all, forms(name, value)...)
	}
	if len(canaries) == 0 {
		h.err = fmt.Errorf("give the hunt a canary: %w", ErrCanary)
	}
	if h.err == nil {
		h.matcher = newMatcher(all)
		for name := range canaries {
			h.scan([]byte(name), func(int, *pattern) { h.err = fmt.Errorf("name a canary otherwise than by a value: %w", ErrCanary) })
		}
	}
	h.buffers.New = func() any { b := make([]byte, 256<<10+2*h.longest); return &b }
	return h
}

// Format keeps values out of whatever prints a Hunt.
func (h *Hunt) Format(s fmt.State, _ rune) { io.WriteString(s, "a hunt") }

// Text searches what a test has in hand: a log, a trace, an answer.
func (h *Hunt) Text(name, content string) error {
	if h.err != nil {
		return h.err
	}
	return h.document(context.Background(), name, content)
}

// Report returns what was seen so far.
func (h *Hunt) Report() Report {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.seen
	for f, offset := range h.finds {
		r.Finds = append(r.Finds, Find{f.canary, f.where, offset, f.form})
	}
	for _, s := range h.skips {
		r.Skips = append(r.Skips, *s)
	}
	slices.SortFunc(r.Finds, func(a, b Find) int {
		return cmp.Or(cmp.Compare(a.Canary, b.Canary), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Form, b.Form))
	})
	slices.SortFunc(r.Skips, func(a, b Skip) int { return cmp.Compare(a.Where, b.Where) })
	return r
}

func (h *Hunt) document(ctx context.Context, name, content string) error {
	h.count(func(r *Report) { r.Documents++ })
	_, err := h.stream(ctx, name, strings.NewReader(content), 0)
	return err
}

// stream searches all of r, whose first byte is at offset, and returns how
// many bytes it read. The end of what was searched stays in the buffer, so
// that a value on the border of two reads is found.
func (h *Hunt) stream(ctx context.Context, where string, r io.Reader, offset int64) (int64, error) {
	held := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(held)
	buf, kept, total := *held, 0, int64(0)
	defer func() { h.count(func(r *Report) { r.Bytes += total }) }()
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := r.Read(buf[kept:])
		total += int64(n)
		end := kept + n
		h.scan(buf[:end], func(at int, p *pattern) { h.found(p, where, offset+int64(at)) })
		kept = min(end, h.longest-1)
		copy(buf, buf[end-kept:end])
		offset += int64(end - kept)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// name searches the name of a place, or where a link points.
func (h *Hunt) name(where, text string) {
	h.scan([]byte(text), func(_ int, p *pattern) { h.found(p, where, -1) })
}

func (h *Hunt) found(p *pattern, where string, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	key := found{p.canary, h.mask(where), p.form}
	if first, ok := h.finds[key]; !ok || offset < first {
		h.finds[key] = offset
	}
}

func (h *Hunt) skip(where, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.skips[reason]; s != nil {
		s.Count++
		return
	}
	h.skips[reason] = &Skip{h.mask(where), reason, 1}
}

func (h *Hunt) count(add func(*Report)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	add(&h.seen)
}

// unreadable is an error about a place, without the value that may be in its
// path: paths are in the messages of the standard library's errors, too.
func (h *Hunt) unreadable(where string, err error) error {
	return fmt.Errorf("%s: look at it as root, or leave it out with a reason: %w: %s", h.mask(where), ErrUnreadable, h.mask(err.Error()))
}
