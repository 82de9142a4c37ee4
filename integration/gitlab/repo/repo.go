// Package repo keeps bare git repositories and serves them with the real git. It promises that what a runner clones is
// what git itself would give it, and that nothing of this machine's own git configuration plays a part.
package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
)

// ErrNotFound is returned for a project, ref or file that does not exist.
var ErrNotFound = errors.New("not found")

// Store is a folder of repositories, NAMESPACE/PROJECT.git each.
type Store struct {
	dir     string
	git     string
	backend string
	mu      sync.Mutex // one commit at a time
}

// Commit is what a ref stands for.
type Commit struct {
	SHA     string
	Parent  string
	Message string
	Date    string
	Type    string // branch or tag
}

var validPath = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$`)

// New returns the store in dir. It needs git on PATH, with its http-backend.
func New(dir string) (*Store, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return nil, fmt.Errorf("the stand-in serves repositories with the real git, install it: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &Store{dir: dir, git: git}
	path, err := s.run(context.Background(), "", nil, "--exec-path")
	if err != nil {
		return nil, err
	}
	s.backend = filepath.Join(path, "git-http-backend")
	if _, err := os.Stat(s.backend); err != nil {
		return nil, fmt.Errorf("git is here but git-http-backend is not (alpine has it in git-daemon): %w", err)
	}
	return s, nil
}

// environ keeps the host's configuration out; safe.directory because a data folder may come from another user.
func environ(extra ...string) []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=/nonexistent", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null",
		"GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_CONFIG_KEY_1=uploadpack.allowAnySHA1InWant", "GIT_CONFIG_VALUE_1=true",
		"GIT_AUTHOR_NAME=Dev Eloper", "GIT_AUTHOR_EMAIL=dev@example.com",
		"GIT_COMMITTER_NAME=Dev Eloper", "GIT_COMMITTER_EMAIL=dev@example.com",
	}, extra...)
}

func (s *Store) run(ctx context.Context, stdin string, env []string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, s.git, args...)
	cmd.Env = environ(env...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

func (s *Store) path(project string) string { return filepath.Join(s.dir, project+".git") }

// Exists tells whether there is such a project.
func (s *Store) Exists(project string) bool {
	if !validPath.MatchString(project) {
		return false
	}
	_, err := os.Stat(s.path(project))
	return err == nil
}

// Commit makes the files of dir the next commit of a branch of a project; project and branch are made where missing. A
// new branch starts at base, if that exists.
func (s *Store) Commit(ctx context.Context, project, dir, branch, base, message string) (string, error) {
	if !validPath.MatchString(project) {
		return "", fmt.Errorf("project %q: give it as namespace/name", project)
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return "", fmt.Errorf("project %s: %s is not a folder", project, dir)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	bare := s.path(project)
	if !s.Exists(project) {
		if _, err := s.run(ctx, "", nil, "init", "-q", "--bare", "--initial-branch", branch, bare); err != nil {
			return "", err
		}
	}
	if _, err := s.run(ctx, "", nil, "check-ref-format", "refs/heads/"+branch); err != nil {
		return "", fmt.Errorf("branch %q: not a name git takes", branch)
	}
	index, err := os.MkdirTemp("", "standin-index-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(index)
	env := []string{"GIT_DIR=" + bare, "GIT_WORK_TREE=" + dir, "GIT_INDEX_FILE=" + filepath.Join(index, "index")}
	if _, err := s.run(ctx, "", env, "-C", dir, "add", "--all", "--force", "."); err != nil {
		return "", err
	}
	tree, err := s.run(ctx, "", env, "write-tree")
	if err != nil {
		return "", err
	}
	args := []string{"commit-tree", tree}
	for _, from := range []string{branch, base} {
		if c, err := s.Resolve(ctx, project, from); err == nil && c.Type == "branch" {
			args = append(args, "-p", c.SHA)
			break
		}
	}
	sha, err := s.run(ctx, message, env, args...)
	if err != nil {
		return "", err
	}
	_, err = s.run(ctx, "", env, "update-ref", "refs/heads/"+branch, sha)
	return sha, err
}

// Tag gives a commit a name.
func (s *Store) Tag(ctx context.Context, project, tag, sha string) error {
	if _, err := s.run(ctx, "", nil, "check-ref-format", "refs/tags/"+tag); err != nil {
		return fmt.Errorf("tag %q: not a name git takes", tag)
	}
	return s.Keep(ctx, project, "refs/tags/"+tag, sha)
}

// Keep points a full ref at a commit, as GitLab does for every pipeline.
func (s *Store) Keep(ctx context.Context, project, ref, sha string) error {
	_, err := s.run(ctx, "", []string{"GIT_DIR=" + s.path(project)}, "update-ref", ref, sha)
	return err
}

// Resolve finds a branch or, failing that, a tag.
func (s *Store) Resolve(ctx context.Context, project, ref string) (Commit, error) {
	if !s.Exists(project) {
		return Commit{}, fmt.Errorf("project %q: %w", project, ErrNotFound)
	}
	env := []string{"GIT_DIR=" + s.path(project)}
	for _, kind := range [][2]string{{"branch", "refs/heads/"}, {"tag", "refs/tags/"}} {
		out, err := s.run(ctx, "", env, "log", "-1", "--format=%H%n%P%n%cI%n%B", kind[1]+ref, "--")
		if err != nil {
			continue
		}
		f := strings.SplitN(out, "\n", 4)
		c := Commit{SHA: f[0], Date: f[2], Message: f[3], Type: kind[0]}
		c.Parent, _, _ = strings.Cut(f[1], " ")
		return c, nil
	}
	return Commit{}, fmt.Errorf("ref %q of %s: %w", ref, project, ErrNotFound)
}

// File returns a file of a commit, Blob its id.
func (s *Store) File(ctx context.Context, project, sha, path string) ([]byte, error) {
	out, err := s.run(ctx, "", []string{"GIT_DIR=" + s.path(project)}, "show", sha+":"+path)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", path, project, ErrNotFound)
	}
	return []byte(out + "\n"), nil
}

// Blob returns the object id of a file of a commit.
func (s *Store) Blob(ctx context.Context, project, sha, path string) (string, bool) {
	out, err := s.run(ctx, "", []string{"GIT_DIR=" + s.path(project)}, "rev-parse", "--verify", "-q", sha+":"+path)
	return out, err == nil
}

// maxNegotiation bounds what a client may send while it says which commits it has.
const maxNegotiation = 32 << 20

// ServeGit answers one request of git's smart HTTP protocol for PROJECT.git/SERVICE; who may ask is the caller's business.
func (s *Store) ServeGit(w http.ResponseWriter, r *http.Request, project, service string) {
	if r.ContentLength < 0 {
		// git sends long negotiations in chunks, which CGI has no way to pass on.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxNegotiation))
		if err != nil {
			http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	}
	r.URL.Path = "/" + project + ".git/" + service
	(&cgi.Handler{
		Path: s.backend,
		Root: "/",
		Dir:  s.dir,
		Env:  environ("GIT_PROJECT_ROOT="+s.dir, "GIT_HTTP_EXPORT_ALL=1"),
	}).ServeHTTP(w, r)
}
