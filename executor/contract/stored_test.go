package contract

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestStored(t *testing.T) {
	c := callWith(t, map[string]string{"POLICY": "pull"}, `,
		"artifacts": [
			{"name": "all", "paths": ["out/", "$HOME/x"], "exclude": ["out/*.log"], "when": "always"},
			{"paths": ["report.xml"], "artifact_type": "junit", "artifact_format": "raw", "when": "on_failure"},
			{"paths": [".env"], "artifact_type": "dotenv"},
			{"untracked": true, "artifact_type": "archive", "when": "on_success"},
			{"artifact_type": "nothing", "when": "always"}],
		"cache": [
			{"key": "a", "paths": ["lib/"]},
			{"key": "b-$POLICY", "paths": ["always/"], "policy": "push", "when": "always"},
			{"key": "c", "paths": ["never/"], "policy": "pull"},
			{"key": "d", "paths": ["never/"], "policy": "$POLICY"},
			{"key": "e", "untracked": true, "policy": "pull-push", "when": "on_failure"}]`)
	const unnamed = "default-metadata.json"
	out := Stored{What: "artifact", Paths: []string{"out/", "$HOME/x"}, Exclude: []string{"out/*.log"}, Name: "all", Statement: "all-metadata.json"}
	junit := Stored{What: "junit", Paths: []string{"report.xml"}, Raw: true, Statement: unnamed}
	dotenv, untracked := Stored{What: "dotenv", Paths: []string{".env"}, Statement: unnamed}, Stored{What: "artifact", Untracked: true, Statement: unnamed}
	lib, always := Stored{What: "cache", Name: "a", Paths: []string{"lib/"}}, Stored{What: "cache", Name: "b-pull", Paths: []string{"always/"}}
	failed := Stored{What: "cache", Name: "e", Untracked: true}
	for stage, want := range map[string][]Stored{
		StageUploadArtifactsOnSuccess: {out, dotenv, untracked},
		StageUploadArtifactsOnFailure: {out, junit},
		"upload_artifacts_in_future":  {out, junit, dotenv, untracked},
		StageArchiveCache:             {lib, always},
		StageArchiveCacheOnFailure:    {always, failed},
		"archive_cache_in_future":     {lib, always, failed},
		StageBuildScript:              nil,
		StageGetSources:               nil,
		StageRestoreCache:             nil,
		StageCleanupFileVariables:     nil,
	} {
		got, err := c.Stored(stage)
		if err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", stage, got, err, want)
		}
	}
}

// Of what runners really send.
func TestRecordedStored(t *testing.T) {
	for _, version := range []string{"17.11", "19.3"} {
		c := load(t, version).call(t, "run")
		if dir, ok := c.ProjectDir(); !ok || dir != "/builds/garden/shed" {
			t.Errorf("%s: the project is in %q", version, dir)
		}
		for _, stage := range []string{StageUploadArtifactsOnSuccess, StageArchiveCache} {
			if stored, err := c.Stored(stage); err != nil || len(stored) == 0 {
				t.Errorf("%s: %s stores %v, %v", version, stage, stored, err)
			}
		}
		var names []string
		for _, v := range c.Masked() {
			names = append(names, v.Name)
		}
		if !slices.Contains(names, "CI_JOB_TOKEN") || !slices.Contains(names, "SEED_KEY") {
			t.Errorf("%s: masked are %q", version, names)
		}
	}
}

func TestProjectDir(t *testing.T) {
	for temp, want := range map[string]string{
		"/builds/a/b.tmp": "/builds/a/b", "/b.tmp.tmp": "/b.tmp", ".tmp": "", "builds.tmp": "", "/builds/a/b": "", "": "",
	} {
		c := &Call{Variables: map[string]string{tempProjectDir: temp, "CI_PROJECT_DIR": "/etc"}}
		if dir, ok := c.ProjectDir(); ok != (want != "") || ok && dir != want {
			t.Errorf("%q: %q, %t", temp, dir, ok)
		}
	}
}

