package detach

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/executor/secret/hostkey/durable"
)

// The test binary, as a driver and as what a driver detaches.
func init() {
	switch role := os.Getenv("CLEANROOM_TEST_ROLE"); role {
	case "driver":
		self, _ := os.Executable()
		os.Setenv("CLEANROOM_TEST_ROLE", "detached")
		if err := Start(self, []string{os.Getenv("CLEANROOM_TEST_DIR")}, os.Environ()); err != nil {
			fmt.Println(err)
		}
		os.Exit(0)
	case "detached":
		dir := os.Args[1]
		cwd, _ := os.Getwd()
		sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
		open, _ := os.ReadDir("/proc/self/fd")
		var files []string
		for _, fd := range open {
			to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
			files = append(files, to)
		}
		text, _ := json.Marshal(detached{os.Getpid(), int(sid), cwd, os.Environ(), files})
		durable.Write(filepath.Join(dir, "seen"), text)
		io.Copy(io.Discard, func() io.Reader { f, _ := os.Open(filepath.Join(dir, "pipe")); return f }()) // until the test lets it go
		os.Exit(0)
	}
}

type detached struct {
	Pid, Sid int
	Cwd      string
	Env      []string
	Files    []string
}

// What is detached keeps neither the driver nor the runner that reads its
// output waiting, and has nothing of the job.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	inherited, err := os.Create(filepath.Join(dir, "inherited"))
	if err != nil {
		t.Fatal(err)
	}
	defer inherited.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	driver := exec.Command(self)
	driver.Env = append(os.Environ(), "CLEANROOM_TEST_ROLE=driver", "CLEANROOM_TEST_DIR="+dir, "CUSTOM_ENV_TOKEN=canary", "CLEANROOM_KEY=canary",
		"JOB_RESPONSE_FILE=/canary", "CLEANROOM_LOG_LEVEL=debug", "HTTPS_PROXY=http://proxy.test")
	driver.ExtraFiles = []*os.File{inherited}
	driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := driver.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	driver.Stderr = driver.Stdout
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(bufio.NewReader(out)) // ends when nobody has the pipe
	if err != nil || len(said) > 0 {
		t.Errorf("%v %s", err, said)
	}
	if err := driver.Wait(); err != nil {
		t.Error(err)
	}
	syscall.Kill(-driver.Process.Pid, syscall.SIGKILL) // as the runner does, to all of the stage's group
	var d detached
	until(t, "it runs", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "seen"))
		return err == nil && json.Unmarshal(text, &d) == nil
	})
	if d.Sid != d.Pid || d.Cwd != "/" {
		t.Errorf("%+v", d)
	}
	if env := strings.Join(d.Env, "\n"); strings.Contains(env, "canary") || !strings.Contains(env, "CLEANROOM_LOG_LEVEL=debug") || !strings.Contains(env, "HTTPS_PROXY=") {
		t.Errorf("environment %q", env)
	}
	if slices.Contains(d.Files, inherited.Name()) {
		t.Errorf("open: %q", d.Files)
	}
	// It still runs: somebody reads here. Closing lets it go.
	var w *os.File
	until(t, "it reads", func() bool {
		w, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	w.Close()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in 20 s: %s", what)
		}
	}
}
