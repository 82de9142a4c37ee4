package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"
)

func TestFromEnviron(t *testing.T) {
	base := []string{"JOB_RESPONSE_FILE=/r"}
	for _, test := range []struct {
		add  []string
		want string
	}{
		{nil, ""},
		{[]string{"BUILD_FAILURE_EXIT_CODE=3", "SYSTEM_FAILURE_EXIT_CODE=4"}, ""},
		{[]string{"BUILD_FAILURE_EXIT_CODE=", "SYSTEM_FAILURE_EXIT_CODE="}, ""},
		{[]string{"JOB_RESPONSE_FILE=/r"}, ""},
		{[]string{"JOB_RESPONSE_FILE=/other"}, "JOB_RESPONSE_FILE is given twice"},
		{[]string{"CLEANROOM_KEY=a", "CLEANROOM_KEY=b"}, "CLEANROOM_KEY is given twice"},
		{[]string{"BUILD_FAILURE_EXIT_CODE=one"}, "BUILD_FAILURE_EXIT_CODE is not a number from 1 to 255"},
		{[]string{"BUILD_FAILURE_EXIT_CODE=0"}, "BUILD_FAILURE_EXIT_CODE is not"},
		{[]string{"SYSTEM_FAILURE_EXIT_CODE=256"}, "SYSTEM_FAILURE_EXIT_CODE is not"},
		{[]string{"SYSTEM_FAILURE_EXIT_CODE=1"}, "are both 1"},
		{[]string{"CUSTOM_ENV_A=1", "CUSTOM_ENV_A=2", "CUSTOM_ENV_=x", "=x", "noise"}, ""},
		{[]string{"CUSTOM_ENV_JOB_RESPONSE_FILE=/evil", "CUSTOM_ENV_CLEANROOM_KEY=evil"}, ""},
	} {
		c, err := FromEnviron(append(slices.Clone(base), test.add...))
		if test.want != "" {
			if !errors.Is(err, ErrEnviron) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q: %v", test.add, err)
			}
			continue
		}
		if err != nil || c.ResponseFile != "/r" || c.Key != "" || c.BuildFailure() == c.SystemFailure() {
			t.Errorf("%q: %+v, %v", test.add, c, err)
		}
		if v, ok := c.Variables["A"]; ok && v != "2" {
			t.Errorf("A is %q: the last holds", v)
		}
		if _, ok := c.Variables[""]; ok {
			t.Error("a variable without a name")
		}
	}
	for _, environ := range [][]string{nil, {"JOB_RESPONSE_FILE="}, {"CUSTOM_ENV_JOB_RESPONSE_FILE=/r"}} {
		if _, err := FromEnviron(environ); !errors.Is(err, ErrNoJobResponse) || !strings.Contains(err.Error(), "GitLab Runner 17 or later") {
			t.Errorf("%q: %v", environ, err)
		}
	}
	var none *Call
	if none.BuildFailure() != 1 || none.SystemFailure() != 2 {
		t.Error("a command without a contract cannot exit")
	}
}

