package contract

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fixture is how one runner calls: the names of what it gives, with values of
// our own making, and the order of calls ("run SCRIPT STAGE -> EXIT") in cases
// that were recorded from a real one.
type fixture struct {
	Runner    string            `json:"runner"`
	Own       []string          `json:"own"`
	Variables map[string]string `json:"variables"`
	AtConfig  map[string]string `json:"at_config"` // what differs there
	Cases     []struct {
		Name  string   `json:"name"`
		Calls []string `json:"calls"`
	} `json:"cases"`
	response []byte
}

var versions = []string{"17.11", "19.3"}

func load(t testing.TB, version string) fixture {
	t.Helper()
	var f fixture
	text, err := os.ReadFile(filepath.Join("testdata", version+".json"))
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err == nil {
		f.response, err = os.ReadFile(filepath.Join("testdata", version+"-response.json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// environ is the environment of one call, its response in a new folder.
func (f fixture) environ(t testing.TB, command string) []string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "response.json"), f.response, 0o600); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{
		"TMPDIR": dir, "JOB_RESPONSE_FILE": filepath.Join(dir, "response.json"),
		"BUILD_EXIT_CODE_FILE": filepath.Join(dir, "build_exit_code"), "BUILD_FAILURE_EXIT_CODE": "1", "SYSTEM_FAILURE_EXIT_CODE": "2",
	}
	environ := []string{"PATH=/bin", "HOME=/root", "LANG=C"}
	for _, name := range f.Own {
		environ = append(environ, name+"="+values[name])
	}
	for name, value := range f.Variables {
		if at, ok := f.AtConfig[name]; ok && command == "config" {
			value = at
		}
		environ = append(environ, "CUSTOM_ENV_"+name+"="+value)
	}
	if command != "config" {
		environ = append(environ, "CLEANROOM_ROOM=r-4711-x", "CLEANROOM_KEY=a2V5")
	}
	return environ
}

func (f fixture) call(t testing.TB, command string) *Call {
	t.Helper()
	c, err := FromEnviron(f.environ(t, command))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Each call of each recorded case: its environment is understood, its stage
// goes to the right container, and the exit codes that runners saw are the
// ones we would give.
func TestRecordedCalls(t *testing.T) {
	users := []string{"build_script", "step_release", "after_script"}
	for _, version := range versions {
		f := load(t, version)
		for _, test := range f.Cases {
			t.Run(version+"/"+test.Name, func(t *testing.T) {
				before, lastStage := "cleanup", 0
				for _, line := range test.Calls {
					argv, exit, _ := strings.Cut(line, " -> ")
					words := strings.Fields(argv)
					c := f.call(t, words[0])
					if (c.Room == "") != (words[0] == "config") || (c.Key == "") != (words[0] == "config") {
						t.Errorf("%s: room %q, key %q", argv, c.Room, c.Key)
					}
					if c.Variables["CI_RUNNER_VERSION"] != f.Runner || c.TmpDir == "" || c.ExitCodeFile == "" {
						t.Errorf("%s: %+v", argv, c)
					}
					job, err := c.Job()
					if err != nil || job.ID != 4711 {
						t.Fatalf("%s: %v", argv, err)
					}
					allowed := map[string][]string{
						"config": {"cleanup"}, "prepare": {"config"}, "run": {"prepare", "run"}, "cleanup": {"prepare", "run"},
					}[words[0]]
					if !slices.Contains(allowed, before) {
						t.Errorf("%s after %s", words[0], before)
					}
					before = words[0]
					if known := []string{"0", "1", "2", "killed"}; !slices.Contains(known, exit) ||
						exit == "1" && c.BuildFailure() != 1 || exit == "2" && c.SystemFailure() != 2 {
						t.Errorf("%s: exit %s", argv, exit)
					}
					if words[0] != "run" {
						lastStage = 0
						continue
					}
					kind, err := Classify(words[2])
					if err != nil || (kind == User) != slices.Contains(users, words[2]) {
						t.Errorf("%s is a %s stage (%v)", words[2], kind, err)
					}
					at := slices.Index(stageOrder, words[2])
					if words[2] == "step_release" {
						at = slices.Index(stageOrder, StageBuildScript)
					}
					if at < lastStage {
						t.Errorf("%s comes late", words[2])
					}
					lastStage = at
				}
				if before != "cleanup" {
					t.Errorf("the case ends with %s", before)
				}
			})
		}
		if len(f.Cases) != 11 {
			t.Errorf("%d cases for %s", len(f.Cases), version)
		}
	}
}

var stageOrder = []string{
	StagePrepareScript, StageGetSources, StageClearWorktree, StageRestoreCache, StageDownloadArtifacts,
	StageBuildScript, StageAfterScript, StageArchiveCache, StageArchiveCacheOnFailure,
	StageUploadArtifactsOnSuccess, StageUploadArtifactsOnFailure, StageCleanupFileVariables,
}

func TestRecordedJob(t *testing.T) {
	for _, version := range versions {
		f := load(t, version)
		c := f.call(t, "prepare")
		job, err := c.Job()
		if err != nil {
			t.Fatal(err)
		}
		info := JobInfo{Name: "dig", Stage: "morning", ProjectID: 12, ProjectName: "shed"}
		if version == "19.3" {
			info.ProjectFullPath, info.PipelineID, info.UserID = "garden/shed", 88, 9
			info.NamespaceID, info.RootNamespaceID, info.OrganizationID = 3, 3, 1
			info.InstanceID, info.InstanceUUID = "i", "u"
		}
		if job.JobInfo != info {
			t.Errorf("%s: %+v", version, job.JobInfo)
		}
		if p := job.GitInfo.Protected; (p != nil && *p) != (version == "19.3") {
			t.Errorf("%s: protected is %v", version, p)
		}
		if g := job.GitInfo; g.Ref != "spring" || g.RefType != "branch" || len(g.SHA) != 40 || job.RunnerInfo.Timeout != 1800 {
			t.Errorf("%s: %+v", version, g)
		}
		if len(job.Credentials) != 1 || job.Credentials[0].URL != "registry.test:5000" ||
			len(job.Steps) != 3 || len(job.Artifacts) != 1 || len(job.Cache) != 1 || len(job.Variables) != 9 {
			t.Errorf("%s: %+v", version, job)
		}
		image, err := c.Image()
		if err != nil {
			t.Fatal(err)
		}
		if image.Name != "registry.test:5000/tools/spade:2" || image.ExecutorOpts.Docker.User != "beans" ||
			image.ExecutorOpts.Docker.Platform != "linux/amd64" ||
			!slices.Equal(image.Entrypoint, List{"/bin/sh", "-c"}) || !slices.Equal(image.PullPolicy, List{"if-not-present"}) {
			t.Errorf("%s: %+v", version, image)
		}

		env, err := c.ContainerEnv()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range []string{"ROW=[beans]", "NOTE=[$CROP]", "SEED_KEY=made-up-masked-value", "CI_PROJECT_DIR=/builds/garden/shed", "CI_COMMIT_MESSAGE=plant\n\nbeans and \"peas\""} {
			if !slices.Contains(env, line) {
				t.Errorf("%s: %q is missing", version, line)
			}
		}
		for _, line := range env {
			if strings.HasPrefix(line, "LABELS=") {
				t.Errorf("%s: the content of a file variable stands as %q", version, line)
			}
		}
		if !slices.IsSorted(env) || len(env) != len(f.Variables)-1 {
			t.Errorf("%s: %d lines of %d variables", version, len(env), len(f.Variables))
		}
	}
}

// jsonService is an entry of CI_JOB_SERVICES, the runner's own view.
type jsonService struct {
	Name       string            `json:"name"`
	Alias      string            `json:"alias"`
	Entrypoint []string          `json:"entrypoint"`
	Command    []string          `json:"command"`
	Variables  map[string]string `json:"variables"`
}

// What we make of the response is what the runner itself says of services.
func TestRecordedServices(t *testing.T) {
	for _, version := range versions {
		f := load(t, version)
		c := f.call(t, "prepare")
		list, warnings, err := c.Services()
		if err != nil || len(warnings) != 0 {
			t.Fatalf("%s: %v, %q", version, err, warnings)
		}
		var theirs []jsonService
		if err := json.Unmarshal([]byte(c.Variables["CI_JOB_SERVICES"]), &theirs); err != nil {
			t.Fatal(err)
		}
		if len(list) != len(theirs) {
			t.Fatalf("%s: %d services, not %d", version, len(list), len(theirs))
		}
		for i, s := range list {
			their := theirs[i]
			if s.Name != their.Name || !slices.Equal(s.Entrypoint, their.Entrypoint) || !slices.Equal(s.Command, their.Command) ||
				their.Alias != "" && !slices.Contains(s.Aliases, their.Alias) {
				t.Errorf("%s: %+v, the runner says %+v", version, s, their)
			}
			ours := map[string]string{}
			for _, v := range s.Variables {
				ours[v.Key] = v.Value
			}
			if their.Variables != nil && !reflect.DeepEqual(ours, their.Variables) { // 17 does not tell
				t.Errorf("%s: variables %v, the runner says %v", version, ours, their.Variables)
			}
		}
		if want := []string{"registry.test__tools__well", "registry.test-tools-well", "water", "beans-well"}; !slices.Equal(list[0].Aliases, want) {
			t.Errorf("%s: aliases %q", version, list[0].Aliases)
		}
		if !slices.Equal(list[1].Aliases, []string{"radio"}) {
			t.Errorf("%s: aliases %q", version, list[1].Aliases)
		}
		env := strings.Join(list[0].Env, "\n")
		for _, line := range []string{"CROP=beans", "DEPTH=deep-beans", "PLAIN=[$CROP]", "CI_PROJECT_DIR=/builds/garden/shed"} {
			if !slices.Contains(list[0].Env, line) {
				t.Errorf("%s: %q is missing in %q", version, line, env)
			}
		}
		if strings.Contains(env, "masked") || strings.Contains(env, "token") || strings.Contains(env, "label") {
			t.Errorf("%s: a service sees what is not public: %q", version, env)
		}
	}
}
