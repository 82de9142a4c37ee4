package contract

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/cache/cachekey"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

// ErrScript is a stage's script that is not as any runner we know writes it.
var ErrScript = errors.New("the runner's script cannot be read")

// CacheFiles are the files in the room, absolute paths, by which a stage's
// script restores and archives caches, unless it fetches or sends them itself
// (the runner's own S3 or GCS cache).
type CacheFiles struct {
	// Restored has a list for each cache: the script takes the first that is
	// there, and works (a key, its fallback keys).
	Restored [][]string
	Archived []string
}

// The runner's commands in its stages' scripts.
const (
	extractor = "cache-extractor"
	archiver  = "cache-archiver"
)

// maxScript bounds a script that is read, in bytes: it repeats all of the
// job's variables.
const maxScript = 64 << 20

// CacheFiles reads the script of restore_cache or archive_cache. It is the
// script that counts, and not the response that it was made of: only by the
// script are files found. Errors wrap ErrScript and quote nothing of it.
func (c *Call) CacheFiles(script []byte) (CacheFiles, error) {
	dir, ok := c.ProjectDir()
	if !ok {
		return CacheFiles{}, fmt.Errorf("%w: the runner does not say where the project's folder is (RUNNER_TEMP_PROJECT_DIR)", ErrScript)
	}
	if len(script) > maxScript {
		return CacheFiles{}, fmt.Errorf("%w: it has %d MiB, at most %d are read", ErrScript, len(script)>>20, maxScript>>20)
	}
	outer, err := parseScript(script)
	if err != nil {
		return CacheFiles{}, err
	}
	r := &cacheReader{dir: dir}
	found := false
	syntax.Walk(outer, func(n syntax.Node) bool {
		call, ok := n.(*syntax.CallExpr)
		if !ok || len(call.Args) != 2 || call.Args[0].Lit() != "eval" {
			return true
		}
		found = true
		inner, ok := literal(call.Args[1])
		if !ok {
			r.fail("what it evaluates is no plain text")
			return false
		}
		file, err := parseScript([]byte(inner))
		if err != nil {
			r.err = errors.Join(r.err, err)
			return false
		}
		r.stmts(file.Stmts)
		return false
	})
	if !found {
		r.fail("it evaluates nothing")
	}
	if r.err != nil {
		return CacheFiles{}, r.err
	}
	return r.files, nil
}

func parseScript(text []byte) (*syntax.File, error) {
	file, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(bytes.NewReader(text), "")
	if err != nil { // its words may quote the script
		return nil, fmt.Errorf("%w: it is no bash", ErrScript)
	}
	return file, nil
}

// cacheReader finds the runner's commands in what a script evaluates.
type cacheReader struct {
	dir   string
	files CacheFiles
	err   error
}

func (r *cacheReader) fail(why string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrScript, why)
	}
}

// stmts goes through statements, and into the branches of each `if`.
func (r *cacheReader) stmts(list []*syntax.Stmt) {
	for _, s := range list {
		switch c := s.Cmd.(type) {
		case *syntax.CallExpr:
			r.call(c)
		case *syntax.IfClause:
			r.branches(c)
		case *syntax.BinaryCmd:
			r.stmts([]*syntax.Stmt{c.X, c.Y})
		case *syntax.Block:
			r.stmts(c.Stmts)
		case *syntax.Subshell:
			r.stmts(c.Stmts)
		}
	}
}

// branches goes into an `if`. What an extractor that fails has instead of it,
// in the other branch, is a fallback of it.
func (r *cacheReader) branches(c *syntax.IfClause) {
	before := len(r.files.Restored)
	r.stmts(c.Cond)
	first := len(r.files.Restored)
	r.stmts(c.Then)
	if c.Else == nil {
		return
	}
	at := len(r.files.Restored)
	if c.Else.ThenPos.IsValid() { // elif
		r.branches(c.Else)
	} else {
		r.stmts(c.Else.Then)
	}
	if first == before+1 {
		for _, fallback := range r.files.Restored[at:] {
			r.files.Restored[before] = append(r.files.Restored[before], fallback...)
		}
		r.files.Restored = r.files.Restored[:at]
	}
}

