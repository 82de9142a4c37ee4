package gitlab

import (
	"bytes"
	"context"
	"fmt"

	"cleanroom/integration/gitlab/answer"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

// The words of a job, under the names tests use.
type (
	ProjectVariable = answer.Variable // a wire Variable, and whether it is for protected refs only

	JobSpec        = job.Spec
	JobStatus      = job.Status
	PipelineStatus = job.PipelineStatus
	AllowFailure   = job.AllowFailure
	User           = job.User
	Event          = job.Event
	Variable       = wire.Variable
	Image          = wire.Image
	ExecutorOpts   = wire.ExecutorOpts
	DockerOpts     = wire.DockerOpts
	Artifact       = wire.Artifact
	Cache          = wire.Cache
	Credential     = wire.Credential
	Step           = wire.Step
	Hook           = wire.Hook
)

// Project is a repository and its settings. Adding one that exists commits the files again, to the branch given.
type Project struct {
	// Path is "namespace/name", Dir the folder whose files are committed.
	Path string `json:"path"`
	Dir  string `json:"-"`
	// Branch takes the commit, "main" when empty. The branch of the first commit is the default branch; others fork it.
	Branch string `json:"branch,omitempty"`
	// Tag names the commit, too.
	Tag     string `json:"tag,omitempty"`
	Message string `json:"message,omitempty"`
	// Protected holds the names and patterns of protected branches and tags. Nil leaves what was; at first, the
	// default branch.
	Protected []string `json:"protected,omitempty"`
	// Variables are those of the project's CI/CD settings. Nil leaves what was.
	Variables []ProjectVariable `json:"variables,omitempty"`
}

// Instance is a stand-in, here or elsewhere.
type Instance interface {
	// AddProject commits the files of a folder.
	AddProject(ctx context.Context, p Project) (sha string, err error)
	// Submit adds a single job, to run as soon as a runner asks.
	Submit(ctx context.Context, spec JobSpec) (id int64, err error)
	// Pipeline starts the .gitlab-ci.yml of a branch or tag.
	Pipeline(ctx context.Context, project, ref string) (id int64, err error)
	// Cancel ends a job: gracefully (canceling: after_script still runs) or at once (canceled).
	Cancel(ctx context.Context, id int64, gracefully bool) error
	// Job returns a job with its trace so far.
	Job(ctx context.Context, id int64) (JobStatus, error)
	// Jobs returns all jobs without traces, oldest first.
	Jobs(ctx context.Context) ([]JobStatus, error)
	// Wait returns a job once it is over and its runner has let go of it.
	Wait(ctx context.Context, id int64) (JobStatus, error)
	// WaitTrace returns a job once its trace holds the text, and fails if the job ends without.
	WaitTrace(ctx context.Context, id int64, text string) (JobStatus, error)
	// PipelineStatus returns a pipeline as it is, WaitPipeline once all its jobs are over.
	PipelineStatus(ctx context.Context, id int64) (PipelineStatus, error)
	WaitPipeline(ctx context.Context, id int64) (PipelineStatus, error)
	// Events returns the changes after the one numbered seq; it waits until there is one.
	Events(ctx context.Context, seq int) ([]Event, error)
	// Artifact returns the bytes of an artifact that a job uploaded, by its type ("archive", "junit", "dotenv").
	Artifact(ctx context.Context, id int64, kind string) ([]byte, error)
}

var (
	_ Instance = (*Server)(nil)
	_ Instance = (*Client)(nil)
)

// until calls look after every change until it says done.
func (s *Server) until(ctx context.Context, look func() (done bool, err error)) error {
	for {
		changed := s.book.Changed()
		if done, err := look(); done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Server) withTrace(st JobStatus, err error) (JobStatus, error) {
	if err == nil {
		st.Trace, err = s.book.Trace(st.ID, 0)
	}
	return st, err
}

// Cancel implements Instance.
func (s *Server) Cancel(_ context.Context, id int64, gracefully bool) error {
	return s.book.Cancel(id, gracefully)
}

// Job implements Instance.
func (s *Server) Job(_ context.Context, id int64) (JobStatus, error) {
	return s.withTrace(s.book.Status(id))
}

// Jobs implements Instance.
func (s *Server) Jobs(context.Context) ([]JobStatus, error) { return s.book.Jobs(), nil }

// Wait implements Instance.
func (s *Server) Wait(ctx context.Context, id int64) (st JobStatus, err error) {
	err = s.until(ctx, func() (bool, error) {
		st, err = s.book.Status(id)
		return st.Done, err
	})
	if err != nil {
		return st, fmt.Errorf("waiting for job %d (%s): %w", id, st.State, err)
	}
	return s.withTrace(st, nil)
}

// WaitTrace implements Instance.
func (s *Server) WaitTrace(ctx context.Context, id int64, text string) (st JobStatus, err error) {
	seen := 0 // a trace may be long: what has been searched is not searched again, but for a text's length
	err = s.until(ctx, func() (bool, error) {
		if st, err = s.book.Status(id); err != nil {
			return false, err
		}
		trace, err := s.book.Trace(id, max(0, seen-len(text)))
		if err != nil || bytes.Contains(trace, []byte(text)) {
			return true, err
		}
		if st.State.Final() {
			return false, fmt.Errorf("it ended as %s without it", st.State)
		}
		seen = min(st.TraceBytes, seen+len(trace))
		return false, nil
	})
	if err != nil {
		return st, fmt.Errorf("waiting for %q in the trace of job %d: %w", text, id, err)
	}
	return s.withTrace(s.book.Status(id))
}

// PipelineStatus implements Instance.
func (s *Server) PipelineStatus(_ context.Context, id int64) (PipelineStatus, error) {
	return s.book.Pipeline(id)
}

// WaitPipeline implements Instance.
func (s *Server) WaitPipeline(ctx context.Context, id int64) (st PipelineStatus, err error) {
	err = s.until(ctx, func() (bool, error) {
		st, err = s.book.Pipeline(id)
		return st.Done, err
	})
	if err != nil {
		err = fmt.Errorf("waiting for pipeline %d (%s): %w", id, st.State, err)
	}
	return st, err
}

// Events implements Instance.
func (s *Server) Events(ctx context.Context, seq int) (events []Event, err error) {
	err = s.until(ctx, func() (bool, error) {
		events = s.book.Events(seq)
		return len(events) > 0, nil
	})
	return events, err
}
