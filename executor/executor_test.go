package executor

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/policy"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret"
	"cleanroom/executor/secret/hostkey"
	"cleanroom/executor/secret/provider"
	"cleanroom/sandbox"
)

// fakeEngine records what it is asked. What rooms are like on a real one is
// tested beside sandbox/docker and in integration.
type fakeEngine struct {
	sandbox.Engine // what is not overridden is not called
	made           []sandbox.Spec
	stages         []sandbox.Stage
	scripts        []string
	wiped          []string
	retired        []string
	keys           [][32]byte // of those
	prints         string     // what each stage prints
	during         func(sandbox.Stage)
	result         sandbox.Result
	evidence       sandbox.Evidence
	err            error
}

func (f *fakeEngine) Make(_ context.Context, s sandbox.Spec, _ io.Writer) error {
	f.made = append(f.made, s)
	return f.err
}

func (f *fakeEngine) Run(_ context.Context, s sandbox.Stage) (sandbox.Result, error) {
	script, err := io.ReadAll(s.Script)
	io.WriteString(s.Output, f.prints)
	if f.during != nil {
		f.during(s)
	}
	f.stages, f.scripts = append(f.stages, s), append(f.scripts, string(script))
	return f.result, errors.Join(f.err, err)
}

func (f *fakeEngine) Retire(_ context.Context, room string, key [32]byte) error {
	f.retired, f.keys = append(f.retired, room), append(f.keys, key)
	return f.err
}

func (f *fakeEngine) Wipe(_ context.Context, room string) (sandbox.Evidence, error) {
	f.wiped = append(f.wiped, room)
	return f.evidence, f.err
}

const (
	testRoom = "cr-a1b2c3d4e-4711-0123456789"
	testKey  = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
)

// job is a call under test: a response, variables and a configuration, all to
// be changed before the executor is made.
type job struct {
	t         *testing.T
	response  map[string]any
	variables map[string]string
	config    config.Config
	engine    *fakeEngine
	out       bytes.Buffer
	log       bytes.Buffer
	exitCode  string
}

// full is what cleanroom-admin has.
var full = &Full{
	Rules:     func(c config.Config) (verdict.Policy, error) { return policy.FromConfig(c) },
	Providers: provider.Opener,
	HostKey:   func(dataDir string) (secret.Sealer, error) { return hostkey.Open(dataDir) },
}

// newJob begins with what a runner of that version really gives.
func newJob(t *testing.T, version string) *job {
	t.Helper()
	j := &job{t: t, config: config.Default(), engine: &fakeEngine{}, exitCode: filepath.Join(t.TempDir(), "code")}
	var fixture struct{ Variables map[string]string }
	for name, into := range map[string]any{version + "-response.json": &j.response, version + ".json": &fixture} {
		text, err := os.ReadFile(filepath.Join("contract/testdata", name))
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	j.variables = fixture.Variables
	j.config.StateDir, j.config.DataDir = filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "data")
	var key [32]byte
	if _, err := hex.Decode(key[:], []byte(testKey)); err != nil {
		t.Fatal(err)
	}
	if err := (&secret.Sealed{}).Save(j.config.StateDir, testRoom, key); err != nil { // as each prepare does
		t.Fatal(err)
	}
	j.config.Images.AllowedPullPolicies = []string{"always", "if-not-present"}
	return j
}

// image sets fields of the job's image.
func (j *job) image(change func(map[string]any)) { change(j.response["image"].(map[string]any)) }

