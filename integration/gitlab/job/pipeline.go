package job

import (
	"fmt"
	"slices"
)

// Planned is one job of a pipeline that is about to be made.
type Planned struct {
	Spec  Spec
	Token string
	// Stage is the position of the job's stage.
	Stage int
	// Needs names the jobs to wait for; with ByNeeds unset the job waits for all earlier stages.
	Needs   []string
	ByNeeds bool
	// From names the jobs whose artifacts are downloaded; with AllBefore set, those of all earlier stages.
	From      []string
	AllBefore bool
	// When is on_success, on_failure or always.
	When string
}

// PipelineStatus is what there is to see of a pipeline.
type PipelineStatus struct {
	ID      int64    `json:"id"`
	Project string   `json:"project"`
	Ref     string   `json:"ref"`
	SHA     string   `json:"sha"`
	State   State    `json:"state"`
	Done    bool     `json:"done"`
	Jobs    []Status `json:"jobs"`
}

// Job finds a job of the pipeline by name.
func (p PipelineStatus) Job(name string) (Status, bool) {
	i := slices.IndexFunc(p.Jobs, func(s Status) bool { return s.Name == name })
	if i < 0 {
		return Status{}, false
	}
	return p.Jobs[i], true
}

type pipeline struct {
	id      int64
	project string
	ref     string
	sha     string
	jobs    []*entry
}

// AddPipeline makes all jobs of a pipeline and starts the first. The source's PipelineID must be one of NewPipelineID.
func (b *Book) AddPipeline(source Source, project string, planned []Planned) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := &pipeline{id: source.PipelineID, project: project, ref: source.Ref, sha: source.SHA}
	byName := map[string]*entry{}
	for _, pl := range planned {
		e := b.add(pl.Spec, source, pl.Token)
		e.State, e.stageIndex, e.byNeeds = Created, pl.Stage, pl.ByNeeds
		if pl.When != "" {
			e.when = pl.When
		}
		byName[pl.Spec.Name] = e
		p.jobs = append(p.jobs, e)
	}
	resolve := func(names []string) (ids []int64, err error) {
		for _, n := range names {
			if byName[n] == nil {
				return nil, fmt.Errorf("job %q is needed but not in the pipeline", n)
			}
			ids = append(ids, byName[n].ID)
		}
		return ids, nil
	}
	for i, pl := range planned {
		e := p.jobs[i]
		var err error
		if e.needs, err = resolve(pl.Needs); err != nil {
			return err
		}
		if e.spec.Dependencies, err = resolve(pl.From); err != nil {
			return err
		}
		if pl.AllBefore {
			for _, o := range p.jobs {
				if o.stageIndex < e.stageIndex {
					e.spec.Dependencies = append(e.spec.Dependencies, o.ID)
				}
			}
		}
	}
	b.pipelines[p.id] = p
	for _, e := range p.jobs {
		b.events = append(b.events, Event{Seq: len(b.events) + 1, At: e.CreatedAt, Job: e.ID, Pipeline: p.id, Name: e.Name, State: Created})
	}
	b.advance(p.id)
	return nil
}

// NewID hands out the next number; pipelines share theirs with jobs.
func (b *Book) NewID() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nextID()
}

// advance starts or skips every job whose turn it is. A skipped job may be the end of the wait for another: enter
// calls advance again, so one pass is enough.
func (b *Book) advance(id int64) {
	p := b.pipelines[id]
	if p == nil {
		return
	}
	for _, e := range p.jobs {
		if e.State != Created {
			continue
		}
		over, good := p.before(e)
		switch {
		case !over:
		case e.when == "always", e.when == "on_success" && good, e.when == "on_failure" && !good:
			b.enter(e, Pending)
		default:
			b.enter(e, Skipped)
		}
	}
}

// before tells whether all that e waits for is over, and went well. A job skipped by its own `when` hurts nobody in a
// later stage, but someone who needs it by name does not run without it.
func (p *pipeline) before(e *entry) (over, good bool) {
	over, good = true, true
	for _, o := range p.jobs {
		if e.byNeeds && !slices.Contains(e.needs, o.ID) || !e.byNeeds && o.stageIndex >= e.stageIndex {
			continue
		}
		over = over && o.State.Final()
		switch {
		case o.State == Success, o.State == Failed && o.Allowed:
		case o.State == Skipped && !e.byNeeds:
		default:
			good = false
		}
	}
	return over, good
}

// Pipeline returns a pipeline with its jobs in the order of the file.
func (b *Book) Pipeline(id int64) (PipelineStatus, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pipelines[id]
	if p == nil {
		return PipelineStatus{}, fmt.Errorf("pipeline %d: %w", id, ErrNotFound)
	}
	st := PipelineStatus{ID: id, Project: p.project, Ref: p.ref, SHA: p.sha, State: Success, Done: true}
	var failed, canceled, started bool
	for _, e := range p.jobs {
		st.Jobs = append(st.Jobs, e.status())
		st.Done = st.Done && e.Done
		failed = failed || e.State == Failed && !e.Allowed
		canceled = canceled || e.State == Canceled
		started = started || !e.HandedAt.IsZero()
	}
	switch {
	case !st.Done && started:
		st.State = Running
	case !st.Done:
		st.State = Pending
	case failed:
		st.State = Failed
	case canceled:
		st.State = Canceled
	}
	return st, nil
}