// call takes what a command of the runner says of its file.
func (r *cacheReader) call(c *syntax.CallExpr) {
	if len(c.Args) < 2 {
		return
	}
	name := c.Args[1].Lit()
	if name != extractor && name != archiver {
		return
	}
	var file string
	for i, arg := range c.Args {
		flag := arg.Lit()
		switch {
		case flag == "--url" || flag == "--gocloud-url":
			return // the runner's own store
		case flag == "--file" && i+1 < len(c.Args):
			var ok bool
			if file, ok = literal(c.Args[i+1]); !ok || file == "" {
				r.fail("the file of " + name + " is no plain text")
				return
			}
		}
	}
	if file == "" {
		r.fail(name + " has no file")
		return
	}
	if !path.IsAbs(file) {
		file = path.Join(r.dir, file)
	}
	file = path.Clean(file)
	if name == extractor {
		r.files.Restored = append(r.files.Restored, []string{file})
	} else {
		r.files.Archived = append(r.files.Archived, file)
	}
}

// literal is a word of which a shell would make one text, whatever its
// variables are.
func literal(w *syntax.Word) (text string, ok bool) {
	for _, part := range w.Parts {
		switch p := part.(type) {
		case *syntax.Lit:
			if strings.ContainsAny(p.Value, "*?[{~") {
				return "", false // the runner quotes these
			}
		case *syntax.SglQuoted:
		case *syntax.DblQuoted:
			for _, in := range p.Parts {
				if _, plain := in.(*syntax.Lit); !plain {
					return "", false
				}
			}
		default:
			return "", false
		}
	}
	text, err := expand.Literal(nil, w)
	return text, err == nil
}

// CacheKey is the key of a cache's file, given by its path relative to the
// room's folder of caches, as newCacheConfig in the runner's shells/abstract.go
// makes it: PROJECT/KEY/cache.zip, where the project is as the server names it
// and KEY may be the key's hash.
func (c *Call) CacheKey(file string) string {
	key := c.cacheFolder(file)
	for _, known := range c.cacheKeys() {
		if hashed(known) == key {
			return known
		}
	}
	return key
}

// cacheFolder is what stands for the key in a path.
func (c *Call) cacheFolder(file string) string {
	file = strings.TrimSuffix(file, "/cache.zip")
	job, err := c.Job()
	if err != nil {
		return file
	}
	project := fmt.Sprintf("project-%d", job.JobInfo.ProjectID)
	if u, err := url.Parse(job.GitInfo.RepoURL); err == nil {
		if slug := strings.TrimSuffix(strings.Trim(u.Path, "/"), ".git"); slug != "" {
			project = slug
		}
	}
	for _, project := range []string{project, project + "-empty"} { // GIT_STRATEGY: empty
		if key, ok := strings.CutPrefix(file, project+"/"); ok {
			return key
		}
	}
	return file
}

// Endings that a GitLab gives to keys, unless a project turns that off
// (Project#ci_separated_caches): so jobs of protected and of other refs name
// the same cache differently.
const (
	endProtected   = "-protected"
	endUnprotected = "-non_protected"
)

// ProtectedFile is where jobs of protected refs have the cache that this one's
// GitLab had it name otherwise; false if it did not.
func (c *Call) ProtectedFile(file string) (other string, ok bool) {
	folder := c.cacheFolder(file)
	head, ok := strings.CutSuffix(file, folder+"/cache.zip")
	if !ok {
		return "", false
	}
	if name, ok := strings.CutSuffix(folder, endUnprotected); ok {
		return head + name + endProtected + "/cache.zip", true
	}
	for _, key := range c.cacheKeys() {
		if name, ok := strings.CutSuffix(key, endUnprotected); ok && hashed(key) == folder {
			return head + hashed(name+endProtected) + "/cache.zip", true
		}
	}
	return "", false
}

func hashed(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }

// cacheKeys are all that may stand for a key of the job, sorted, each once: as
// it is, and as the runner cleans it for a path.
func (c *Call) cacheKeys() []string {
	job, err := c.Job()
	if err != nil {
		return nil
	}
	get := c.expander(job.fileNames(), nil)
	var keys []string
	for _, cache := range job.Cache {
		if cache.Key == "" {
			keys = append(keys, strings.TrimPrefix(path.Join("/", job.JobInfo.Name, job.GitInfo.Ref), "/"))
		}
		for _, key := range append([]string{cache.Key}, cache.FallbackKeys...) {
			keys = append(keys, os.Expand(key, get))
		}
	}
	if len(job.Cache) > 0 {
		keys = append(keys, get("CACHE_FALLBACK_KEY"))
	}
	for _, key := range keys {
		if clean, err := cachekey.Sanitize(key); err == nil {
			keys = append(keys, clean)
		}
	}
	slices.Sort(keys)
	return slices.DeleteFunc(slices.Compact(keys), func(key string) bool { return key == "" })
}
