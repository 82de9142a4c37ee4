package gitlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"

	"cleanroom/integration/gitlab/answer"
	"cleanroom/integration/gitlab/ciyaml"
	"cleanroom/integration/gitlab/job"
)

type project struct {
	answer.Project
	id        int64
	protected []string
}

func (p *project) protects(ref string) bool {
	return slices.ContainsFunc(p.protected, func(pattern string) bool {
		ok, err := path.Match(pattern, ref)
		return ok && err == nil
	})
}

// AddProject implements Instance.
func (s *Server) AddProject(ctx context.Context, p Project) (string, error) {
	if p.Branch == "" {
		p.Branch = "main"
	}
	if p.Message == "" {
		p.Message = "work on " + p.Branch + "\n\nwith \"quotes\", a $DOLLAR and a second line"
	}
	s.mu.Lock()
	var base string
	if known := s.projects[p.Path]; known != nil {
		base = known.DefaultBranch
	}
	s.mu.Unlock()
	sha, err := s.repos.Commit(ctx, p.Path, p.Dir, p.Branch, base, p.Message)
	if err != nil {
		return "", err
	}
	if p.Tag != "" {
		if err := s.repos.Tag(ctx, p.Path, p.Tag, sha); err != nil {
			return "", err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.projects[p.Path]
	if known == nil {
		known = &project{Project: answer.Project{Path: p.Path, DefaultBranch: p.Branch}, id: s.book.NewID(), protected: []string{p.Branch}}
		s.projects[p.Path] = known
	}
	if p.Protected != nil {
		known.protected = p.Protected
	}
	if p.Variables != nil {
		known.Variables = p.Variables
	}
	return sha, nil
}

// project returns a copy: settings may change while a job is being made.
func (s *Server) project(name string) (project, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.projects[name]
	if p == nil {
		return project{Project: answer.Project{Path: name}}, false
	}
	return *p, true
}

// source resolves a ref and pins it, so that a later commit does not change a pipeline that exists.
func (s *Server) source(ctx context.Context, name, ref string) (job.Source, error) {
	s.mu.Lock()
	s.iid++
	src := job.Source{PipelineID: s.book.NewID(), PipelineIID: s.iid}
	s.mu.Unlock()
	if name == "" {
		src.ProjectID, src.Ref, src.RefType = 1, "main", "branch"
		src.SHA, src.BeforeSHA = noCommit, noCommit
		return src, nil
	}
	p, ok := s.project(name)
	if !ok {
		return src, fmt.Errorf("project %q: add it first: %w", name, job.ErrNotFound)
	}
	if ref == "" {
		ref = p.DefaultBranch
	}
	c, err := s.repos.Resolve(ctx, name, ref)
	if err != nil {
		return src, err
	}
	src.ProjectID, src.Ref, src.RefType, src.SHA = p.id, ref, c.Type, c.SHA
	src.BeforeSHA, src.Message, src.CommittedAt = c.Parent, c.Message, c.Date
	src.Protected = p.protects(ref)
	if src.BeforeSHA == "" {
		src.BeforeSHA = noCommit
	}
	return src, s.repos.Keep(ctx, name, src.PipelineRef(), c.SHA)
}

const noCommit = "0000000000000000000000000000000000000000"

func jobToken() string { return "glcbt-64_" + random(10) }

// Submit implements Instance.
func (s *Server) Submit(ctx context.Context, spec JobSpec) (int64, error) {
	if spec.Name == "" || len(spec.Script) == 0 {
		return 0, fmt.Errorf("job %q: a name and a script are needed", spec.Name)
	}
	src, err := s.source(ctx, spec.Project, spec.Ref)
	if err != nil {
		return 0, err
	}
	return s.book.Submit(spec, src, jobToken())
}

// Pipeline implements Instance.
func (s *Server) Pipeline(ctx context.Context, name, ref string) (int64, error) {
	if name == "" {
		return 0, fmt.Errorf("a pipeline needs a project")
	}
	src, err := s.source(ctx, name, ref)
	if err != nil {
		return 0, err
	}
	file, err := s.repos.File(ctx, name, src.SHA, ".gitlab-ci.yml")
	if err != nil {
		return 0, err
	}
	p, _ := s.project(name)
	known := map[string]string{}
	for _, v := range slices.Concat(s.answers.PipelineVariables(p.Project, src), answer.Settings(p.Project, src)) {
		known[v.Key] = v.Value
	}
	planned, err := ciyaml.Parse(file, ciyaml.Context{Variables: known, Protected: src.Protected,
		Blob: func(file string) (string, bool) { return s.repos.Blob(ctx, name, src.SHA, file) }})
	if err != nil {
		return 0, fmt.Errorf(".gitlab-ci.yml of %s at %s: %w", name, src.Ref, err)
	}
	for i := range planned {
		planned[i].Token = jobToken()
		planned[i].Spec.Project = name
	}
	return src.PipelineID, s.book.AddPipeline(src, name, planned)
}

// Artifact implements Instance.
func (s *Server) Artifact(_ context.Context, id int64, kind string) ([]byte, error) {
	st, err := s.book.Status(id)
	if err != nil {
		return nil, err
	}
	for _, up := range st.Artifacts {
		if up.Type != kind {
			continue
		}
		body, err := os.ReadFile(up.File)
		if sum := sha256.Sum256(body); err == nil && hex.EncodeToString(sum[:]) != up.SHA256 {
			err = fmt.Errorf("artifact %s of job %d changed on disk", kind, id)
		}
		return body, err
	}
	return nil, fmt.Errorf("artifact %s of job %d: %w", kind, id, job.ErrNotFound)
}

var gitPath = regexp.MustCompile(`^/(?:git/)?([^.][^:]*?/[^:]+?)\.git/(info/refs|git-upload-pack)$`)

// serveGit lets a job that runs fetch its own project, under the address GitLab uses and under /git/ as well.
func (s *Server) serveGit(w http.ResponseWriter, r *http.Request) {
	m := gitPath.FindStringSubmatch(r.URL.Path)
	if m == nil {
		s.message(w, http.StatusNotFound, "404 Not Found")
		return
	}
	user, password, _ := r.BasicAuth()
	st, _, ok := s.book.ByToken(password)
	if !ok || user != "gitlab-ci-token" || st.State != job.Running && st.State != job.Canceling {
		w.Header().Set("WWW-Authenticate", `Basic realm="GitLab"`)
		http.Error(w, "HTTP Basic: Access denied", http.StatusUnauthorized)
		return
	}
	if st.Project != m[1] || !s.repos.Exists(m[1]) || r.URL.Query().Get("service") == "git-receive-pack" {
		http.Error(w, "The project you were looking for could not be found", http.StatusNotFound)
		return
	}
	s.repos.ServeGit(w, r, m[1], m[2])
}
