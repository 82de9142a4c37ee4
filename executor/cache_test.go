package executor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/sandbox"
)

// cupboard is the folder of caches in a room.
type cupboard struct {
	heap
	refuse error // to be brought something
	clock  int64
	copied int
}

func (c *cupboard) entry(path string) sandbox.Entry {
	return sandbox.Entry{Path: path, Size: int64(len(c.heap[path])), Mtime: c.clock}
}

func (c *cupboard) Entries() (all []sandbox.Entry) {
	for _, path := range slices.Sorted(maps.Keys(c.heap)) {
		all = append(all, c.entry(path))
	}
	return all
}

func (c *cupboard) Look(_ context.Context, dir string) (sandbox.Files, error) {
	if dir != "/cache" {
		return nil, errors.New("looked elsewhere")
	}
	return c, nil
}

func (c *cupboard) Copy(ctx context.Context, e sandbox.Entry, w io.Writer) error {
	c.copied++
	return c.heap.Copy(ctx, e, w)
}

func (c *cupboard) Bring(_ context.Context, f sandbox.NewFile, content io.Reader) (sandbox.Entry, error) {
	b, err := io.ReadAll(content)
	if err == nil && int64(len(b)) != f.Size {
		err = errors.New("another size than was said")
	}
	if err = errors.Join(err, c.refuse); err != nil {
		return sandbox.Entry{}, fmt.Errorf("%w: %w", sandbox.ErrNotBrought, err)
	}
	c.heap[f.Path] = string(b)
	return c.entry(f.Path), nil
}

const shed = "garden/shed/"

// cached is a job with caches, on a host that keeps them.
func cached(t *testing.T, version string, protected bool, keys ...string) *job {
	t.Helper()
	j := newJob(t, version)
	j.config.Cache.Enabled = true
	j.protect(protected)
	j.named(keys...)
	return j
}

func (j *job) protect(yes bool) {
	j.response["git_info"].(map[string]any)["protected"] = yes
}

func (j *job) named(keys ...string) {
	var all []any
	for _, key := range keys {
		all = append(all, map[string]any{"key": key, "paths": []any{"lib/"}})
	}
	j.response["cache"] = all
}

// caches is a job on a room of its own: it restores, writes what is to be kept,
// and archives. It gives what was restored, and the error of the last stage.
func (j *job) caches(write map[string]string, files ...string) (restored heap, err error) {
	j.t.Helper()
	in := &cupboard{heap: heap{}, clock: time.Now().UnixNano()}
	if err := j.runIn(in, "restore_cache", "cache-extractor", files...); err != nil {
		j.t.Fatal(err)
	}
	restored = maps.Clone(in.heap)
	if write == nil {
		return restored, nil
	}
	in.clock++
	maps.Copy(in.heap, write)
	return restored, j.runIn(in, "archive_cache", "cache-archiver", files...)
}

// runIn is a stage of the job whose script names these files.
func (j *job) runIn(in *cupboard, stage, command string, files ...string) error {
	j.t.Helper()
	if stage == "restore_cache" {
		j.engine.made = nil
		j.spec()
	}
	inner := ""
	for _, file := range files {
		inner += "if gitlab-runner " + command + " --file " + file + " ; then\n  echo\nfi\n"
	}
	script := filepath.Join(j.t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("(eval $'"+strings.ReplaceAll(inner, "\n", `\n`)+"') < /dev/null\n"), 0o600); err != nil {
		j.t.Fatal(err)
	}
	if err := j.executor().RunStage(j.t.Context(), script, stage); err != nil {
		j.t.Fatal(err)
	}
	s := j.engine.stages[len(j.engine.stages)-1]
	if j.engine.scripts[len(j.engine.scripts)-1] == "" {
		j.t.Fatal("the stage has lost its script")
	}
	hook := s.Before
	if stage != "restore_cache" {
		hook = s.After
	}
	if hook == nil {
		return nil
	}
	return hook(j.t.Context(), in)
}

func inRoom(key string) string { return "/cache/" + shed + key + "/cache.zip" }
func rel(key string) string    { return shed + key + "/cache.zip" }

func (j *job) keeps(key, content string) {
	j.t.Helper()
	if _, err := j.caches(map[string]string{rel(key): content}, inRoom(key)); err != nil {
		j.t.Fatal(err, j.out.String())
	}
}

func (j *job) finds(key, want string) {
	j.t.Helper()
	got, err := j.caches(nil, inRoom(key))
	if err != nil || got[rel(key)] != want || want == "" && len(got) > 0 {
		j.t.Errorf("%s: %q, %v; want %q\n%s", key, got, err, want, j.out.String())
	}
}

