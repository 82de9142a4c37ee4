package job

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"cleanroom/integration/gitlab/wire"
)

// ErrNotFound is returned for an id that no job or pipeline has.
var ErrNotFound = errors.New("no such job")

// Book holds all jobs and pipelines.
type Book struct {
	mu        sync.Mutex
	nextID    func() int64
	jobs      map[int64]*entry
	tokens    map[string]int64
	pipelines map[int64]*pipeline
	queue     []*entry // pending, oldest first
	events    []Event
	changed   chan struct{}
	epoch     time.Time
}

// entry is a job; everything in it but trace is small. Guarded by Book.mu.
type entry struct {
	Status
	spec   Spec
	source Source
	token  string

	stageIndex int
	needs      []int64 // nil: wait for the stages before
	byNeeds    bool
	when       string

	trace      []byte
	mismatches int
}

// Handed is what the server needs to answer a runner that was given a job.
type Handed struct {
	ID       int64
	Token    string
	Spec     Spec
	Source   Source
	Queued   time.Duration
	At       time.Time
	Waiting  int
	Upstream []Status
}

// NewBook returns an empty book whose jobs and pipelines are numbered by nextID.
func NewBook(nextID func() int64) *Book {
	return &Book{
		nextID:    nextID,
		jobs:      map[int64]*entry{},
		tokens:    map[string]int64{},
		pipelines: map[int64]*pipeline{},
		changed:   make(chan struct{}),
		epoch:     time.Now(),
	}
}

// now is a wall clock that nobody can set: differences stay true when times have travelled through JSON.
func (b *Book) now() time.Time { return b.epoch.Add(time.Since(b.epoch)).Round(0) }

// Changed returns a channel that is closed at the next change of anything. Take it before looking.
func (b *Book) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

func (b *Book) broadcast() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Book) enter(e *entry, s State) {
	now := b.now()
	e.State = s
	switch {
	case s == Pending:
		e.PendingAt = now
		b.queue = append(b.queue, e)
	case s == Running:
		e.HandedAt = now
	case s.Final():
		e.FinalAt = now
		e.Done = e.HandedAt.IsZero() || !e.LetGoAt.IsZero()
		b.queue = slices.DeleteFunc(b.queue, func(q *entry) bool { return q == e })
	}
	b.events = append(b.events, Event{Seq: len(b.events) + 1, At: now, Job: e.ID, Pipeline: e.Pipeline, Name: e.Name, State: s})
	b.broadcast()
	if s.Final() {
		b.advance(e.Pipeline)
	}
}

// add makes a job without showing it to anyone. The caller holds mu.
func (b *Book) add(spec Spec, source Source, token string) *entry {
	if spec.Stage == "" {
		spec.Stage = "test"
	}
	e := &entry{spec: spec, source: source, token: token, when: "on_success"}
	e.Status = Status{ID: b.nextID(), Pipeline: source.PipelineID, Name: spec.Name, Stage: spec.Stage,
		Project: spec.Project, Ref: source.Ref, CreatedAt: b.now()}
	b.jobs[e.ID] = e
	b.tokens[token] = e.ID
	return e
}

// Submit adds a job that belongs to no pipeline and may run at once.
func (b *Book) Submit(spec Spec, source Source, token string) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range spec.Dependencies {
		if b.jobs[d] == nil {
			return 0, fmt.Errorf("dependency %d: %w", d, ErrNotFound)
		}
	}
	e := b.add(spec, source, token)
	b.enter(e, Pending)
	return e.ID, nil
}

// Claim takes a pending job off the queue for a runner; pick chooses which of n. ok is false when there is none.
func (b *Book) Claim(runner int64, info wire.Info, pick func(n int) int) (h Handed, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return Handed{}, false
	}
	i := pick(len(b.queue))
	e := b.queue[i]
	b.queue = slices.Delete(b.queue, i, i+1)
	e.Runner, e.RunnerID = info, runner
	b.enter(e, Running)
	h = Handed{ID: e.ID, Token: e.token, Spec: e.spec, Source: e.source,
		Queued: e.HandedAt.Sub(e.PendingAt), At: e.HandedAt, Waiting: len(b.queue)}
	for _, d := range e.spec.Dependencies {
		h.Upstream = append(h.Upstream, b.jobs[d].status())
	}
	return h, true
}

// Cancel ends a job. One that runs is given to its runner as canceling (after_script still runs) when gracefully is
// set, as canceled (everything stops) when not; one that does not run yet is canceled at once.
func (b *Book) Cancel(id int64, gracefully bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil {
		return fmt.Errorf("cancel %d: %w", id, ErrNotFound)
	}
	if e.State.Final() {
		return fmt.Errorf("cancel %d: the job is over: %s", id, e.State)
	}
	if e.CancelAt.IsZero() {
		e.CancelAt = b.now()
	}
	switch {
	case e.State == Canceling && gracefully:
	case e.State == Running && gracefully:
		b.enter(e, Canceling)
	default:
		b.enter(e, Canceled)
	}
	return nil
}

// ByToken finds the job that a job token belongs to.
func (b *Book) ByToken(token string) (Status, Spec, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[b.tokens[token]]
	if e == nil || token == "" {
		return Status{}, Spec{}, false
	}
	return e.status(), e.spec, true
}

func (e *entry) status() Status {
	s := e.Status
	s.TraceBytes = len(e.trace)
	s.Artifacts = slices.Clone(e.Artifacts)
	return s
}

// Status returns a job without its trace.
func (b *Book) Status(id int64) (Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil {
		return Status{}, fmt.Errorf("job %d: %w", id, ErrNotFound)
	}
	return e.status(), nil
}

// Events returns what happened after the event numbered seq.
func (b *Book) Events(seq int) []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events[min(max(seq, 0), len(b.events)):])
}

// Jobs returns all jobs, oldest first, without their traces.
func (b *Book) Jobs() []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]Status, 0, len(b.jobs))
	for _, e := range b.jobs {
		all = append(all, e.status())
	}
	slices.SortFunc(all, func(x, y Status) int { return int(x.ID - y.ID) })
	return all
}
