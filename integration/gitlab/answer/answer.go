// Package answer writes the job that a runner is given: what the server knows of it, what its author wants, and the
// predefined variables and ID tokens that only the server can make. It promises every field and variable that a runner or a
// script of GitLab 17 to 19 may count on.
package answer

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"cleanroom/integration/gitlab/artifact"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

// Server is the GitLab that answers.
type Server struct {
	URL    *url.URL
	Signer *Signer
}

// Project is the job's project: its settings, and where it is.
type Project struct {
	Path          string
	DefaultBranch string
	Variables     []Variable
}

// Variable is a variable of a project's settings.
type Variable struct {
	wire.Variable
	// Protected keeps the variable to jobs on protected refs.
	Protected bool `json:"protected,omitempty"`
}

// Runner is who asked.
type Runner struct {
	ID          int64
	UUID        string
	Description string
}

const (
	defaultTimeout = time.Hour
	cloneDepth     = 20
	// scratch is the project of jobs that have none.
	scratch = "root/scratch"
)

// Job is the job as a runner gets it. A project without a path is none.
func (s Server) Job(h job.Handed, p Project, by Runner) (wire.Job, error) {
	spec, src := h.Spec, h.Source
	if p.Path == "" {
		p.Path = scratch
		spec.Variables = append([]wire.Variable{{Key: "GIT_STRATEGY", Value: "none", Public: true}}, spec.Variables...)
	}
	if spec.Timeout == 0 {
		spec.Timeout = defaultTimeout
	}
	if spec.User.ID == 0 {
		spec.User = job.User{ID: 42, Login: "dev"}
	}
	seconds := int(spec.Timeout.Seconds())
	clone := *s.URL
	clone.User = url.UserPassword("gitlab-ci-token", h.Token)
	clone.Path = path.Join("/", clone.Path, p.Path+".git")

	j := wire.Job{
		ID: h.ID, Token: h.Token, AllowGitFetch: true,
		JobInfo: wire.JobInfo{
			Name: spec.Name, Stage: spec.Stage, PipelineID: src.PipelineID,
			ProjectID: src.ProjectID, ProjectName: path.Base(p.Path), ProjectFullPath: p.Path,
			NamespaceID: src.ProjectID + 3, RootNamespaceID: src.ProjectID + 3, OrganizationID: 1,
			InstanceID: "stand-in", InstanceUUID: "00000000-0000-4000-8000-000000000000",
			UserID: spec.User.ID, TimeInQueueSeconds: h.Queued.Seconds(), RunningOnInstance: "+Inf",
			QueueSize: int64(h.Waiting), QueueDepth: 1,
		},
		GitInfo: wire.GitInfo{
			RepoURL: clone.String(), RepoObjectFormat: "sha1", Ref: src.Ref, SHA: src.SHA, BeforeSHA: src.BeforeSHA,
			RefType: src.RefType, Refspecs: refspecs(src), Depth: cloneDepth, Protected: src.Protected,
		},
		RunnerInfo: wire.RunnerLimits{UUID: by.UUID, Timeout: seconds},
		Inputs:     []struct{}{},
		Image:      spec.Image,
		Services:   spec.Services,
		Hooks:      slices.Concat([]wire.Hook{}, spec.Hooks),
		Artifacts:  spec.Artifacts,
		Cache:      slices.Clone(spec.Cache),
		Credentials: append([]wire.Credential{{Type: "registry", URL: s.registry(),
			Username: "gitlab-ci-token", Password: h.Token}}, spec.Credentials...),
		Features: wire.Features{TraceSections: true, TokenMaskPrefixes: wire.TokenMaskPrefixes,
			FailureReasons: wire.FailureReasons},
	}
	j.Steps = steps(spec, seconds)
	if j.Services == nil {
		j.Services = []wire.Image{}
	}
	vars := slices.Concat(s.PipelineVariables(p, src), s.jobVariables(h, p, spec, by, clone.String()), spec.Variables)
	for _, st := range h.Upstream {
		reported, err := artifact.Dotenv(st)
		if err != nil {
			return j, err
		}
		vars = append(vars, reported...)
		if up, ok := artifact.Archive(st); ok {
			j.Dependencies = append(j.Dependencies, wire.Dependency{ID: st.ID, Name: st.Name, Token: h.Token,
				ArtifactsFile: wire.DependencyFile{Filename: up.Name, Size: up.Size}})
		}
	}
	if j.Dependencies == nil {
		j.Dependencies = []wire.Dependency{}
	}
	vars = append(vars, Settings(p, src)...)
	for name, audiences := range spec.IDTokens {
		token, err := s.idToken(h, p, spec, by, audiences)
		if err != nil {
			return j, err
		}
		vars = append(vars, wire.Variable{Key: name, Value: token, Masked: true})
	}
	j.Variables = vars
	return j, nil
}

