package contract

import (
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"mvdan.cc/sh/v3/shell"
)

// Stored is one thing that a stage stores, as the runner's uploader is told
// of it.
type Stored struct {
	What      string // artifact, cache, or the kind of a report (junit, dotenv, ...)
	Paths     []string
	Exclude   []string
	Untracked bool
	// Name of the artifact, which is its file's, or key of the cache.
	Name string
	// Raw is a file that is stored as it is: the uploader reads through a link.
	Raw bool
	// Statement is a file in the project's folder that the uploader itself may
	// write while it stores (RUNNER_GENERATE_ARTIFACTS_METADATA).
	Statement string
}

// EnvFile is the file, in the room, whose KEY=VALUE lines the runner's stages
// add to their environment (GITLAB_ENV); the job writes it while it runs.
func (c *Call) EnvFile() string { return path.Join(c.Variables[tempProjectDir], "gitlab_runner_env") }

// How the stages begin that store something. A runner that adds an ending of
// its own is taken for one that stores everything.
const (
	archivePrefix = "archive_cache"
	uploadPrefix  = "upload_artifacts"
)

// CachesIn says whether a stage restores or archives caches.
func CachesIn(stage string) bool {
	return stage == StageRestoreCache || strings.HasPrefix(stage, archivePrefix)
}

// Uploads says whether a stage stores artifacts.
func Uploads(stage string) bool { return strings.HasPrefix(stage, uploadPrefix) }

// Stored lists what a stage stores of the project's folder; nothing for most
// stages. What counts is the response, as for the runner: its scripts are made
// of it.
func (c *Call) Stored(stage string) ([]Stored, error) {
	job, err := c.Job()
	if err != nil {
		return nil, err
	}
	var all []Stored
	switch {
	case strings.HasPrefix(stage, archivePrefix):
		for _, cache := range job.Cache {
			get := c.expander(job.fileNames(), nil)
			if os.Expand(cache.Policy, get) != "pull" && due(stage, cache.When) {
				all = append(all, Stored{What: "cache", Name: os.Expand(cache.Key, get), Paths: cache.Paths, Untracked: cache.Untracked})
			}
		}
	case Uploads(stage):
		for _, a := range job.Artifacts {
			what := a.Type
			if what == "" || what == "archive" {
				what = "artifact"
			}
			if due(stage, a.When) {
				all = append(all, Stored{What: what, Paths: a.Paths, Exclude: a.Exclude, Untracked: a.Untracked,
					Name: a.Name, Raw: a.Format == "raw", Statement: statement(a.Name)})
			}
		}
	}
	return slices.DeleteFunc(all, func(s Stored) bool { return len(s.Paths) == 0 && !s.Untracked }), nil
}

// statement is how the uploader names what it writes (normalizeArgs and
// generateStatementToFile in the runner's commands/helpers).
func statement(artifact string) string {
	if artifact == "" {
		artifact = "default"
	}
	return artifact + statementEnd
}

// due says whether something with this `when:` is stored by a stage
// (ShouldCache, OnSuccess and OnFailure in the runner's common/spec).
func due(stage, when string) bool {
	switch {
	case strings.HasSuffix(stage, "_on_failure"):
		return when == "on_failure" || when == "always"
	case strings.HasSuffix(stage, "_on_success"), stage == StageArchiveCache:
		return when == "" || when == "on_success" || when == "always"
	}
	return true
}

// ProjectDir is the folder, in the room, that the runner's stages work in. It
// is taken from a variable that the runner sets after the job's own
// (getBaseVariablesAfterJob in its common/build.go), so that no job can move
// it; CI_PROJECT_DIR could be anybody's.
func (c *Call) ProjectDir() (dir string, ok bool) {
	dir, ok = strings.CutSuffix(c.Variables[tempProjectDir], ".tmp")
	return dir, ok && path.IsAbs(dir)
}

// Expand gives Stored as the uploader takes it, which expands variables itself
// (normalizeArgs in the runner's commands/helpers), from an environment to
// which env, the content of EnvFile, was added. Where a path names a variable
// that we do not know, of the helper's image for instance, it may mean anything:
// then all of the project's files are meant.
func (c *Call) Expand(stored []Stored, env []byte) []Stored {
	job, err := c.Job()
	if err != nil {
		return stored
	}
	get, added := c.expander(job.fileNames(), nil), exported(env)
	known := func(name string) (string, bool) {
		if value, ok := added[name]; ok {
			return value, true
		}
		_, ok := c.Variables[name]
		return get(name), ok
	}
	all := slices.Clone(stored)
	odd := slices.ContainsFunc(gitVariables, func(name string) bool { _, ok := known(name); return ok })
	for i, s := range stored {
		if s.Untracked && odd {
			all = append(all, Stored{What: s.What, Paths: []string{"."}})
		}
		all[i].Paths = nil
		for _, p := range s.Paths {
			all[i].Paths = append(all[i].Paths, p) // older cache archivers expand nothing
			if expanded, sure := expandWord(p, known); !sure {
				all[i].Paths = append(all[i].Paths, ".")
			} else if expanded != p {
				all[i].Paths = append(all[i].Paths, expanded)
			}
		}
		all[i].Exclude = nil
		for _, p := range s.Exclude { // what we are not sure of excludes nothing
			if expanded, sure := expandWord(p, known); sure {
				all[i].Exclude = append(all[i].Exclude, expanded)
			}
		}
		if name, sure := expandWord(s.Statement, known); sure && s.Statement != "" {
			all[i].Statement, all[i].Name = name, strings.TrimSuffix(name, statementEnd)
		}
	}
	return all
}

const statementEnd = "-metadata.json"

// gitVariables are those by which a job can have the uploader's git, or what
// it calls git, name other files untracked than another does: then any may be.
var gitVariables = []string{"PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "HOME", "XDG_CONFIG_HOME", "GIT_DIR", "GIT_COMMON_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY",
	"GIT_CONFIG", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM"}

// Bounds of expanding a word, which is arithmetic too: a longer one means
// anything, and so does one that is not done in time.
const (
	maxWord  = 4096 // bytes
	wordTime = 2 * time.Second
)

// expandWord expands with the uploader's own library; a word that it cannot
// expand stays as it is. It is not sure of a variable that is not known.
func expandWord(word string, known func(string) (string, bool)) (expanded string, sure bool) {
	if !strings.ContainsAny(word, "$`\\\"'~") {
		return word, true
	}
	if len(word) > maxWord {
		return word, false
	}
	type answer struct {
		word string
		sure bool
	}
	done := make(chan answer, 1)
	go func() {
		sure := true
		expanded, err := shell.Expand(word, func(name string) string {
			value, ok := known(name)
			sure = sure && (ok || !strings.Contains(word, name)) // it asks for IFS and the like by itself
			return value
		})
		if err != nil {
			expanded, sure = word, true
		}
		done <- answer{expanded, sure}
	}()
	select {
	case a := <-done:
		return a.word, a.sure
	case <-time.After(wordTime): // what goes on ends with our process, that of one stage
		return word, false
	}
}

// exported are the variables that a stage's script makes of EnvFile, line by
// line, as `while read -r line; do export "$line"; done` does.
func exported(env []byte) map[string]string {
	added := map[string]string{}
	for line := range strings.Lines(string(env)) {
		if name, value, ok := strings.Cut(strings.Trim(line, " \t\n"), "="); ok {
			added[name] = value
		}
	}
	return added
}
