package doctor

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"cleanroom/config"
)

func is(t *testing.T, c Check, status Status, text string) {
	t.Helper()
	if c.Status != status || !strings.Contains(c.Detail+" -> "+c.Remedy, text) || (c.Remedy == "") != (status == OK) {
		t.Errorf("%+v; want %s, %q", c, status, text)
	}
}

func find(t *testing.T, checks []Check, name string) Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, checks)
	return Check{}
}

// built is a static program.
func built(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "cleanroom-init")
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", path, "main.go")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func TestRun(t *testing.T) {
	cfg := config.Default()
	cfg.StateDir = filepath.Join(t.TempDir(), "state")
	checks := Run(context.Background(), cfg, Options{InitPath: "/nowhere/cleanroom-init"})
	is(t, find(t, checks, "engine"), OK, "Docker Engine ")
	is(t, find(t, checks, "init"), Fail, "/nowhere/cleanroom-init")
	is(t, find(t, checks, "seccomp"), OK, "profile")
	is(t, find(t, checks, "clock"), OK, "to the second")
	is(t, find(t, checks, "cgroups"), find(t, checks, "cgroups").Status, "version ")
	is(t, find(t, checks, "helper image"), find(t, checks, "helper image").Status, "GitLab's own")
	is(t, find(t, checks, "default image"), OK, "none")
	is(t, find(t, checks, "runtime"), OK, "the engine's default")
	if !Failed(checks) {
		t.Error("a missing init is no failure")
	}
	var b bytes.Buffer
	if err := Print(&b, checks); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != len(checks) {
		t.Errorf("%d lines for %d checks:\n%s", len(lines), len(checks), b.String())
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, string(checks[i].Status)) || strings.Contains(line, " -> ") != (checks[i].Status != OK) {
			t.Errorf("%q", line)
		}
	}
	t.Log("\n" + b.String())
}

func TestEngineChecks(t *testing.T) {
	cfg := config.Default()
	e, c := ask(context.Background(), cfg)
	if e == nil {
		t.Fatalf("%+v", c)
	}
	defer e.api.Close()

	cfg.Engine.Runtime = "no-such-runtime"
	is(t, e.runtime(cfg), Fail, "the engine does not know no-such-runtime, only ")
	cfg.Engine.Runtime = "runc"
	is(t, e.runtime(cfg), OK, "runc")
	cfg.Engine.Runtime = "io.containerd.runsc.v1"
	is(t, e.runtime(cfg), Warn, "shim")

	cfg.Images.PullPolicies = []string{"never"}
	is(t, e.image(context.Background(), "x", "cleanroom.test/no-such-image:1", cfg), Fail, "is never pulled")
	cfg.Images.PullPolicies = []string{"always", "never"}
	is(t, e.image(context.Background(), "x", "cleanroom.test/no-such-image:1", cfg), Fail, "is not there and cannot be pulled")
	is(t, e.gitlabHelper(context.Background(), "cleanroom.test/no-such-image", cfg), Warn, "could not be looked for")
	is(t, e.gitlabHelper(context.Background(), "cleanroom/busybox", cfg), OK, "cleanroom/busybox:latest is there")

	cfg.Limits.Memory = "64t"
	is(t, e.memory(cfg), Warn, "lower limits.memory")

	// What this engine is not, it is made to say.
	for name, test := range map[string]struct {
		change func()
		check  func() Check
		status Status
		text   string
	}{
		"debug":      {func() { e.info.Debug = true }, e.debug, Warn, "daemon.json"},
		"no seccomp": {func() { e.info.SecurityOptions = nil }, e.seccomp, Fail, "has none"},
		"unconfined": {func() { e.info.SecurityOptions = []string{"name=seccomp,profile=unconfined"} }, e.seccomp, Fail, "unconfined"},
		"plain ids":  {func() { e.info.SecurityOptions = nil }, e.userns, Warn, "userns-remap"},
		"mapped ids": {func() { e.info.SecurityOptions = []string{"name=userns"} }, e.userns, OK, "mapped"},
		"rootless":   {func() { e.info.SecurityOptions = []string{"name=rootless"} }, e.userns, OK, "rootless"},
		"no pids":    {func() { e.info.PidsLimit = false }, func() Check { return e.cgroups(cfg) }, Fail, "pids"},
		"vfs":        {func() { e.info.Driver = "vfs" }, e.storage, Warn, "overlay2"},
		"late":       {func() { e.skew = -time.Minute }, e.clock, Fail, "differs by -1m0s"},
		"elsewhere":  {func() { e.local = false }, e.space, OK, "not in sight"},
	} {
		info, skew, local := e.info, e.skew, e.local
		test.change()
		t.Run(name, func(t *testing.T) { is(t, test.check(), test.status, test.text) })
		e.info, e.skew, e.local = info, skew, local
	}
}

