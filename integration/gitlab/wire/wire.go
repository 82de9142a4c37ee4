// Package wire holds the JSON that GitLab and a runner exchange over the runner API (v4): what a runner sends when it
// asks for, updates and traces a job, and the job that GitLab answers with. It promises the spelling of GitLab 17 to 19,
// and nothing about behaviour.
package wire

import "strings"

// Job is the answer to POST /jobs/request. Fields that GitLab writes itself (JobInfo, GitInfo) are the ones a driver
// may believe; the rest is in the hands of whoever writes .gitlab-ci.yml.
type Job struct {
	ID            int64         `json:"id"`
	Token         string        `json:"token"`
	AllowGitFetch bool          `json:"allow_git_fetch"`
	JobInfo       JobInfo       `json:"job_info"`
	GitInfo       GitInfo       `json:"git_info"`
	RunnerInfo    RunnerLimits  `json:"runner_info"`
	Inputs        []struct{}    `json:"inputs"`
	Variables     []Variable    `json:"variables"`
	Steps         []Step        `json:"steps"`
	Hooks         []Hook        `json:"hooks"`
	Image         *Image        `json:"image"`
	Services      []Image       `json:"services"`
	Artifacts     []Artifact    `json:"artifacts"`
	Cache         []Cache       `json:"cache"`
	Credentials   []Credential  `json:"credentials"`
	Dependencies  []Dependency  `json:"dependencies"`
	Features      Features      `json:"features"`
	PolicyOptions PolicyOptions `json:"policy_options"`
	// Both stand for features of GitLab that a job here never uses. `run` must stay out: a runner takes null for an error.
	Secrets  *struct{} `json:"secrets"`
	IDTokens *struct{} `json:"id_tokens"`
}

// JobInfo says which job of which project this is.
type JobInfo struct {
	Name               string  `json:"name"`
	Stage              string  `json:"stage"`
	PipelineID         int64   `json:"pipeline_id"`
	ProjectID          int64   `json:"project_id"`
	ProjectName        string  `json:"project_name"`
	ProjectFullPath    string  `json:"project_full_path"`
	NamespaceID        int64   `json:"namespace_id"`
	RootNamespaceID    int64   `json:"root_namespace_id"`
	OrganizationID     int64   `json:"organization_id"`
	InstanceID         string  `json:"instance_id"`
	InstanceUUID       string  `json:"instance_uuid"`
	UserID             int64   `json:"user_id"`
	TimeInQueueSeconds float64 `json:"time_in_queue_seconds"`
	RunningOnInstance  string  `json:"project_jobs_running_on_instance_runners_count"`
	QueueSize          int64   `json:"queue_size"`
	QueueDepth         int64   `json:"queue_depth"`
}

// GitInfo says what to clone. RepoURL carries the job token.
type GitInfo struct {
	RepoURL          string   `json:"repo_url"`
	RepoObjectFormat string   `json:"repo_object_format"`
	Ref              string   `json:"ref"`
	SHA              string   `json:"sha"`
	BeforeSHA        string   `json:"before_sha"`
	RefType          string   `json:"ref_type"`
	Refspecs         []string `json:"refspecs"`
	Depth            int      `json:"depth"`
	Protected        bool     `json:"protected"`
}

// RunnerLimits is what GitLab tells the runner about itself.
type RunnerLimits struct {
	UUID    string `json:"uuid"`
	Timeout int    `json:"timeout"`
}

// Variable is a CI/CD variable. GitLab leaves file and raw out when they are false.
type Variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Public bool   `json:"public"`
	Masked bool   `json:"masked"`
	File   bool   `json:"file,omitempty"`
	Raw    bool   `json:"raw,omitempty"`
}

// Step is one script of a job: `script`, `after_script`, or another such as `release`.
type Step struct {
	Name         string   `json:"name"`
	Script       []string `json:"script"`
	Timeout      int      `json:"timeout"`
	When         string   `json:"when"`
	AllowFailure bool     `json:"allow_failure"`
}

// Hook is a script the runner runs around a stage of its own.
type Hook struct {
	Name   string   `json:"name"`
	Script []string `json:"script"`
}

// Image is `image:`, or one entry of `services:`.
type Image struct {
	Name         string       `json:"name"`
	Alias        string       `json:"alias,omitempty"`
	Command      []string     `json:"command,omitempty"`
	Entrypoint   []string     `json:"entrypoint,omitempty"`
	Ports        []Port       `json:"ports"`
	Variables    []Variable   `json:"variables,omitempty"`
	PullPolicy   []string     `json:"pull_policy,omitempty"`
	ExecutorOpts ExecutorOpts `json:"executor_opts"`
}

// Port belongs to interactive web terminals; GitLab sends an empty list for everyone else.
type Port struct {
	Number   int    `json:"number"`
	Protocol string `json:"protocol"`
	Name     string `json:"name"`
}