// refspecs are what GitLab asks for: the ref that keeps the pipeline's commit, and the branch or tag itself.
func refspecs(src job.Source) []string {
	own := fmt.Sprintf("+refs/heads/%[1]s:refs/remotes/origin/%[1]s", src.Ref)
	if src.RefType == "tag" {
		own = fmt.Sprintf("+refs/tags/%[1]s:refs/tags/%[1]s", src.Ref)
	}
	return []string{"+" + src.PipelineRef() + ":" + src.PipelineRef(), own}
}

func steps(spec job.Spec, timeout int) []wire.Step {
	list := []wire.Step{{Name: "script", Script: slices.Concat(spec.BeforeScript, spec.Script),
		Timeout: timeout, When: "on_success"}}
	list = append(list, spec.Steps...)
	if len(spec.AfterScript) > 0 {
		list = append(list, wire.Step{Name: "after_script", Script: spec.AfterScript, Timeout: timeout,
			When: "always", AllowFailure: true})
	}
	return list
}

func (s Server) registry() string { return s.URL.Hostname() + ":5050" }

// Settings are the variables of the project's CI/CD settings that a job on this ref may see.
func Settings(p Project, src job.Source) (vars []wire.Variable) {
	for _, v := range p.Variables {
		if !v.Protected || src.Protected {
			vars = append(vars, v.Variable)
		}
	}
	return vars
}

func public(vars []wire.Variable, pairs ...string) []wire.Variable {
	for i := 0; i < len(pairs); i += 2 {
		vars = append(vars, wire.Variable{Key: pairs[i], Value: pairs[i+1], Public: true})
	}
	return vars
}

// PipelineVariables are the predefined variables that are known before a job runs; rules may ask for them.
func (s Server) PipelineVariables(p Project, src job.Source) []wire.Variable {
	name := p.Path
	namespace := path.Dir(name)
	title, _, _ := strings.Cut(src.Message, "\n")
	root, _, _ := strings.Cut(name, "/")
	port := s.URL.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[s.URL.Scheme]
	}
	base := s.URL.String()
	id := func(n int64) string { return strconv.FormatInt(n, 10) }
	vars := public(nil,
		"CI", "true", "GITLAB_CI", "true", "GITLAB_FEATURES", "", "CI_CONFIG_PATH", ".gitlab-ci.yml",
		"CI_PIPELINE_ID", id(src.PipelineID), "CI_PIPELINE_IID", id(src.PipelineIID), "CI_PIPELINE_SOURCE", "push",
		"CI_PIPELINE_URL", fmt.Sprintf("%s/%s/-/pipelines/%d", base, name, src.PipelineID),
		"CI_PIPELINE_CREATED_AT", time.Now().UTC().Format(time.RFC3339), "CI_PIPELINE_NAME", "",
		"CI_PROJECT_ID", id(src.ProjectID), "CI_PROJECT_NAME", path.Base(name), "CI_PROJECT_TITLE", path.Base(name),
		"CI_PROJECT_DESCRIPTION", "", "CI_PROJECT_PATH", name, "CI_PROJECT_PATH_SLUG", slug(name),
		"CI_PROJECT_NAMESPACE", namespace, "CI_PROJECT_NAMESPACE_ID", id(src.ProjectID+3),
		"CI_PROJECT_ROOT_NAMESPACE", root, "CI_PROJECT_URL", base+"/"+name, "CI_PROJECT_VISIBILITY", "private",
		"CI_PROJECT_REPOSITORY_LANGUAGES", "", "CI_PROJECT_CLASSIFICATION_LABEL", "", "CI_DEFAULT_BRANCH", p.DefaultBranch,
		"CI_SERVER", "yes", "CI_SERVER_URL", base, "CI_SERVER_HOST", s.URL.Hostname(), "CI_SERVER_FQDN", s.URL.Host,
		"CI_SERVER_PORT", port, "CI_SERVER_PROTOCOL", s.URL.Scheme, "CI_SERVER_NAME", "GitLab",
		"CI_SERVER_VERSION", "19.3.0-ee", "CI_SERVER_VERSION_MAJOR", "19", "CI_SERVER_VERSION_MINOR", "3",
		"CI_SERVER_VERSION_PATCH", "0", "CI_SERVER_REVISION", "0123456789a", "CI_SERVER_SHELL_SSH_HOST", s.URL.Hostname(),
		"CI_SERVER_SHELL_SSH_PORT", "22", "CI_API_V4_URL", base+"/api/v4", "CI_API_GRAPHQL_URL", base+"/api/graphql",
		"CI_TEMPLATE_REGISTRY_HOST", "registry.gitlab.com", "CI_PAGES_DOMAIN", "pages.invalid",
		"CI_REGISTRY", s.registry(), "CI_REGISTRY_IMAGE", s.registry()+"/"+name,
		"CI_DEPENDENCY_PROXY_SERVER", s.URL.Hostname()+":"+port,
		"CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX", s.URL.Hostname()+":"+port+"/"+root+"/dependency_proxy/containers",
		"CI_COMMIT_SHA", src.SHA, "CI_COMMIT_SHORT_SHA", src.SHA[:8], "CI_COMMIT_BEFORE_SHA", src.BeforeSHA,
		"CI_COMMIT_REF_NAME", src.Ref, "CI_COMMIT_REF_SLUG", slug(src.Ref),
		"CI_COMMIT_REF_PROTECTED", strconv.FormatBool(src.Protected), "CI_COMMIT_MESSAGE", src.Message,
		"CI_COMMIT_TITLE", title, "CI_COMMIT_DESCRIPTION", strings.TrimPrefix(strings.TrimPrefix(src.Message, title), "\n\n"),
		"CI_COMMIT_TIMESTAMP", src.CommittedAt, "CI_COMMIT_AUTHOR", "Dev Eloper <dev@example.com>",
		"CI_OPEN_MERGE_REQUESTS", "", "CI_NODE_TOTAL", "1",
	)
	if src.RefType == "tag" {
		return public(vars, "CI_COMMIT_TAG", src.Ref, "CI_COMMIT_TAG_MESSAGE", "")
	}
	return public(vars, "CI_COMMIT_BRANCH", src.Ref)
}

