package gitlab

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
)

// startRunner runs the real gitlab-runner with its shell executor against a server.
func startRunner(t *testing.T, s *Server) {
	t.Helper()
	binary := os.Getenv("GITLAB_RUNNER")
	if binary == "" {
		t.Fatal("GITLAB_RUNNER is not set to a gitlab-runner: run make test, which builds one")
	}
	dir := t.TempDir()
	config := fmt.Sprintf(`concurrent = 2
check_interval = 1
shutdown_timeout = 1
[[runners]]
  name = "real"
  url = %q
  token = %q
  executor = "shell"
  shell = "bash"
  builds_dir = "%[3]s/builds"
  cache_dir = "%[3]s/cache"
`, s.URL(), s.RunnerToken(), dir)
	file := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.Command(binary, "run", "--config", file, "--working-directory", dir)
	cmd.Env = append(os.Environ(), "HOME="+dir)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		cmd.Wait()
		late.Stop()
		if t.Failed() {
			t.Logf("the runner's own log:\n%s", log.String())
		}
	})
}

func TestRealRunner(t *testing.T) {
	for _, awkward := range []bool{false, true} {
		t.Run(fmt.Sprintf("awkward=%t", awkward), func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Seed: 7, Awkward: awkward})
			startRunner(t, s)
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
			defer cancel()
			realPipeline(ctx, t, s)
			realCancel(ctx, t, s)
		})
	}
}

const realFile = `
stages: [make, use]
maker:
  stage: make
  script:
    - git log -1 --format=%s
    - mkdir out && cat data.txt > out/made.txt
    - echo "GREETING=hello from $CI_JOB_NAME" > v.env
    - seq 20000
  artifacts:
    paths: [out/]
    reports: {dotenv: v.env}
  cache: {key: deps, paths: [data.txt]}
user:
  stage: use
  script:
    - cat out/made.txt
    - echo "$GREETING"
    - echo "masked <$SECRET>"
  after_script: [echo "after $CI_JOB_STATUS"]
failer:
  stage: use
  script: ["(exit 42)"]
  allow_failure: {exit_codes: 42}
  artifacts: {paths: [data.txt], when: on_failure, name: failed}
`

func realPipeline(ctx context.Context, t *testing.T, s *Server) {
	must[string](t)(s.AddProject(ctx, Project{Path: "shop/items", Message: "the subject\n\nthe body",
		Dir:       files(t, map[string]string{".gitlab-ci.yml": realFile, "data.txt": "some data\n"}),
		Variables: []ProjectVariable{{Variable: Variable{Key: "SECRET", Value: "do-not-show-me", Masked: true}}}}))
	p := must[PipelineStatus](t)(s.WaitPipeline(ctx, must[int64](t)(s.Pipeline(ctx, "shop/items", "main"))))
	trace := map[string]string{}
	for _, st := range p.Jobs {
		full := must[JobStatus](t)(s.Job(ctx, st.ID))
		trace[st.Name] = string(full.Trace)
		if st.TraceError != "" || st.TraceBytes == 0 || st.FirstTraceAt.IsZero() || st.Runner.Executor != "shell" {
			t.Errorf("%s: %+v", st.Name, st)
		}
	}
	if p.State != job.Success {
		t.Errorf("pipeline: %s\n%v", p.State, trace)
	}
	for name, texts := range map[string][]string{
		"maker":  {"the subject", "19999", "Job succeeded"},
		"user":   {"some data", "hello from maker", "masked <[MASKED]>", "after success"},
		"failer": {"exit status 42"},
	} {
		for _, text := range texts {
			if !strings.Contains(trace[name], text) {
				t.Errorf("%q is not in the trace of %s:\n%s", text, name, trace[name])
			}
		}
	}
	failer, _ := p.Job("failer")
	if failer.State != job.Failed || failer.ExitCode != 42 || !failer.Allowed || failer.FailureReason != "script_failure" {
		t.Errorf("failer: %+v", failer)
	}
	maker, _ := p.Job("maker")
	body := must[[]byte](t)(s.Artifact(ctx, maker.ID, "archive"))
	z := must[*zip.Reader](t)(zip.NewReader(bytes.NewReader(body), int64(len(body))))
	made := must[io.ReadCloser](t)(z.Open("out/made.txt"))
	if text := must[[]byte](t)(io.ReadAll(made)); string(text) != "some data\n" {
		t.Errorf("archive: %q", text)
	}
}

func realCancel(ctx context.Context, t *testing.T, s *Server) {
	for _, gracefully := range []bool{true, false} {
		id := must[int64](t)(s.Submit(ctx, JobSpec{Name: "long", Script: []string{"echo REA''DY", "for i in $(seq 1000); do echo tick; sleep 0.3; done"},
			AfterScript: []string{"echo af''ter $CI_JOB_STATUS"}}))
		must[JobStatus](t)(s.WaitTrace(ctx, id, "READY"))
		if err := s.Cancel(ctx, id, gracefully); err != nil {
			t.Fatal(err)
		}
		st := must[JobStatus](t)(s.Wait(ctx, id))
		if st.State != job.Canceled || st.LetGoAt.Sub(st.CancelAt) > 2*time.Minute { // of five that it would go on
			t.Errorf("%s %s after the cancel", st.State, st.LetGoAt.Sub(st.CancelAt))
		}
		if after := strings.Contains(string(st.Trace), "after canceled"); after != gracefully {
			t.Errorf("after_script ran: %t, gracefully: %t\n%s", after, gracefully, st.Trace)
		}
	}
}