// Of who was protected, for runners that say so and those that leave it to a
// variable.
func TestCacheProtection(t *testing.T) {
	variable := func(value string) map[string]any {
		return map[string]any{"key": "CI_COMMIT_REF_PROTECTED", "value": value, "public": true}
	}
	for name, test := range map[string]struct {
		version string
		change  func(*job)
		want    string
	}{
		"19 protected":   {"19.3", func(*job) {}, "protected"},
		"19 unprotected": {"19.3", func(j *job) { j.protect(false) }, "unprotected"},
		"19 says more than any variable": {"19.3", func(j *job) {
			j.protect(false)
			j.response["variables"] = []any{variable("true")}
		}, "unprotected"},
		"17 unknown":     {"17.11", func(j *job) { j.response["variables"] = []any{} }, "unprotected"},
		"17 protected":   {"17.11", func(j *job) { j.response["variables"] = []any{variable("true")} }, "protected"},
		"17 unprotected": {"17.11", func(j *job) { j.response["variables"] = []any{variable("false")} }, "unprotected"},
		"17 the server's comes first": {"17.11", func(j *job) {
			j.response["variables"] = []any{variable("false"), variable("true")}
			j.variables["CI_COMMIT_REF_PROTECTED"] = "true"
		}, "unprotected"},
		"17 the environment is not asked": {"17.11", func(j *job) {
			j.response["variables"] = []any{}
			j.variables["CI_COMMIT_REF_PROTECTED"], j.variables["CI_PROJECT_ID"] = "true", "13"
		}, "unprotected"},
	} {
		j := newJob(t, test.version)
		j.config.Cache.Enabled = true
		test.change(j)
		j.keeps("tools", "content")
		all, err := Caches(j.config).List()
		if err != nil || len(all) != 1 || all[0].Protection() != test.want || all[0].ProjectID != 12 || all[0].Key != "tools" || all[0].Path != rel("tools") ||
			all[0].Project != "garden/shed" || all[0].Job != 4711 {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
	}
}

// TestCachesOfTwoGitLabs: projects of two servers have the same numbers.
func TestCachesOfTwoGitLabs(t *testing.T) {
	j := cached(t, "19.3", false, "tools")
	uuid := func(id string) { j.response["job_info"].(map[string]any)["instance_uuid"] = id }
	host := func(name string) {
		uuid("")
		j.response["git_info"].(map[string]any)["repo_url"] = "https://gitlab-ci-token:secret@" + name + "/garden/shed.git"
	}
	all := []func(){func() { uuid("a") }, func() { uuid("b") }, func() { host("gitlab-a.example") }, func() { host("gitlab-b.example") }}
	for i, change := range all {
		change()
		j.finds("tools", "")
		j.keeps("tools", fmt.Sprint(i))
	}
	for i, change := range all {
		change()
		j.finds("tools", fmt.Sprint(i))
	}
	j.response["job_info"].(map[string]any)["project_id"] = 13
	j.finds("tools", "")
}

// An unprotected ref's job reads what protected ones wrote, and never writes
// it, whatever it names.
func TestUnprotectedReadsAndNeverWrites(t *testing.T) {
	const ours, theirs = "tools-protected", "tools-non_protected"
	j := cached(t, "19.3", true, "tools", ours)
	j.keeps("tools", "clean")
	j.keeps(ours, "clean too")
	j.protect(false)
	j.named("tools", theirs)
	j.finds("tools", "clean")
	j.finds(theirs, "clean too") // what GitLab had each of them name otherwise
	j.finds(ours, "clean too")
	for _, key := range []string{"tools", ours, theirs} {
		j.keeps(key, "poison")
		j.finds(key, "poison")
	}
	j.protect(true)
	j.finds("tools", "clean")
	j.finds(ours, "clean too")
	j.finds(theirs, "")
}

// As TestUnprotectedReadsAndNeverWrites, where the runner hashes keys.
func TestHashedKeys(t *testing.T) {
	hash := func(key string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(key))) }
	j := cached(t, "19.3", true, "tools-protected")
	j.keeps(hash("tools-protected"), "clean")
	if all, _ := Caches(j.config).List(); len(all) != 1 || all[0].Key != "tools-protected" {
		t.Errorf("%+v", all)
	}
	j.protect(false)
	j.named("tools-non_protected")
	j.finds(hash("tools-non_protected"), "clean")
}

