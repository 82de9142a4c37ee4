package hunt

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// between is how long a Recorder waits until it inspects what lives again.
const between = 200 * time.Millisecond

// recorded is how many bytes a Recorder keeps.
const recorded = 256 << 20

// ErrRecorder says that a recording has a gap.
var ErrRecorder = errors.New("the recording is not whole")

// Recorder keeps what is seen for a moment only: an engine's events, what
// inspect says about containers and execs while they live, and files that
// stand in a folder for milliseconds. It needs no canaries, for those of a
// provider that makes them are not known before the job.
type Recorder struct {
	engine *Engine
	stop   context.CancelFunc
	work   sync.WaitGroup
	watch  *watch

	mu     sync.Mutex
	kept   []document
	known  map[[sha256.Size]byte]bool
	bytes  int
	events int
	failed []error
	living map[string]bool   // containers
	missed map[string]string // what went by unseen, and why
}

type document struct{ name, content string }

// Record starts to record all events of an engine from now on, what it says
// about the containers of those events and their execs while they live, and
// files that are made in folders (not below them). Stop it before Recorded.
func Record(ctx context.Context, e *Engine, folders ...string) (*Recorder, error) {
	ctx, stop := context.WithCancel(ctx)
	r := &Recorder{engine: e, stop: stop, known: map[[sha256.Size]byte]bool{}, living: map[string]bool{}, missed: map[string]string{}}
	events, err := e.open(ctx, fmt.Sprintf("/events?since=%d", time.Now().Unix()))
	if err != nil {
		stop()
		return nil, err
	}
	if r.watch, err = newWatch(folders, r); err != nil {
		stop()
		return nil, errors.Join(err, events.Close())
	}
	r.work.Go(func() { r.listen(ctx, events) })
	r.work.Go(func() { r.poll(ctx) })
	return r, nil
}

// Events is how many events were seen.
func (r *Recorder) Events() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events
}

// Stop ends the recording. ErrRecorder says that it has a gap: that the event
// stream ended, or that there was more than it keeps. A file that was gone
// before it could be opened is a Skip of Recorded, for files of others may be
// as fleeting.
func (r *Recorder) Stop() error {
	r.stop()
	r.work.Wait()
	err := r.watch.close()
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(append(r.failed, err)...)
}

// Recorded searches a recording that was stopped.
func (h *Hunt) Recorded(ctx context.Context, r *Recorder) error {
	if h.err != nil {
		return h.err
	}
	var failed []error
	for _, d := range r.kept {
		h.name(d.name, d.name)
		failed = append(failed, h.document(ctx, d.name, d.content))
	}
	for where, reason := range r.missed {
		h.name(where, where)
		h.skip(where, reason)
	}
	return errors.Join(failed...)
}

func (r *Recorder) miss(where, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.missed[where] = reason
}

func (r *Recorder) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.failed) < most {
		r.failed = append(r.failed, fmt.Errorf("%w: %w", ErrRecorder, err))
	}
}

// keep a document, unless the same is kept already.
func (r *Recorder) keep(name, content string) {
	sum := sha256.Sum256([]byte(content))
	r.mu.Lock()
	known, full := r.known[sum], r.bytes+len(content) > recorded
	if !known && !full {
		r.known[sum] = true
		r.bytes += len(content)
		r.kept = append(r.kept, document{name, content})
	}
	r.mu.Unlock()
	if full && !known {
		r.fail(fmt.Errorf("%d MiB are full: record for a shorter time", recorded>>20))
	}
}

// event is what the recorder itself needs of one.
type event struct {
	Type, Action string
	Actor        struct {
		ID         string
		Attributes map[string]string
	}
}

func (r *Recorder) listen(ctx context.Context, body io.ReadCloser) {
	defer body.Close()
	// Bounded, for an event that does not end would fill the memory.
	d := json.NewDecoder(io.LimitReader(body, recorded))
	for {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			if ctx.Err() == nil {
				r.fail(fmt.Errorf("the event stream ended: %w", err))
			}
			return
		}
		var e event
		if err := json.Unmarshal(raw, &e); err != nil {
			r.fail(fmt.Errorf("an event is none: %w", err))
			return
		}
		action, _, _ := strings.Cut(e.Action, ":") // exec_create: sh -c ...
		r.mu.Lock()
		r.events++
		n := r.events
		switch {
		case e.Type == "container" && action == "destroy":
			delete(r.living, e.Actor.ID)
		case e.Type == "container":
			r.living[e.Actor.ID] = true
		}
		r.mu.Unlock()
		r.keep(fmt.Sprintf("event %d (%s %s)", n, e.Type, action), string(raw))
		// Aside, for an engine drops events that nobody takes in time.
		r.work.Go(func() {
			if id := e.Actor.Attributes["execID"]; id != "" {
				r.inspect(ctx, "/exec/"+id+"/json", nil)
			}
			if e.Type == "container" && action == "create" {
				r.inspect(ctx, "/containers/"+e.Actor.ID+"/json", nil)
			}
		})
	}
}

// poll inspects what lives again and again: an object changes.
func (r *Recorder) poll(ctx context.Context) {
	for tick := time.NewTicker(between); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		r.mu.Lock()
		living := slices.Collect(maps.Keys(r.living))
		r.mu.Unlock()
		for _, id := range living {
			var c struct{ ExecIDs []string }
			r.inspect(ctx, "/containers/"+id+"/json", &c)
			for _, exec := range c.ExecIDs {
				r.inspect(ctx, "/exec/"+exec+"/json", nil)
			}
		}
	}
}

func (r *Recorder) inspect(ctx context.Context, path string, into any) {
	b, err := r.engine.get(ctx, path)
	if errors.Is(err, errGone) {
		return
	}
	if err == nil && into != nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.fail(err)
		}
		return
	}
	r.keep("the engine's "+path+", while it was there", string(b))
}
