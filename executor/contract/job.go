package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"
)

// MaxResponse bounds the job response, in bytes. Real ones are a few KiB to
// a few MiB (variables of file type).
const MaxResponse = 64 << 20

// Job is what we need of the response to the runner's job request. JobInfo,
// GitInfo, RunnerInfo, ID and Credentials are written by the GitLab server;
// all else repeats what the job's author wrote, $VARIABLES unexpanded (use
// Call.Image and Call.Services). Fields we do not know are ignored.
type Job struct {
	ID          int64             `json:"id"`
	Token       string            `json:"token"` // the job token
	JobInfo     JobInfo           `json:"job_info"`
	GitInfo     GitInfo           `json:"git_info"`
	RunnerInfo  RunnerInfo        `json:"runner_info"`
	Image       Image             `json:"image"`
	Services    []Service         `json:"services"`
	Variables   []Variable        `json:"variables"`
	Credentials []Credentials     `json:"credentials"`
	Steps       []Step            `json:"steps"`
	Artifacts   []Artifact        `json:"artifacts"`
	Cache       []Cache           `json:"cache"`
	Secrets     map[string]Secret `json:"secrets"`
	Features    Features          `json:"features"`
}

// Features are what the server wants of the runner.
type Features struct {
	TokenMaskPrefixes []string `json:"token_mask_prefixes"` // what follows is masked in the log
}

// JobInfo says whose job it is. What a runner does not know it does not hand
// on: 17 gives name, stage, project_id and project_name, 19 gives all.
type JobInfo struct {
	Name            string `json:"name"`
	Stage           string `json:"stage"`
	PipelineID      int64  `json:"pipeline_id"`
	ProjectID       int64  `json:"project_id"`
	ProjectName     string `json:"project_name"`
	ProjectFullPath string `json:"project_full_path"`
	NamespaceID     int64  `json:"namespace_id"`
	RootNamespaceID int64  `json:"root_namespace_id"`
	OrganizationID  int64  `json:"organization_id"`
	InstanceID      string `json:"instance_id"`
	InstanceUUID    string `json:"instance_uuid"`
	UserID          int64  `json:"user_id"`
}

// GitInfo says which commit it is. RepoURL holds the job token.
type GitInfo struct {
	RepoURL   string `json:"repo_url"`
	Ref       string `json:"ref"`
	SHA       string `json:"sha"`
	BeforeSHA string `json:"before_sha"`
	RefType   string `json:"ref_type"`  // branch or tag
	Protected *bool  `json:"protected"` // nil from an older server or runner (before 18.3)
}

// RunnerInfo is what the server says of the job to the runner.
type RunnerInfo struct {
	Timeout int `json:"timeout"` // of the job, seconds
}

// Image is a container's image and how to start it.
type Image struct {
	Name         string       `json:"name"`
	Alias        string       `json:"alias"` // several: by space or comma
	Entrypoint   List         `json:"entrypoint"`
	Command      List         `json:"command"`
	PullPolicy   List         `json:"pull_policy"`
	ExecutorOpts ExecutorOpts `json:"executor_opts"`
}

// ExecutorOpts are the parts of `image:` and `services:` meant for Docker.
type ExecutorOpts struct {
	Docker struct {
		User     Text   `json:"user"`
		Platform string `json:"platform"`
	} `json:"docker"`
}

// Service is one entry of `services:`.
type Service struct {
	Image
	Variables []Variable `json:"variables"`
}

// Variable of a job or a service. Raw ones are not expanded; File ones hold
// the content of a file whose path the job sees.
type Variable struct {
	Key    string `json:"key"`
	Value  string `json:"value"`
	Public bool   `json:"public"`
	File   bool   `json:"file"`
	Masked bool   `json:"masked"`
	Raw    bool   `json:"raw"`
}

// Credentials for a registry (Type "registry"), written by the server.
type Credentials struct {
	Type     string `json:"type"`
	URL      string `json:"url"`
	Username string `json:"username"`
	Password string `json:"password"`
}

// Step is one of the job's scripts; its text is in the stage's script.
type Step struct {
	Name string `json:"name"`
	When string `json:"when"`
}

// Artifact is an upload the job wants.
type Artifact struct {
	Name      string   `json:"name"`
	Untracked bool     `json:"untracked"`
	Paths     []string `json:"paths"`
	Exclude   []string `json:"exclude"`
	When      string   `json:"when"`
	Type      string   `json:"artifact_type"`
	Format    string   `json:"artifact_format"`
}