func TestMasked(t *testing.T) {
	c := callWith(t, map[string]string{"A": "expanded", "FILE": "content", "RESOLVED": "by the runner"}, `,
		"token": "job-token",
		"git_info": {"repo_url": "https://gitlab-ci-token:url-token@gitlab.example.com/a.git"},
		"credentials": [{"type": "registry", "username": "u", "password": "login"}],
		"secrets": {"RESOLVED": {}},
		"variables": [
			{"key": "A", "value": "as $WRITTEN", "masked": true},
			{"key": "RAW", "value": "cost $5", "masked": true, "raw": true},
			{"key": "TWICE", "value": "job-token", "masked": true},
			{"key": "EMPTY", "value": "", "masked": true},
			{"key": "FILE", "value": "content", "masked": true, "file": true},
			{"key": "OPEN", "value": "not masked", "public": true}]`)
	want := []NamedValue{{"CI_JOB_TOKEN", "job-token"}, {"A", "expanded"}, {"RAW", "cost $5"}, {"FILE", "content"},
		{"RESOLVED", "by the runner"}, {"registry password", "login"}, {"CI_JOB_TOKEN", "url-token"}}
	if got := c.Masked(); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	if text := fmt.Sprint((&Call{}).Masked()); text != "[]" {
		t.Errorf("without a response: %s", text)
	}
}

// Paths are what the uploader makes of them, from the environment that it has.
func TestExpand(t *testing.T) {
	c := callWith(t, map[string]string{"OUT": "dist", "A_FILE": "content", tempProjectDir: "/builds/a/b.tmp", "EMPTY": ""}, `,
		"variables": [{"key": "A_FILE", "value": "content", "file": true}]`)
	if c.EnvFile() != "/builds/a/b.tmp/gitlab_runner_env" {
		t.Error(c.EnvFile())
	}
	for _, test := range []struct {
		path, env string
		want      []string
	}{
		{"dist/*.whl", "", []string{"dist/*.whl"}},
		{"$OUT/*.whl", "", []string{"$OUT/*.whl", "dist/*.whl"}},
		{"${OUT}x", "", []string{"${OUT}x", "distx"}},
		{"${EMPTY:-out}/a", "", []string{"${EMPTY:-out}/a", "out/a"}},
		{"$A_FILE", "", []string{"$A_FILE", "/builds/a/b.tmp/A_FILE"}},
		{"$OUT/a", "OTHER=1\n  OUT=moved \nnot a variable\n", []string{"$OUT/a", "moved/a"}},
		{"$NEW/a", "NEW=a=b\n", []string{"$NEW/a", "a=b/a"}},
		{"$NEW/a", "", []string{"$NEW/a", "."}}, // anything
		{"${NEW:-out}", "", []string{"${NEW:-out}", "."}},
		{`a\$b`, "", []string{`a\$b`, "a$b"}},
		{"$(id)", "", []string{"$(id)"}},
		{"${", "", []string{"${"}},
	} {
		got := c.Expand([]Stored{{Paths: []string{test.path}}}, []byte(test.env))
		if len(got) != 1 || !slices.Equal(got[0].Paths, test.want) {
			t.Errorf("%s with %q: %+v, want %q", test.path, test.env, got, test.want)
		}
	}
	got := c.Expand([]Stored{{Exclude: []string{"$OUT/*.log", "$NEW", "x"}, Name: "$OUT", Statement: "$OUT-metadata.json"}}, nil)
	if !slices.Equal(got[0].Exclude, []string{"dist/*.log", "x"}) || got[0].Statement != "dist-metadata.json" || got[0].Name != "dist" {
		t.Errorf("%+v", got)
	}
	untracked := []Stored{{What: "artifact", Untracked: true}}
	if got := c.Expand(untracked, nil); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	if got := c.Expand(untracked, []byte("GIT_INDEX_FILE=/dev/null\n")); len(got) != 2 || !slices.Equal(got[1].Paths, []string{"."}) || len(got[1].Exclude) > 0 {
		t.Errorf("%+v", got)
	}
}

func FuzzExpand(f *testing.F) {
	for _, seed := range [][2]string{{"$OUT/*", "OUT=a\n"}, {"${A:-$(b)}", ""}, {"${", "="}, {"`a`", "\x00"}, {"$((1+", ""}, {"~/a", "HOME=/"}, {"${A/b/c}", "A=bb"}, {"${A@Q}", ""}} {
		f.Add(seed[0], seed[1])
	}
	c := callWith(f, map[string]string{"A": "b"}, "")
	f.Fuzz(func(t *testing.T, word, env string) {
		if strings.Contains(word, "((") { // bounded by a clock: it would only slow this down
			return
		}
		got := c.Expand([]Stored{{Paths: []string{word}, Exclude: []string{word}}}, []byte(env))
		if len(got) != 1 || got[0].Paths[0] != word || len(got[0].Paths) > 2 {
			t.Errorf("%+v", got)
		}
	})
}
