package job

import (
	"fmt"
	"hash/crc32"
	"slices"

	"cleanroom/integration/gitlab/wire"
)

// What a runner reports about a job it was given: trace, artifacts, the end.

// Verdict is what a final update of a runner led to.
type Verdict int

// A Mismatch is answered once per job: the runner then sends the whole trace again.
const (
	Accepted Verdict = iota
	Mismatch
	NotRunning
)

func (s State) reportable() bool { return s == Running || s == Canceling }

// Append adds data to a job's trace if start is where the trace ends, and answers the size of the trace then.
func (b *Book) Append(id int64, start int, data []byte) (size int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	e.Patches++
	if start != len(e.trace) || !e.State.reportable() {
		return len(e.trace), false
	}
	if len(data) > 0 {
		e.trace = append(e.trace, data...)
		if e.FirstTraceAt.IsZero() {
			e.FirstTraceAt = b.now()
		}
		b.broadcast()
	}
	return len(e.trace), true
}

// Lose forgets the end of a trace, as GitLab does when a chunk is lost before it is stored.
func (b *Book) Lose(id int64, keep int) (size int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	// A new slice: those who were given the old trace keep it.
	e.trace = slices.Clone(e.trace[:min(keep, len(e.trace))])
	return len(e.trace)
}

// Trace returns the trace from offset on. The bytes must not be changed.
func (b *Book) Trace(id int64, offset int) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e == nil {
		return nil, fmt.Errorf("job %d: %w", id, ErrNotFound)
	}
	return slices.Clip(e.trace[min(max(offset, 0), len(e.trace)):]), nil
}

// Forget drops the trace of a job that is over.
func (b *Book) Forget(id int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := b.jobs[id]; {
	case e == nil:
		return fmt.Errorf("job %d: %w", id, ErrNotFound)
	case !e.Done:
		return fmt.Errorf("job %d is not over: its trace is still wanted", id)
	default:
		e.trace = nil
	}
	return nil
}

// Touch notes that the runner gave a sign of life.
func (b *Book) Touch(id int64) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	e.Puts++
	return e.State
}

// LetGo notes that the runner has heard that the job is over and will not come back to it.
func (b *Book) LetGo(id int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e.LetGoAt.IsZero() {
		e.LetGoAt = b.now()
		e.Done = e.State.Final()
		b.broadcast()
	}
}

// Finish takes a runner's final word. The trace must add up to what the runner says it sent: at the first difference
// the trace is dropped and asked for again, at the second the job ends all the same, and its status tells.
func (b *Book) Finish(id int64, u wire.Update) Verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if !e.State.reportable() {
		return NotRunning
	}
	e.TraceError = e.compare(u)
	if e.TraceError != "" {
		e.mismatches++
		if e.mismatches == 1 {
			e.trace = nil
			return Mismatch
		}
	}
	e.LetGoAt = b.now()
	switch {
	case u.State == string(Success) && e.State == Running:
		b.enter(e, Success)
	case u.State == string(Success) || u.FailureReason == "job_canceled":
		// A job that was asked to cancel stays cancelled, even if its script won the race.
		b.enter(e, Canceled)
	default:
		e.FailureReason, e.ExitCode = u.FailureReason, u.ExitCode
		if e.FailureReason == "" {
			e.FailureReason = "unknown_failure"
		}
		if e.State == Canceling {
			b.enter(e, Canceled)
			break
		}
		e.Allowed = e.spec.AllowFailure.allows(u.ExitCode)
		b.enter(e, Failed)
	}
	return Accepted
}

func (e *entry) compare(u wire.Update) string {
	sum := u.Output.Checksum
	if sum == "" {
		sum = u.Checksum
	}
	if sum == "" {
		return ""
	}
	if u.Output.Bytesize != len(e.trace) {
		return fmt.Sprintf("the runner sent %d bytes of trace, %d were received", u.Output.Bytesize, len(e.trace))
	}
	if got := fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE(e.trace)); got != sum {
		return fmt.Sprintf("the runner sent a trace of %s, %s was received", sum, got)
	}
	return ""
}

// Drop fails a job that the server itself cannot go on with.
func (b *Book) Drop(id int64, reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	if e.State.Final() {
		return
	}
	e.LetGoAt = b.now()
	e.FailureReason = reason
	b.enter(e, Failed)
}

// Uploaded notes an artifact. GitLab keeps one of each type; a second, different one is an error.
func (b *Book) Uploaded(id int64, up Upload) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.jobs[id]
	for _, have := range e.Artifacts {
		if have.Type != up.Type {
			continue
		}
		if have.SHA256 == up.SHA256 {
			return nil
		}
		return fmt.Errorf("another artifact of the same type already exists: %s", up.Type)
	}
	e.Artifacts = append(e.Artifacts, up)
	b.broadcast()
	return nil
}