// ExecutorOpts holds what only one kind of executor understands.
type ExecutorOpts struct {
	Docker *DockerOpts `json:"docker,omitempty"`
}

// DockerOpts is `image:docker:`.
type DockerOpts struct {
	Platform string `json:"platform,omitempty"`
	User     string `json:"user,omitempty"`
}

// Artifact is something the runner uploads when the scripts are over.
type Artifact struct {
	Name      string   `json:"name,omitempty"`
	Untracked bool     `json:"untracked"`
	Paths     []string `json:"paths"`
	Exclude   []string `json:"exclude,omitempty"`
	When      string   `json:"when,omitempty"`
	Type      string   `json:"artifact_type"`
	Format    string   `json:"artifact_format"`
	ExpireIn  string   `json:"expire_in,omitempty"`
}

// Cache is one entry of `cache:`.
type Cache struct {
	Key          string   `json:"key"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"`
	Paths        []string `json:"paths"`
	When         string   `json:"when"`
	FallbackKeys []string `json:"fallback_keys"`
}

// Credential opens a registry.
type Credential struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// Dependency is an earlier job whose archive this job downloads first.
type Dependency struct {
	ID            int64          `json:"id"`
	Name          string         `json:"name"`
	Token         string         `json:"token"`
	ArtifactsFile DependencyFile `json:"artifacts_file"`
}

// DependencyFile describes the archive of a Dependency.
type DependencyFile struct {
	Filename string `json:"filename"`
	Size     int64  `json:"size"`
}

// Features is what this GitLab understands.
type Features struct {
	TraceSections     bool      `json:"trace_sections"`
	TokenMaskPrefixes []string  `json:"token_mask_prefixes"`
	FailureReasons    []string  `json:"failure_reasons"`
	Tracing           *struct{} `json:"tracing"`
}

// PolicyOptions tells whether a security policy put the job there.
type PolicyOptions struct {
	PolicyJob bool   `json:"execution_policy_job"`
	Name      string `json:"policy_name"`
}

// Info is how a runner describes itself in every request.
type Info struct {
	Name         string          `json:"name"`
	Version      string          `json:"version"`
	Revision     string          `json:"revision"`
	Platform     string          `json:"platform"`
	Architecture string          `json:"architecture"`
	Executor     string          `json:"executor"`
	Shell        string          `json:"shell"`
	Features     map[string]bool `json:"features"`
}

// Request is any JSON a runner sends about itself: register, verify, unregister, ask for a job.
type Request struct {
	Token       string `json:"token"`
	SystemID    string `json:"system_id"`
	LastUpdate  string `json:"last_update"`
	Description string `json:"description"`
	Info        Info   `json:"info"`
}

// Update is PUT /jobs/:id.
type Update struct {
	Token         string `json:"token"`
	State         string `json:"state"`
	FailureReason string `json:"failure_reason"`
	ExitCode      int    `json:"exit_code"`
	Checksum      string `json:"checksum"`
	Output        Output `json:"output"`
}

// Output is what the runner says the whole trace should add up to.
type Output struct {
	Checksum string `json:"checksum"`
	Bytesize int    `json:"bytesize"`
}

// FailureReasons is the list GitLab sends, so that a runner maps what GitLab would not know.
var FailureReasons = strings.Fields(`unknown_failure script_failure api_failure stuck_or_timeout_failure
	runner_system_failure missing_dependency_failure runner_unsupported stale_schedule job_execution_timeout
	archived_failure unmet_prerequisites scheduler_failure data_integrity_failure forward_deployment_failure
	user_blocked project_deleted ci_quota_exceeded pipeline_loop_detected no_matching_runner trace_size_exceeded
	builds_disabled environment_creation_failure deployment_rejected failed_outdated_deployment_job
	ip_restriction_failure job_token_expired image_pull_failure job_canceled configuration_error`)

// TokenMaskPrefixes is the list GitLab sends, of tokens a runner masks even where no variable holds them.
var TokenMaskPrefixes = strings.Fields(`glpat- gloas- gldt- glrt- glcbt- glrtr- glptt- glft- glimt- glagent- glsoat- glffct-`)

// Report formats: GitLab sends most reports gzipped, and under a file name of its own.
var reports = map[string]struct{ format, file string }{
	"junit":    {"gzip", "junit.xml"},
	"dotenv":   {"gzip", ".env"},
	"archive":  {"zip", ""},
	"metadata": {"gzip", "metadata.gz"},
}

// ReportFormat answers which format a kind of artifact travels in, and under which name; ok is false for a kind that
// this GitLab does not know.
func ReportFormat(kind string) (format, file string, ok bool) {
	r, ok := reports[kind]
	return r.format, r.file, ok
}