// What a job leaves as it was given is not written again, nor copied.
func TestUnchangedCache(t *testing.T) {
	j := cached(t, "19.3", true, "tools")
	j.keeps("tools", "content")
	j.protect(false)
	in := &cupboard{heap: heap{}}
	for _, stage := range [][2]string{{"restore_cache", "cache-extractor"}, {"archive_cache", "cache-archiver"}} {
		if err := j.runIn(in, stage[0], stage[1], inRoom("tools")); err != nil {
			t.Fatal(err)
		}
	}
	if in.copied > 0 {
		t.Error("it was copied out of the room")
	}
	j.keeps("tools", "content") // archived anew, to the same
	if all, err := Caches(j.config).List(); err != nil || len(all) != 1 || !all[0].Protected {
		t.Errorf("%+v, %v", all, err)
	}
	if n := strings.Count(j.out.String(), `Cache "tools": as it was`); n != 2 {
		t.Errorf("said %d times that it is as it was:\n%s", n, j.out.String())
	}
}

// The first of a cache's files that there is, and no more, is brought.
func TestFallbackKeys(t *testing.T) {
	j := cached(t, "19.3", true, "a", "b", "c")
	j.keeps("b", "second")
	j.keeps("c", "third")
	in := &cupboard{heap: heap{}}
	chain := inRoom("a") + " ; then\\n echo\\n else\\n if gitlab-runner cache-extractor --file " + inRoom("b") + " ; then\\n echo\\n else\\n if gitlab-runner cache-extractor --file " + inRoom("c") + " ; then\\n echo\\n fi\\n fi\\n fi\\n if true"
	if err := j.runIn(in, "restore_cache", "cache-extractor", chain); err != nil || len(in.heap) != 1 || in.heap[rel("b")] != "second" {
		t.Errorf("%v, %v", in.heap, err)
	}
}

// Nothing that goes wrong with a cache fails the job, and it is said.
func TestCacheTrouble(t *testing.T) {
	j := cached(t, "19.3", true, "tools")
	j.config.Cache.MaxProjectSize = "1m"
	said := func(want string) {
		t.Helper()
		if !strings.Contains(j.out.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, j.out.String())
		}
		j.out.Reset()
	}
	j.keeps("tools", "content")
	in := &cupboard{heap: heap{}, refuse: errors.New("no space left on device")}
	if err := j.runIn(in, "restore_cache", "cache-extractor", inRoom("tools")); err != nil {
		t.Error(err)
	}
	said(`Warning: cache "tools": file not brought into the room: no space left on device`)
	j.keeps("tools", strings.Repeat("x", 2<<20))
	said(`Warning: cache "tools": it is not kept: it has 2MiB, this runner keeps 1m of a project (cache.max_project_size)`)
	j.finds("tools", "content")
	in = &cupboard{heap: heap{"elsewhere": "x"}}
	if err := j.runIn(in, "archive_cache", "cache-archiver", "/builds/elsewhere"); err != nil {
		t.Error(err)
	}
	said("is not in the room's folder of caches")
	found, _ := filepath.Glob(filepath.Join(j.config.DataDir, "cache", "*", "protected", "*"))
	if len(found) != 1 {
		t.Fatal(found)
	}
	f, err := os.OpenFile(found[0], os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("C"), 16<<10)
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	j.finds("tools", "")
	said("the kept cache is broken and was removed")
	j.finds("tools", "")
	for script, want := range map[string]string{"eval \"$X\"": "caches are neither restored nor kept", "eval 'if'": "caches are neither restored nor kept", "eval 'true'": ""} {
		path := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		j.out.Reset()
		if err := j.executor().RunStage(t.Context(), path, "restore_cache"); err != nil {
			t.Error(err)
		}
		if s := j.engine.stages[len(j.engine.stages)-1]; s.Before != nil || s.After != nil || want == "" && strings.Contains(j.out.String(), "caches") {
			t.Errorf("%s: %s", script, j.out.String())
		}
		said(want)
	}
}

// Whether caches are kept is decided before the job runs.
func TestCachePolicy(t *testing.T) {
	j := cached(t, "19.3", true, "tools", "npm")
	j.config.Cache.Enabled = false
	if _, err := j.caches(map[string]string{rel("tools"): "x"}, inRoom("tools")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(j.config.DataDir, "cache")); !errors.Is(err, os.ErrNotExist) {
		t.Error("caches are kept by default:", err)
	}
	j.config.Cache.Enabled = true
	j.config.Policy.Rules = []config.Rule{{Name: "npm", When: `project_path == "garden/shed"`, Caches: []string{"np*"}}, {Name: "all", When: `ref == "other"`, Caches: []string{"**"}}}
	j.keeps("tools", "content")
	j.keeps("npm", "content")
	j.config.Policy.Rules = nil
	j.finds("tools", "")
	j.finds("npm", "content")
	if !strings.Contains(j.out.String(), `Cache "tools": not kept here: no rule grants this job a cache of that key`) {
		t.Error(j.out.String())
	}
	j.config.Policy.Rules = []config.Rule{{Name: "other", When: "false", Caches: []string{"**"}}}
	j.finds("npm", "")
}