// jobVariables are the predefined variables of one job in the hands of one runner.
func (s Server) jobVariables(h job.Handed, p Project, spec job.Spec, by Runner, clone string) []wire.Variable {
	id := strconv.FormatInt(h.ID, 10)
	image := ""
	if spec.Image != nil {
		image = spec.Image.Name
	}
	vars := public(nil,
		"CI_JOB_ID", id, "CI_JOB_URL", s.URL.String()+"/"+p.Path+"/-/jobs/"+id,
		"CI_JOB_NAME", spec.Name, "CI_JOB_NAME_SLUG", slug(spec.Name), "CI_JOB_STAGE", spec.Stage, "CI_JOB_IMAGE", image,
		"CI_JOB_STARTED_AT", h.At.UTC().Format(time.RFC3339), "CI_JOB_TIMEOUT", strconv.Itoa(int(spec.Timeout.Seconds())),
		"CI_RUNNER_ID", strconv.FormatInt(by.ID, 10), "CI_RUNNER_DESCRIPTION", by.Description, "CI_RUNNER_TAGS", "[]",
		"CI_REGISTRY_USER", "gitlab-ci-token", "CI_DEPENDENCY_PROXY_USER", "gitlab-ci-token",
		"GITLAB_USER_ID", strconv.FormatInt(spec.User.ID, 10), "GITLAB_USER_LOGIN", spec.User.Login,
		"GITLAB_USER_EMAIL", spec.User.Login+"@example.com", "GITLAB_USER_NAME", spec.User.Login,
	)
	for _, kv := range [][2]string{{"CI_JOB_TOKEN", h.Token}, {"CI_REGISTRY_PASSWORD", h.Token},
		{"CI_DEPENDENCY_PROXY_PASSWORD", h.Token}, {"CI_REPOSITORY_URL", clone}} {
		vars = append(vars, wire.Variable{Key: kv[0], Value: kv[1], Masked: kv[0] != "CI_REPOSITORY_URL"})
	}
	return vars
}

// slug is GitLab's: lower case, runs of anything else a dash, 63 bytes, no dash at an end.
func slug(s string) string {
	b := []byte(strings.ToLower(s))
	for i, c := range b {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			b[i] = '-'
		}
	}
	return strings.Trim(string(b[:min(len(b), 63)]), "-")
}
