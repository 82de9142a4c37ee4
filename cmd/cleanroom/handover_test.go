package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// echoVariable has this test say, in the place of cleanroom-admin, what it was
// given.
const echoVariable = "TEST_ECHO"

// given is what a process has from who started it.
type given struct {
	PID       int
	Args, Env []string
	Stdin     string
	Signals   []string // blocked and ignored ones (proc_pid_status(5))
}

var signalsRE = regexp.MustCompile(`(?m)^Sig(?:Blk|Ign):.*$`)

func echo() {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		panic(err)
	}
	stdin, err := io.ReadAll(os.Stdin)
	if err != nil {
		panic(err)
	}
	g := given{os.Getpid(), os.Args, os.Environ(), string(stdin), signalsRE.FindAllString(string(status), -1)}
	if err := json.NewEncoder(os.Stdout).Encode(g); err != nil {
		panic(err)
	}
}

// What takes our place has all that we had: number, arguments, environment,
// standard input, and signals as they were.
func TestHandOver(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{self: "cleanroom-admin", filepath.Join(programs, "cleanroom"): "cleanroom"} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rules := filepath.Join(dir, "rules.toml")
	if err := os.WriteFile(rules, []byte("[[policy.rule]]\nname = \"all\"\nwhen = \"true\"\nimages = [\"**\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	job := filepath.Join(dir, "job.json")
	if err := os.WriteFile(job, []byte(`{"id": 7009, "job_info": {"project_id": 3}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(program string, args ...string) (given, int) {
		t.Helper()
		c := exec.Command(filepath.Join(dir, program), args...)
		c.Env = append(os.Environ(), echoVariable+"=1", "CUSTOM_ENV_A=one\ntwo", "CUSTOM_ENV_EMPTY=", "JOB_RESPONSE_FILE="+job,
			"CLEANROOM_ROOM=cr-x-7009-0123456789", "CLEANROOM_KEY="+strings.Repeat("0a", 32))
		c.Stdin = strings.NewReader("asked for\x00")
		var out, wrong bytes.Buffer
		c.Stdout, c.Stderr = &out, &wrong
		if err := c.Run(); err != nil {
			t.Fatalf("%v: %s", err, &wrong)
		}
		var g given
		if err := json.Unmarshal(out.Bytes(), &g); err != nil {
			t.Fatalf("%v: %s", err, &out)
		}
		return g, c.Process.Pid
	}
	for _, args := range [][]string{{}, {"doctor", "--x=ü", "", "\xff"}, {"run"}, {"--config", rules, "prepare"}, {"prepare", "--config=" + rules}} {
		want, _ := run("cleanroom-admin", args...)
		got, pid := run("cleanroom", args...)
		want.Args[0], want.PID = filepath.Join(dir, "cleanroom"), pid
		i := slices.Index(got.Env, "CLEANROOM_FRONT="+version+" "+filepath.Join(dir, "cleanroom"))
		if i < 0 {
			t.Fatalf("%q: nobody is told who called: %q", args, got.Env)
		}
		got.Env = slices.Delete(got.Env, i, i+1)
		slices.Sort(got.Env)
		slices.Sort(want.Env)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%q: got\n%+v, want\n%+v", args, got, want)
		}
	}
}

// What is no stage as the runner calls it is not ours.
func TestParse(t *testing.T) {
	t.Setenv("CLEANROOM_CONFIG", "/env")
	for line, want := range map[string]string{
		"config": "config /env", "prepare": "prepare /env", "cleanup": "cleanup /env", "run a b": "run a b /env", "run - b": "run - b /env",
		"--config c config": "config c", "--config=c config": "config c", "run a --config c b": "run a b c", "run a b --config=c --config d": "run a b d",
		"--config= config": "config /env",
		"":                 "", "--config": "", "config x": "", "run a": "", "run a b c": "", "run a b --config": "", "--help": "", "config -h": "", "config --help": "",
		"run -- a b": "", "-c config": "", "--configs c config": "", "doctor": "", "--config c doctor": "", "Config": "", "audit run a b": "", "version": "",
	} {
		stage, args, config, ok := parse(strings.Fields(line))
		got := ""
		if ok {
			got = strings.Join(append(append([]string{stage.Name}, args...), config), " ")
		}
		if got != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
}

// Each of these takes longer to load than all that this program does: what
// needs one belongs to cleanroom-admin.
func TestLoadsLittle(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "cleanroom/cmd/cleanroom").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	for _, prefix := range []string{
		"cel.dev/", "github.com/google/cel-go", "github.com/antlr4-go", "github.com/hashicorp/", "github.com/aws/", "github.com/santhosh-tekuri/jsonschema",
		"go.opentelemetry.io/proto", "google.golang.org/", "github.com/in-toto/", "github.com/secure-systems-lab/", "gitlab.com/gitlab-org/api/",
		"github.com/spf13/cobra", "github.com/leodido/", "filippo.io/age",
		"cleanroom/executor/secret/provider", "cleanroom/executor/audit/forward", "cleanroom/executor/audit/ledger", "cleanroom/executor/audit/provenance/",
		"cleanroom/executor/register", "cleanroom/executor/doctor",
	} {
		if i := slices.IndexFunc(deps, func(d string) bool { return strings.HasPrefix(d, prefix) }); i >= 0 {
			t.Errorf("it links %s", deps[i])
		}
	}
	if len(deps) < 100 || !slices.Contains(deps, "cleanroom/executor") {
		t.Errorf("these are not all: %q", deps)
	}
}
