package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/cache"
)

// initBinary is named by a variable that only reaches this test process: the
// commands under test are this binary again, and must not build one each.
const initBinary = "TEST_INIT_BINARY"

// builder builds init once, before the scripts.
type builder struct{ m *testing.M }

func (b builder) Run() int {
	dir, err := os.MkdirTemp("", "cleanroom-cli-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "cleanroom-init")
	build := exec.Command("go", "build", "-ldflags", "-X main.version="+version, "-o", path, "cleanroom/cmd/cleanroom-init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(string(out))
	}
	os.Setenv(initBinary, path)
	return b.m.Run()
}

func TestMain(m *testing.M) {
	testscript.Main(builder{m}, map[string]func(){"cleanroom": main, "sign": sign})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			var id [6]byte
			rand.Read(id[:])
			state, err := os.MkdirTemp("/dev/shm", "cleanroom-cli-test-")
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(state) })
			unique := hex.EncodeToString(id[:])
			e.Defer(func() { // a script that failed half-way leaves nothing either
				exec.Command("docker", "volume", "rm", "--force", "cr-new-"+unique+"-builds", "cr-old-"+unique+"-builds").Run()
			})
			e.Setenv("UNIQUE", unique)
			e.Setenv("STATE", state)
			e.Setenv("CLEANROOM_STATE_DIR", state)
			data, err := os.MkdirTemp("", "cleanroom-cli-test-") // never the machine's: scripts run side by side
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(data) })
			e.Setenv("CLEANROOM_DATA_DIR", data)
			e.Setenv("CLEANROOM_ENGINE_INIT_PATH", os.Getenv(initBinary))
			e.Setenv("INIT", os.Getenv(initBinary))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "lines": lines, "answer": answer, "differ": differ, "room": room, "keep": keep,
		},
	})
}

// exits CODE PROGRAM ARGS... runs a program that must exit so.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// keep DATA PROJECT ID KEY CONTENT keeps a cache, as a job of a protected ref.
func keep(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: keep DATA PROJECT ID KEY CONTENT")
	}
	cfg := config.Default()
	cfg.DataDir = args[0]
	d, err := executor.Caches(cfg).Draft(0)
	ts.Check(err)
	_, err = io.WriteString(d, args[4])
	ts.Check(err)
	id, err := strconv.ParseInt(args[2], 10, 64)
	ts.Check(err)
	ts.Check(d.Keep(cache.Header{
		Place: cache.Place{Instance: "abc", ProjectID: id, Protected: true, Path: args[3]},
		Key:   args[3], Project: args[1], Job: 7, Created: time.Now(), Modified: time.Now(),
	}))
}

// lines FILE N counts a file's lines (stdout and stderr are files, too).
func lines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: lines FILE N")
	}
	if n := strings.Count(ts.ReadFile(args[0]), "\n"); strconv.Itoa(n) != args[1] {
		ts.Fatalf("%s has %d lines, want %s", args[0], n, args[1])
	}
}

// answer reads what `cleanroom config` printed, as the runner does, and sets
// the variables of its job_env.
func answer(ts *testscript.TestScript, neg bool, args []string) {
	var out struct {
		BuildsDir string `json:"builds_dir"`
		CacheDir  string `json:"cache_dir"`
		Shared    *bool  `json:"builds_dir_is_shared"`
		Driver    struct{ Name, Version string }
		JobEnv    map[string]string `json:"job_env"`
	}
	d := json.NewDecoder(strings.NewReader(ts.ReadFile("stdout")))
	d.DisallowUnknownFields()
	ts.Check(d.Decode(&out))
	if out.BuildsDir != "/builds" || out.CacheDir != "/cache" || out.Shared == nil || *out.Shared ||
		out.Driver.Name != "cleanroom" || out.Driver.Version != version || !strings.HasPrefix(out.JobEnv["CLEANROOM_ROOM"], "cr-") {
		ts.Fatalf("the answer is %+v", out)
	}
	if key, err := hex.DecodeString(out.JobEnv["CLEANROOM_KEY"]); err != nil || len(key) != 32 {
		ts.Fatalf("CLEANROOM_KEY is no key")
	}
	for name, value := range out.JobEnv {
		if !slices.Contains([]string{"CLEANROOM_ROOM", "CLEANROOM_KEY", "CLEANROOM_RUNNER", "CLEANROOM_STATE_DIR", "CLEANROOM_DATA_DIR", "CLEANROOM_ENGINE_HOST"}, name) {
			ts.Fatalf("job_env has %s", name)
		}
		ts.Setenv(name, value)
	}
}

// differ A B fails when both are the same.
func differ(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 || args[0] == args[1] {
		ts.Fatalf("want two words that differ, got %q", args)
	}
}

// room N says how many containers of $CLEANROOM_ROOM are on the engine; at
// the script's end they are removed, whatever happened.
func room(ts *testscript.TestScript, neg bool, args []string) {
	name := ts.Getenv("CLEANROOM_ROOM")
	if neg || len(args) != 1 || name == "" {
		ts.Fatalf("usage: room N, after answer")
	}
	filter := "label=cleanroom.room=" + name
	ts.Defer(func() { removeLabelled(filter) })
	out, err := exec.Command("docker", "ps", "--quiet", "--filter", filter).Output()
	ts.Check(err)
	if n := len(strings.Fields(string(out))); strconv.Itoa(n) != args[0] {
		ts.Fatalf("%d containers run, want %s", n, args[0])
	}
}

// removeLabelled is for a script that failed half-way: what a good one made is gone.
func removeLabelled(filter string) {
	for _, kind := range [][]string{{"container", "--all", "--force"}, {"network", "", ""}, {"volume", "", "--force"}} {
		list := []string{kind[0], "ls", "--quiet", "--filter", filter}
		if kind[1] != "" {
			list = append(list, kind[1])
		}
		out, err := exec.Command("docker", list...).Output()
		if err != nil || len(out) == 0 {
			continue
		}
		remove := []string{kind[0], "rm"}
		if kind[2] != "" {
			remove = append(remove, kind[2])
		}
		exec.Command("docker", append(remove, strings.Fields(string(out))...)...).Run()
	}
}

// Every command says in one line what it does and shows how it is called.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 70 {
			t.Errorf("%s: short text %q", c.CommandPath(), c.Short)
		}
		if c.Runnable() && !c.HasSubCommands() && !strings.HasPrefix(c.Example, "  "+c.CommandPath()) {
			t.Errorf("%s: example %q", c.CommandPath(), c.Example)
		}
		for _, line := range strings.Split(c.Example, "\n") {
			if line != "" && !strings.HasPrefix(line, "  cleanroom ") {
				t.Errorf("%s: example %q", c.CommandPath(), line)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
	if e := (exitError{code: 7}); e.Error() != fmt.Sprint("exit code ", 7) || errors.Unwrap(e) != nil {
		t.Errorf("%v", e)
	}
}

func TestJobOf(t *testing.T) {
	for room, want := range map[string]int64{"cr-a1b2c3d4e-4711-0123456789": 4711, "cr-a-b-7-0123456789": 7, "": 0, "cr-4711": 0, "cr-a-b-c": 0, "xx-a-7-b": 0} {
		if got, ok := jobOf(room); got != want || ok != (want != 0) {
			t.Errorf("%q: %d, %v", room, got, ok)
		}
	}
}