// Cache is a cache the job wants.
type Cache struct {
	Key          string   `json:"key"`
	FallbackKeys []string `json:"fallback_keys"`
	Untracked    bool     `json:"untracked"`
	Policy       string   `json:"policy"`
	When         string   `json:"when"`
	Paths        []string `json:"paths"`
}

// Secret is a secret that the runner itself resolves, into a file variable
// unless File is false.
type Secret struct {
	File *bool `json:"file"`
}

// List is a list of strings that may be written as one string.
type List []string

// UnmarshalJSON accepts null, a string or a list of strings.
func (l *List) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		var one string
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*l = List{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

// Text is a string that may be written as a whole number.
type Text string

// UnmarshalJSON accepts null, a string or a whole number.
func (t *Text) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, (*string)(t))
	}
	var n int64
	if err := json.Unmarshal(data, &n); err != nil {
		return err
	}
	*t = Text(fmt.Sprint(n))
	return nil
}

// Protected says whether the job's ref is protected. Where git_info does not
// tell, it is the first CI_COMMIT_REF_PROTECTED of the response that counts, as
// in the runner (IsProtected in its common/build.go): the server lists its own
// variables first, so a later one is the author's. Good enough to keep caches
// apart, and no fact to grant a secret by. Unknown is not protected.
func (j *Job) Protected() bool {
	if j.GitInfo.Protected != nil {
		return *j.GitInfo.Protected
	}
	said := false
	for _, v := range j.Variables { // a job's own of that name may stand before GitLab's or after it
		if v.Key == "CI_COMMIT_REF_PROTECTED" {
			if v.Value != "true" {
				return false
			}
			said = true
		}
	}
	return said
}

// Job reads the call's response file, once. Errors wrap ErrResponse.
func (c *Call) Job() (*Job, error) {
	c.once.Do(func() {
		if c.job, c.jobErr = readJob(c.ResponseFile); c.jobErr != nil {
			c.jobErr = fmt.Errorf("%w: %w", ErrResponse, c.jobErr)
		}
	})
	return c.job, c.jobErr
}

// readJob opens with care: the runner makes a plain file of mode 0600, and
// whatever else we find was not made by it.
func readJob(path string) (*Job, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		if errors.Is(err, syscall.ELOOP) {
			return nil, fmt.Errorf("%s is a symbolic link", api.JobResponseFileVariable)
		}
		return nil, fmt.Errorf("%s: %w", api.JobResponseFileVariable, err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no plain file but a %s", api.JobResponseFileVariable, kindOf(info.Mode()))
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s may be written by others (mode %#o)", api.JobResponseFileVariable, info.Mode().Perm())
	case info.Size() > MaxResponse:
		return nil, fmt.Errorf("%s has %d bytes, more than %d", api.JobResponseFileVariable, info.Size(), MaxResponse)
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxResponse+1))
	if err != nil {
		return nil, err
	}
	return parseJob(data)
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "folder"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	default:
		return "device"
	}
}

// ParseJob reads a response. Errors wrap ErrResponse and never quote a value.
func ParseJob(data []byte) (*Job, error) {
	job, err := parseJob(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResponse, err)
	}
	return job, nil
}

func parseJob(data []byte) (*Job, error) {
	if len(data) > MaxResponse {
		return nil, fmt.Errorf("more than %d bytes", MaxResponse)
	}
	var job Job
	if err := json.Unmarshal(data, &job); err != nil {
		return nil, jsonError(err, len(data))
	}
	switch {
	case job.ID <= 0:
		return nil, errors.New("id of the job is missing")
	case job.JobInfo.ProjectID <= 0:
		return nil, errors.New("job_info.project_id is missing")
	case job.RunnerInfo.Timeout < 0:
		return nil, errors.New("runner_info.timeout is negative")
	}
	for _, s := range []string{job.JobInfo.ProjectFullPath, job.JobInfo.Name, job.GitInfo.Ref, job.GitInfo.SHA} {
		if strings.ContainsRune(s, 0) {
			return nil, errors.New("a zero byte in job_info or git_info")
		}
	}
	return &job, nil
}

// jsonError says in one line, without a value, where a text went wrong.
func jsonError(err error, size int) error {
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrong):
		kind, _, _ := strings.Cut(wrong.Value, " ") // "number 1.5" would quote the value
		field := wrong.Field
		if field == "" {
			field = "the top level"
		}
		return fmt.Errorf("%s is of type %s, which does not fit", field, kind)
	case errors.As(err, &syntax):
		if syntax.Error() == "unexpected end of JSON input" {
			return fmt.Errorf("truncated after %d bytes", size)
		}
		return fmt.Errorf("no JSON at byte %d", syntax.Offset)
	default:
		return errors.New("no JSON")
	}
}