func (j *job) executor() *Executor {
	j.t.Helper()
	text, err := json.Marshal(j.response)
	if err != nil {
		j.t.Fatal(err)
	}
	file := filepath.Join(j.t.TempDir(), "response.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		j.t.Fatal(err)
	}
	environ := []string{
		"JOB_RESPONSE_FILE=" + file, "BUILD_FAILURE_EXIT_CODE=55", "SYSTEM_FAILURE_EXIT_CODE=77", "BUILD_EXIT_CODE_FILE=" + j.exitCode,
		"CLEANROOM_ROOM=" + testRoom, "CLEANROOM_KEY=" + testKey,
	}
	for name, value := range j.variables {
		environ = append(environ, "CUSTOM_ENV_"+name+"="+value)
	}
	call, err := contract.FromEnviron(environ)
	if err != nil {
		j.t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(&j.log)
	return &Executor{Config: j.config, Call: call, Engine: j.engine, Log: log.WithField("stage", "test"), Out: &j.out, Version: "1.2.3", Full: full}
}

// spec prepares the job and gives the room that was asked for.
func (j *job) spec() sandbox.Spec {
	j.t.Helper()
	if err := j.executor().PrepareStage(j.t.Context()); err != nil {
		j.t.Fatal(err)
	}
	if len(j.engine.made) != 1 {
		j.t.Fatalf("%d rooms made", len(j.engine.made))
	}
	return j.engine.made[0]
}

// refused is a job that gets no room, for the reason that is wanted.
func (j *job) refused(code int, want string) {
	j.t.Helper()
	x := j.executor()
	err := x.PrepareStage(j.t.Context())
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || len(j.engine.made) > 0 {
		j.t.Errorf("%v, %d rooms made; want one line with %q", err, len(j.engine.made), want)
	}
	if got := ExitCode(x.Call, err); got != code {
		j.t.Errorf("%v: exit code %d, want %d", err, got, code)
	}
}

func TestExitCodes(t *testing.T) {
	call := newJob(t, "19.3").executor().Call
	for _, test := range []struct {
		err    error
		code   int
		silent bool
	}{
		{nil, 0, false},
		{stageError{42}, 55, true},
		{fmt.Errorf("stage: %w", stageError{1}), 55, true},
		{fmt.Errorf("image: %w", sandbox.ErrUser), 55, false},
		{ErrDenied, 55, false},
		{fmt.Errorf("x: %w", contract.ErrService), 55, false},
		{sandbox.ErrNoRoom, 77, false},
		{contract.ErrResponse, 77, false},
		{contract.ErrStage, 77, false},
		{config.ErrConfig, 77, false},
		{context.DeadlineExceeded, 77, false},
		{errors.New("engine is away"), 77, false},
	} {
		if code := ExitCode(call, test.err); code != test.code || Silent(test.err) != test.silent {
			t.Errorf("%v: exit code %d, silent %t", test.err, code, Silent(test.err))
		}
	}
	if ExitCode(nil, errors.New("no contract")) != 2 || ExitCode(nil, ErrDenied) != 1 {
		t.Error("a call that could not be read has the runner's defaults")
	}
}

func TestRunStage(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for stage, role := range map[string]sandbox.Role{
		"prepare_script": sandbox.Helper, "get_sources": sandbox.Helper, "archive_cache": sandbox.Helper, "some_new_stage": sandbox.Helper,
		"build_script": sandbox.Job, "step_script": sandbox.Job, "step_release": sandbox.Job, "after_script": sandbox.Job,
	} {
		j := newJob(t, "19.3")
		if err := j.executor().RunStage(t.Context(), script, stage); err != nil {
			t.Fatalf("%s: %v", stage, err)
		}
		s := j.engine.stages[0]
		if s.Role != role || s.Name != stage || s.Room != testRoom || s.Key[31] != 0x1f || j.engine.scripts[0] != "echo hello" || s.Grace != j.config.Room.StageGrace {
			t.Errorf("%s: %+v", stage, s)
		}
		if _, err := os.Stat(j.exitCode); !os.IsNotExist(err) {
			t.Errorf("%s: a stage that went well left an exit code", stage)
		}
	}
	for _, test := range []struct {
		result sandbox.Result
		err    error
		code   int
		file   string // what the runner reads
		says   string
	}{
		{sandbox.Result{ExitCode: 42}, nil, 55, "42", ""},
		{sandbox.Result{ExitCode: 137, Signal: 9, OOM: true}, nil, 55, "137", "The job container ran out of memory (limit 4g)"},
		{sandbox.Result{ExitCode: 143, Signal: 15, Canceled: true}, nil, 55, "", ""},
		{sandbox.Result{Canceled: true}, nil, 55, "", ""},
		{sandbox.Result{}, errors.New("lost"), 77, "", ""},
		{sandbox.Result{}, sandbox.ErrUser, 55, "", ""},
		{sandbox.Result{ExitCode: 300}, nil, 77, "", ""}, // no init says so
	} {
		j := newJob(t, "17.11")
		j.engine.result, j.engine.err = test.result, test.err
		x := j.executor()
		code := ExitCode(x.Call, x.RunStage(t.Context(), script, "build_script"))
		file, _ := os.ReadFile(j.exitCode)
		if code != test.code || string(file) != test.file || !strings.HasPrefix(j.out.String(), test.says) {
			t.Errorf("%+v, %v: exit code %d, file %q, %q", test.result, test.err, code, file, j.out.String())
		}
	}
	j := newJob(t, "17.11")
	j.engine.result = sandbox.Result{ExitCode: 137, OOM: true}
	if _ = j.executor().RunStage(t.Context(), script, "get_sources"); !strings.Contains(j.out.String(), "helper container ran out of memory (limit 1g)") {
		t.Errorf("%q", j.out.String())
	}
}

// TestLastStage: what the runner's last script removes goes with the room, so
// no script is run.
func TestLastStage(t *testing.T) {
	j := newJob(t, "19.3")
	if err := j.executor().RunStage(t.Context(), "/no/script", "cleanup_file_variables"); err != nil || len(j.engine.stages) > 0 || !slices.Equal(j.engine.retired, []string{testRoom}) || j.engine.keys[0][31] != 0x1f {
		t.Errorf("%v; ran %+v, retired %q by %x", err, j.engine.stages, j.engine.retired, j.engine.keys)
	}
	j.engine.err = sandbox.ErrNoRoom
	x := j.executor()
	if err := x.RunStage(t.Context(), "/no/script", "cleanup_file_variables"); ExitCode(x.Call, err) != 77 {
		t.Errorf("no room: %v", err)
	}
	j.engine.err = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.RunStage(ctx, "/no/script", "cleanup_file_variables"); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestCleanupStage(t *testing.T) {
	j := newJob(t, "19.3")
	x := j.executor()
	if err := x.CleanupStage(t.Context()); err != nil || len(j.engine.wiped) != 1 || j.engine.wiped[0] != testRoom {
		t.Errorf("%v, wiped %q", err, j.engine.wiped)
	}
	x.Call.Key = "" // a wipe needs none
	if err := x.CleanupStage(t.Context()); err != nil || len(j.engine.wiped) != 2 {
		t.Errorf("%v, wiped %q", err, j.engine.wiped)
	}
	x.Call.Room = ""
	if err := x.CleanupStage(t.Context()); err != nil {
		t.Error("nothing was made, nothing is wrong:", err)
	}
	for _, name := range []string{"x", "cr-../x", "CR-A", "cr-a b", "cr-" + strings.Repeat("a", 70), "cleanroom-cache-p1"} {
		x.Call.Room, x.Call.Key = name, testKey
		if err := x.CleanupStage(t.Context()); err == nil || strings.Contains(err.Error(), testKey) {
			t.Errorf("%q: %v", name, err)
		}
	}
	x.Call.Room, j.engine.err = testRoom, errors.New("two volumes are left")
	if err := x.CleanupStage(t.Context()); err == nil || !strings.Contains(j.log.String(), "cleanroom room wipe "+testRoom) {
		t.Errorf("%v: %s", err, j.log.String())
	}
	if strings.Contains(j.log.String()+j.out.String(), testKey) {
		t.Error("a key in a log")
	}
}
