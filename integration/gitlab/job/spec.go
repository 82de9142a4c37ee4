// Package job is the part of GitLab that knows jobs: what one is made of, the states it goes through, its trace, and the
// order in which a pipeline's jobs become runnable. It promises that every change is seen by everyone who watches the
// Book as soon as it is made, and that no job ever leaves a final state.
package job

import (
	"fmt"
	"slices"
	"time"

	"cleanroom/integration/gitlab/wire"
)

// Spec is a job as its author wants it.
type Spec struct {
	Name    string `json:"name"`
	Stage   string `json:"stage,omitempty"`   // "test" when empty
	Project string `json:"project,omitempty"` // "shop/items"; without one the job has nothing to clone
	Ref     string `json:"ref,omitempty"`     // branch or tag; the project's default branch when empty

	Image     *wire.Image     `json:"image,omitempty"`
	Services  []wire.Image    `json:"services,omitempty"`
	Variables []wire.Variable `json:"variables,omitempty"`

	BeforeScript []string    `json:"before_script,omitempty"`
	Script       []string    `json:"script"`
	AfterScript  []string    `json:"after_script,omitempty"`
	Steps        []wire.Step `json:"steps,omitempty"` // further steps, run between script and after_script
	Hooks        []wire.Hook `json:"hooks,omitempty"`

	Artifacts []wire.Artifact `json:"artifacts,omitempty"`
	Cache     []wire.Cache    `json:"cache,omitempty"`

	// Credentials open registries, besides the instance's own.
	Credentials []wire.Credential `json:"credentials,omitempty"`

	// Dependencies are jobs whose archive the runner downloads, and whose dotenv reports become variables.
	Dependencies []int64 `json:"dependencies,omitempty"`
	// IDTokens maps a variable's name to the audiences of the ID token it will hold.
	IDTokens map[string][]string `json:"id_tokens,omitempty"`

	Timeout      time.Duration `json:"timeout,omitempty"` // one hour when zero
	AllowFailure AllowFailure  `json:"allow_failure,omitzero"`
	User         User          `json:"user,omitzero"`
}

// User is who started the job.
type User struct {
	ID    int64  `json:"id"`
	Login string `json:"login"`
}

// AllowFailure is `allow_failure:`, either for every failure or for some exit codes.
type AllowFailure struct {
	Always    bool  `json:"always,omitempty"`
	ExitCodes []int `json:"exit_codes,omitempty"`
}

func (a AllowFailure) allows(exitCode int) bool {
	return a.Always || slices.Contains(a.ExitCodes, exitCode)
}

// Source is what the server knows about where a job comes from; nothing in it is the author's word.
type Source struct {
	ProjectID   int64
	PipelineID  int64
	PipelineIID int64
	SHA         string
	BeforeSHA   string
	Ref         string
	RefType     string
	Protected   bool
	Message     string
	CommittedAt string
}

// PipelineRef is the ref that keeps a pipeline's commit in the repository.
func (s Source) PipelineRef() string { return fmt.Sprintf("refs/pipelines/%d", s.PipelineID) }

// State of a job, in GitLab's words.
type State string

// A job is Created while its stage has not come, and Canceling while its runner still runs after_script.
const (
	Created   State = "created"
	Pending   State = "pending"
	Running   State = "running"
	Canceling State = "canceling"
	Success   State = "success"
	Failed    State = "failed"
	Canceled  State = "canceled"
	Skipped   State = "skipped"
)

// Final tells whether a job in this state is over.
func (s State) Final() bool {
	return s == Success || s == Failed || s == Canceled || s == Skipped
}

// Upload is an artifact that a runner has uploaded.
type Upload struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Format string `json:"format"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// File is where the server keeps it.
	File string `json:"file"`
}

// Status is everything there is to see of a job. Times that have not come are zero; the differences between times are
// those of a monotonic clock.
type Status struct {
	ID       int64  `json:"id"`
	Pipeline int64  `json:"pipeline"`
	Name     string `json:"name"`
	Stage    string `json:"stage"`
	Project  string `json:"project"`
	Ref      string `json:"ref"`
	State    State  `json:"state"`

	FailureReason string `json:"failure_reason,omitempty"`
	ExitCode      int    `json:"exit_code"`
	// Allowed is set for a failure that allow_failure covers: the pipeline goes on.
	Allowed bool `json:"allowed,omitempty"`
	// Done is set when the job is final and its runner has said its last word, which for a cancelled job comes later.
	Done bool `json:"done"`

	Trace      []byte `json:"-"`
	TraceBytes int    `json:"trace_bytes"`
	// TraceError says how the trace received differs from the one that the runner says it sent.
	TraceError string `json:"trace_error,omitempty"`
	Patches    int    `json:"patches"`
	Puts       int    `json:"puts"`

	Artifacts []Upload  `json:"artifacts,omitempty"`
	Runner    wire.Info `json:"runner"`
	RunnerID  int64     `json:"runner_id,omitempty"`

	CreatedAt    time.Time `json:"created_at"`
	PendingAt    time.Time `json:"pending_at,omitzero"`
	HandedAt     time.Time `json:"handed_at,omitzero"`
	FirstTraceAt time.Time `json:"first_trace_at,omitzero"`
	CancelAt     time.Time `json:"cancel_at,omitzero"`
	FinalAt      time.Time `json:"final_at,omitzero"`
	LetGoAt      time.Time `json:"let_go_at,omitzero"`
}

// Event is one change of a job's state.
type Event struct {
	Seq      int       `json:"seq"`
	At       time.Time `json:"at"`
	Job      int64     `json:"job"`
	Pipeline int64     `json:"pipeline"`
	Name     string    `json:"name"`
	State    State     `json:"state"`
}
