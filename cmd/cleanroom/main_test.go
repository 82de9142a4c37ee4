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

	"cleanroom/cmd/internal/clitest"
	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/cache"
)

// programs is the folder with the three, built once, before the scripts.
var programs string

type builder struct{ m *testing.M }

func (b builder) Run() int {
	dir, err := os.MkdirTemp("", "cleanroom-cli-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	programs = dir
	err = errors.Join(build(dir, version, nil, "cleanroom", "cleanroom-admin", "cleanroom-init"), build(filepath.Join(dir, "old"), "0.0.9-old", nil, "cleanroom"))
	if err != nil {
		panic(err)
	}
	return b.m.Run()
}

// build builds programs of ours into a folder, as make does.
func build(dir, version string, flags []string, names ...string) error {
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w -X main.version=" + version, "-o", dir + "/"}, flags...)
	for _, name := range names {
		args = append(args, "cleanroom/cmd/"+name)
	}
	command := exec.Command("go", args...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

func TestMain(m *testing.M) {
	if os.Getenv(echoVariable) != "" {
		echo()
		return
	}
	testscript.Main(builder{m}, map[string]func(){"sign": sign})
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
			e.Setenv("PATH", programs+":"+os.Getenv("PATH"))
			e.Setenv("PROGRAMS", programs)
			e.Setenv("INIT", filepath.Join(programs, "cleanroom-init"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": clitest.Exits, "lines": clitest.Lines, "answer": answer, "differ": differ, "room": room, "keep": keep,
		},
	})
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