// A registry, as an engine that has no images sees it.
func TestRegistry(t *testing.T) {
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		w.Header().Set("Content-Type", "application/json")
		switch {
		case path == "images/json":
			w.Write([]byte("[]"))
		case strings.HasPrefix(path, "distribution/"):
			asked = append(asked, path)
			switch {
			case strings.Contains(path, "slow"):
				<-r.Context().Done()
			case strings.Contains(path, "good") && r.Header.Get("X-Registry-Auth") != "":
				w.Write([]byte(`{"Descriptor": {}, "Platforms": []}`))
			default:
				w.WriteHeader(http.StatusUnauthorized)
				w.Write([]byte(`{"message": "refused"}`))
			}
		default:
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"message": "No such image"}`))
		}
	}))
	defer server.Close()
	api, err := client.NewClientWithOpts(client.WithHost("tcp://"+server.Listener.Addr().String()), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	e, ctx, cfg := &engine{api: api}, context.Background(), config.Default()
	cfg.Images.PullPolicies = []string{"if-not-present"}
	cfg.Images.AuthConfig = `{"auths": {"cleanroom.test": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("me:secret")) + `"}}}`
	is(t, e.image(ctx, "x", "cleanroom.test/good:1", cfg), OK, "will be pulled")
	is(t, e.image(ctx, "x", "cleanroom.test/bad:1", cfg), Fail, "refused")
	is(t, e.image(ctx, "x", "elsewhere.test/good:1", cfg), Fail, "refused")
	hasty := cfg
	hasty.Engine.Timeout = 300 * time.Millisecond
	is(t, e.image(ctx, "x", "cleanroom.test/slow:1", hasty), Fail, "does not answer")
	is(t, e.gitlabHelper(ctx, "cleanroom.test/good", cfg), OK, "will be pulled")
	e.info.Architecture = "aarch64"
	is(t, e.gitlabHelper(ctx, "cleanroom.test/bad", cfg), Warn, "make images")
	if got := strings.Join(asked, " "); !strings.Contains(got, "good:x86_64-latest/json") || !strings.Contains(got, "bad:arm64-latest/json") {
		t.Error(got)
	}
}

func TestBrokenHosts(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // takes connections and says nothing
	plain := filepath.Join(t.TempDir(), "socket")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mute := "tcp://" + listener.Addr().String()
	for host, want := range map[string]string{
		"unix:///nowhere/docker.sock": "start the engine, or set engine.host",
		"unix://" + plain:             "cannot be reached",
		"tcp://127.0.0.1:1":           "cannot be reached",
		mute:                          "does not answer",
		"nonsense":                    "set engine.host",
	} {
		cfg := config.Default()
		cfg.Engine.Host = host
		if host == mute { // the others are to have time to say what is wrong with them
			cfg.Engine.Timeout = 300 * time.Millisecond
		}
		checks := Run(context.Background(), cfg, Options{InitPath: "/nowhere"})
		is(t, find(t, checks, "engine"), Fail, want)
		for _, c := range checks {
			if c.Name == "seccomp" {
				t.Errorf("%s: asked an engine that is not there: %+v", host, c)
			}
		}
	}
}

func TestInitBinary(t *testing.T) {
	ctx := context.Background()
	source := "package main\n\nimport \"os\"\n\nfunc main() { os.Stdout.WriteString(\"1.2\\n\") }\n"
	good := built(t, source)
	opts := func(path string) Options { return Options{InitPath: path, Version: "1.2"} }
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	is(t, initBinary(ctx, opts(good), arch), OK, "1.2, static")
	is(t, initBinary(ctx, Options{InitPath: good, Version: "1.3"}, arch), Fail, `is "1.2", cleanroom is "1.3"`)
	is(t, initBinary(ctx, opts(good), "s390x"), Fail, "the engine is s390x")
	is(t, initBinary(ctx, opts(t.TempDir()), arch), Fail, "no plain file")
	is(t, initBinary(ctx, opts("/bin/ls"), arch), Fail, "is not static")

	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	is(t, initBinary(ctx, opts(script), arch), Fail, "no ELF binary")
	for mode, want := range map[os.FileMode]string{0o644: "not executable", 0o777: "may be changed by others"} {
		if err := os.Chmod(good, mode); err != nil {
			t.Fatal(err)
		}
		is(t, initBinary(ctx, opts(good), arch), Fail, want)
	}
}

func TestFolders(t *testing.T) {
	memory, err := os.MkdirTemp("/dev/shm", "doctor")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(memory)
	disk := t.TempDir() // wherever that is, both are allowed to say so
	_, diskless, err := inMemory(disk)
	if err != nil {
		t.Fatal(err)
	}

	is(t, stateDir(memory), OK, "in memory")
	is(t, stateDir(filepath.Join(memory, "a/b")), OK, "will be made")
	is(t, stateDir("/proc/x/y"), Fail, "cannot be made")
	if entries, err := os.ReadDir(memory); err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	is(t, runnerTmp(memory), OK, "in memory")
	is(t, runnerTmp(filepath.Join(memory, "a")), Fail, "is no folder")
	if !diskless {
		is(t, stateDir(filepath.Join(disk, "x")), Warn, "would be on a disk")
		if err := os.Chmod(disk, 0o700); err != nil {
			t.Fatal(err)
		}
		is(t, stateDir(disk), Warn, "is on a disk")
		is(t, runnerTmp(disk), Warn, "tokens in clear")
	}

	file, link := filepath.Join(memory, "file"), filepath.Join(memory, "link")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(memory, link); err != nil {
		t.Fatal(err)
	}
	is(t, stateDir(file), Fail, "is no folder")
	is(t, stateDir(filepath.Join(file, "x")), Fail, "not a directory")
	is(t, stateDir(link), Fail, "is no folder")
	for mode, want := range map[os.FileMode]Status{0o755: Warn, 0o777: Fail, 0o777 | os.ModeSticky: Warn} {
		if err := os.Chmod(memory, mode); err != nil {
			t.Fatal(err)
		}
		is(t, runnerTmp(memory), want, "0700")
		is(t, stateDir(memory), Fail, "chmod 0700")
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(memory, 12, 34); err != nil {
			t.Fatal(err)
		}
		is(t, stateDir(memory), Fail, "belongs to uid 12")
	}
}

func TestLogFile(t *testing.T) {
	dir := t.TempDir()
	path, link, pipe := filepath.Join(dir, "log"), filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	is(t, logFile(path), OK, "will be made")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	is(t, logFile(link), OK, "will be made")
	if _, err := os.Lstat(link); err != nil {
		t.Error("the link is gone")
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the log is left behind")
	}
	if err := os.WriteFile(path, []byte("a line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	is(t, logFile(path), OK, path)
	if text, err := os.ReadFile(path); err != nil || string(text) != "a line\n" {
		t.Errorf("%q, %v", text, err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	is(t, logFile(pipe), Fail, "log.file")
	is(t, logFile(dir), Fail, "is a directory")
	is(t, logFile(filepath.Join(dir, "none/log")), Fail, "make its folder")

	is(t, metricsFile(filepath.Join(dir, "x.prom")), OK, "x.prom")
	if found, _ := os.ReadDir(dir); len(found) != 3 {
		t.Errorf("left: %v", found)
	}

	cfg := config.Default()
	cfg.Engine.Host, cfg.Log.File, cfg.StateDir, cfg.Metrics.File = "unix:///nowhere/docker.sock", "/nowhere/log", "/proc/x", "/nowhere/x.prom"
	checks := Run(context.Background(), cfg, Options{})
	is(t, find(t, checks, "metrics file"), Fail, "make its folder")
	is(t, find(t, checks, "log file"), Fail, "/nowhere/log")
	is(t, find(t, checks, "state folder"), Fail, "cannot be made")
}

func TestReversePath(t *testing.T) {
	dir := t.TempDir()
	is(t, reversePath(dir), Warn, "look for yourself")
	for _, test := range []struct {
		all, standard string
		status        Status
	}{{"0", "0", Warn}, {"1", "0", OK}, {"0", "2", OK}} {
		for which, value := range map[string]string{"all": test.all, "default": test.standard} {
			if err := errors.Join(os.MkdirAll(filepath.Join(dir, which), 0o700),
				os.WriteFile(filepath.Join(dir, which, "rp_filter"), []byte(value+"\n"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		is(t, reversePath(dir), test.status, "")
	}
	cfg := config.Default()
	cfg.Engine.Host, cfg.Profile = "unix:///nowhere/docker.sock", "strict"
	find(t, Run(context.Background(), cfg, Options{}), "rp_filter")
}

func TestSwapAndCoreDumps(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const heading = "Filename\tType\tSize\tUsed\tPriority\n"
	write("dm-7/dm/uuid", "CRYPT-PLAIN-swap\n")
	write("dm-8/dm/uuid", "LVM-x\n")
	write("zram0/backing_dev", "none\n")
	write("zram1/backing_dev", "/dev/sda\n")
	for devices, want := range map[string]string{
		"":                          "none",
		"/dev/dm-7 /dev/zram0":      "encrypted or in memory",
		"/dev/dm-7 /dev/dm-8":       "/dev/dm-8 is not encrypted",
		"/dev/zram1":                "/dev/zram1 is not",
		"/swapfile /nowhere/zram9x": "/swapfile is not",
	} {
		text := heading
		for _, d := range strings.Fields(devices) {
			text += d + "\tpartition\t1\t0\t-2\n"
		}
		status := OK
		if strings.Contains(want, "is not") {
			status = Warn
		}
		is(t, swap(write("swaps", text), dir), status, want)
	}
	is(t, swap(filepath.Join(dir, "none"), dir), Warn, "swapon --show")
}