func TestWriteBuildExitCode(t *testing.T) {
	c := &Call{ExitCodeFile: filepath.Join(t.TempDir(), "code")}
	for _, code := range []int{137, 7} {
		if err := c.WriteBuildExitCode(code); err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(c.ExitCodeFile); err != nil || string(text) != fmt.Sprint(code) {
			t.Errorf("%q, %v", text, err)
		}
	}
	for _, code := range []int{0, -1, 256} {
		if c.WriteBuildExitCode(code) == nil {
			t.Errorf("%d was written", code)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(c.ExitCodeFile, link); err != nil {
		t.Fatal(err)
	}
	if (&Call{ExitCodeFile: link}).WriteBuildExitCode(1) == nil {
		t.Error("wrote through a symbolic link")
	}
	if err := (&Call{}).WriteBuildExitCode(1); err != nil {
		t.Errorf("a runner that names no file: %v", err)
	}
}

func TestWriteConfig(t *testing.T) {
	var b bytes.Buffer
	if err := WriteConfig(&b, ConfigOutput{BuildsDir: "/builds", CacheDir: "/cache", Version: "1.2", Room: "r", Key: "k"}); err != nil {
		t.Fatal(err)
	}
	var out api.ConfigExecOutput
	if err := json.Unmarshal(b.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	if *out.BuildsDir != "/builds" || *out.CacheDir != "/cache" || *out.Driver.Name != "cleanroom" || *out.Driver.Version != "1.2" ||
		*out.BuildsDirIsShared || (*out.JobEnv)[RoomVariable] != "r" || (*out.JobEnv)[KeyVariable] != "k" {
		t.Errorf("%s", b.String())
	}
}

func TestClassify(t *testing.T) {
	for name, want := range map[string]Kind{
		"build_script": User, "step_script": User, "step_release": User, "step_run": User, "step_a-b.c": User, "after_script": User,
		"step_": Helper, "tomorrow_script": Helper, "build_scripts": Helper, "Build_Script": Helper,
	} {
		if kind, err := Classify(name); err != nil || kind != want {
			t.Errorf("%s: %s, %v", name, kind, err)
		}
	}
	for _, name := range stageOrder {
		kind, err := Classify(name)
		if err != nil || (kind == User) != (name == StageBuildScript || name == StageAfterScript) {
			t.Errorf("%s: %s, %v", name, kind, err)
		}
	}
	for _, name := range []string{"", "a b", "../x", "step_\n", "step_é", "1x", "-x", ".x", strings.Repeat("x", 129)} {
		if _, err := Classify(name); !errors.Is(err, ErrStage) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestParseJobErrors(t *testing.T) {
	const ok = `"id":1,"job_info":{"project_id":2}`
	for text, want := range map[string]string{
		``:                "truncated after 0 bytes",
		`{` + ok:          "truncated after",
		`{` + ok + `}}`:   "no JSON at byte",
		`nonsense`:        "no JSON at byte 2",
		`[1]`:             "the top level is of type array",
		`{"id":"hunter"}`: "id is of type string",
		`{"id":1.5}`:      "id is of type number, which",
		`{}`:              "id of the job is missing",
		`{"id":-4}`:       "id of the job is missing",
		`{"id":1}`:        "job_info.project_id is missing",
		`{` + ok + `,"runner_info":{"timeout":-1}}`:                      "timeout is negative",
		`{` + ok + `,"git_info":{"ref":"a\u0000b"}}`:                     "a zero byte",
		`{` + ok + `,"image":{"entrypoint":{"a":1}}}`:                    "is of type object",
		`{` + ok + `,"services":[{"variables":[{"key":3}]}]}`:            "services.variables.key is of type number",
		`{` + ok + `,"image":{"executor_opts":{"docker":{"user":1.5}}}}`: "is of type number",
	} {
		_, err := ParseJob([]byte(text))
		if !errors.Is(err, ErrResponse) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	job, err := ParseJob([]byte(`{` + ok + `,"new":{"field":[]},"image":{"name":"x","entrypoint":null,"pull_policy":"always","executor_opts":{"docker":{"user":1000}}},
		"run":[{"name":"s"}],"inputs":{},"secrets":{"S":null,"T":{"file":false}},"services":null}`))
	if err != nil || job.Image.ExecutorOpts.Docker.User != "1000" || !slices.Equal(job.Image.PullPolicy, List{"always"}) || job.Image.Entrypoint != nil {
		t.Errorf("%+v, %v", job, err)
	}
	if files := job.fileNames(); !files["S"] || files["T"] {
		t.Errorf("secrets of the runner: %v", files)
	}
}

func TestProtected(t *testing.T) {
	yes, no := true, false
	variables := []Variable{{Key: "CI_COMMIT_REF_PROTECTED", Value: "false"}, {Key: "CI_COMMIT_REF_PROTECTED", Value: "true"}}
	for i, test := range []struct {
		job  Job
		want bool
	}{
		{Job{GitInfo: GitInfo{Protected: &yes}, Variables: variables}, true},
		{Job{GitInfo: GitInfo{Protected: &no}, Variables: variables[1:]}, false},
		{Job{Variables: variables}, false},
		{Job{Variables: variables[1:]}, true},
		{Job{}, false},
	} {
		if test.job.Protected() != test.want {
			t.Errorf("%d: not %v", i, test.want)
		}
	}
}

func TestOddResponseFiles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	text := []byte(`{"id":1,"job_info":{"project_id":2}}`)
	if err := os.WriteFile(good, text, 0o600); err != nil {
		t.Fatal(err)
	}
	link, pipe, open, huge := filepath.Join(dir, "link"), filepath.Join(dir, "pipe"), filepath.Join(dir, "open"), filepath.Join(dir, "huge")
	for _, err := range []error{
		os.Symlink(good, link), syscall.Mkfifo(pipe, 0o600), os.WriteFile(open, text, 0o600), os.Chmod(open, 0o622),
		os.WriteFile(huge, text, 0o600), os.Truncate(huge, MaxResponse+1),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		good: "", link: "is a symbolic link", pipe: "no plain file but a pipe", dir: "no plain file but a folder",
		"/dev/null": "no plain file but a device", open: "may be written by others", huge: "more than", dir + "/none": "no such file",
	} {
		_, err := (&Call{ResponseFile: path}).Job()
		if want == "" && err != nil || want != "" && (!errors.Is(err, ErrResponse) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestNotifyTerm(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		ctx, stop := NotifyTerm(context.Background())
		if err := syscall.Kill(os.Getpid(), s); err != nil {
			t.Fatal(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
			t.Fatalf("%s was not noticed", s)
		}
		if cause := context.Cause(ctx); !errors.Is(cause, ErrTerminated) || !strings.Contains(cause.Error(), s.String()) {
			t.Errorf("%s: %v", s, cause)
		}
		if err := syscall.Kill(os.Getpid(), s); err != nil { // a second must not kill us
			t.Fatal(err)
		}
		arrived(t, s) // before we stop listening: later it would
		stop()
		stop()
	}
	ctx, stop := NotifyTerm(context.Background())
	stop()
	if cause := context.Cause(ctx); errors.Is(cause, ErrTerminated) {
		t.Errorf("stopped: %v", cause)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := w.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("a reader that is gone: %v", err)
	}
}

// arrived waits until the kernel has handed the process all of a signal that
// it was sent: none pends (ShdPnd in proc_pid_status(5)).
func arrived(t *testing.T, s syscall.Signal) {
	t.Helper()
	for range 60_000 {
		text, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		var pending uint64
		_, line, _ := strings.Cut(string(text), "\nShdPnd:")
		if _, err := fmt.Sscanf(line, "%x", &pending); err != nil {
			t.Fatalf("%v in %q", err, text)
		}
		if pending&(1<<(s-1)) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s still pends", s)
}

func TestWatchParent(t *testing.T) {
	var parent atomic.Int64
	parent.Store(100)
	ctx, stop := watchParent(context.Background(), time.Millisecond, func() int { return int(parent.Load()) })
	defer stop()
	time.Sleep(10 * time.Millisecond)
	if ctx.Err() != nil {
		t.Fatal("ended with its parent alive")
	}
	parent.Store(1)
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Fatal("not noticed")
	}
	if !errors.Is(context.Cause(ctx), ErrRunnerGone) {
		t.Error(context.Cause(ctx))
	}
}

// A real death of a real parent: we run ourselves below a shell that exits
// once we watch it.
func TestWatchParentForReal(t *testing.T) {
	if os.Getenv("WATCH_PARENT") != "" {
		ctx, stop := WatchParent(context.Background())
		defer stop()
		fmt.Println("watching")
		select {
		case <-ctx.Done():
			fmt.Println(context.Cause(ctx))
		case <-time.After(time.Minute):
		}
		return
	}
	cmd := exec.Command("/bin/sh", "-c", `"$0" -test.run='^TestWatchParentForReal$' & read -r line`, os.Args[0])
	cmd.Env = append(os.Environ(), "WATCH_PARENT=1")
	live, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout = &onceSaid{mark: "watching\n", then: func() { live.Close() }}
	err = cmd.Run()                                                              // ends when the grandchild closes the pipe
	if _, isExit := errors.AsType[*exec.ExitError](err); err != nil && !isExit { // read found the end of its input
		t.Fatal(err)
	}
	if out := cmd.Stdout.(*onceSaid).said.String(); !strings.Contains(out, "watching\n"+ErrRunnerGone.Error()) {
		t.Errorf("%s, %v", out, err)
	}
}

// onceSaid is a buffer that acts when it holds a text.
type onceSaid struct {
	said bytes.Buffer // not embedded: its ReadFrom would go past Write
	mark string
	then func()
}

func (o *onceSaid) Write(p []byte) (int, error) {
	n, err := o.said.Write(p)
	if o.then != nil && strings.Contains(o.said.String(), o.mark) {
		o.then()
		o.then = nil
	}
	return n, err
}
