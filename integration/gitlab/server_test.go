package gitlab

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

func TestTraceRanges(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	id := must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "one", Script: []string{"true"}}))
	j := f.take()
	for _, step := range []struct {
		start   int
		text    string
		code    int
		ranging string
	}{
		{0, "hello ", 202, "0-6"},
		{0, "hello ", 416, "0-6"},
		{9, "gap", 416, "0-6"},
		{6, "world", 202, "0-11"},
	} {
		res := f.patch(j, step.start, step.text)
		if res.StatusCode != step.code || res.Header.Get("Range") != step.ranging || res.Header.Get("Job-Status") != "running" {
			t.Errorf("%q at %d: %s, range %q, job %q", step.text, step.start, res.Status, res.Header.Get("Range"), res.Header.Get("Job-Status"))
		}
	}
	if res := f.put(j, "running", "", nil); res.StatusCode != 200 {
		t.Errorf("sign of life: %s", res.Status)
	}
	if res := f.put(j, "success", "hello world, and more", nil); res.StatusCode != 412 {
		t.Errorf("final update with another trace: %s", res.Status)
	}
	if res := f.patch(j, 0, "hello world"); res.StatusCode != 202 {
		t.Errorf("whole trace again: %s", res.Status)
	}
	if res := f.put(j, "success", "hello world", nil); res.StatusCode != 200 {
		t.Errorf("final update: %s", res.Status)
	}
	st := must[JobStatus](t)(s.Wait(soon(t), id))
	if st.State != job.Success || string(st.Trace) != "hello world" || st.TraceError != "" || st.Patches != 5 || st.Runner.Executor != "fake" {
		t.Errorf("%+v", st)
	}
	if !st.CreatedAt.Before(st.HandedAt) || !st.HandedAt.Before(st.FirstTraceAt) || !st.FirstTraceAt.Before(st.FinalAt) {
		t.Errorf("times out of order: %+v", st)
	}
	if res := f.patch(j, 11, "late"); res.StatusCode != 403 || res.Header.Get("Job-Status") != "success" {
		t.Errorf("patch of a job that is over: %s", res.Status)
	}
}

func TestRequestEndsWhenAJobComes(t *testing.T) {
	s := serve(t, Options{Hold: time.Hour})
	f := fakeRunner{t, s}
	start := time.Now()
	go func() {
		time.Sleep(50 * time.Millisecond)
		s.Submit(context.Background(), JobSpec{Name: "late", Script: []string{"true"}})
	}()
	j := f.take()
	if j.JobInfo.Name != "late" || time.Since(start) > 2*time.Minute {
		t.Errorf("job %q after %s", j.JobInfo.Name, time.Since(start))
	}
}

func TestTokens(t *testing.T) {
	s := serve(t, Options{Hold: time.Millisecond})
	f := fakeRunner{t, s}
	res, _ := f.send("POST", "/api/v4/jobs/request", nil, map[string]string{"token": "wrong"})
	if res.StatusCode != 403 {
		t.Errorf("request with a wrong token: %s", res.Status)
	}
	res, _ = f.send("POST", "/api/v4/jobs/request", nil, map[string]string{"token": s.RunnerToken()})
	if res.StatusCode != 204 || res.Header.Get("X-GitLab-Last-Update") == "" {
		t.Errorf("request without jobs: %s", res.Status)
	}
	res, body := f.send("POST", "/api/v4/runners", nil, map[string]string{"token": s.RunnerToken(), "description": "d"})
	var made struct{ Token string }
	if err := json.Unmarshal(body, &made); err != nil || res.StatusCode != 201 {
		t.Fatalf("register: %s %s", res.Status, body)
	}
	for _, step := range []struct {
		method, path string
		code         int
	}{
		{"POST", "/runners/verify", 200}, {"DELETE", "/runners", 204}, {"POST", "/runners/verify", 403},
	} {
		if res, _ := f.send(step.method, "/api/v4"+step.path, nil, map[string]string{"token": made.Token}); res.StatusCode != step.code {
			t.Errorf("%s %s: %s", step.method, step.path, res.Status)
		}
	}
	s.Submit(t.Context(), JobSpec{Name: "a", Script: []string{"true"}})
	s.Submit(t.Context(), JobSpec{Name: "b", Script: []string{"true"}})
	a, b := f.take(), f.take()
	a.Token = b.Token
	if res := f.patch(a, 0, "x"); res.StatusCode != 403 {
		t.Errorf("patch with another job's token: %s", res.Status)
	}
}

func TestCancel(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	submit := func(name string) (int64, wire.Job) {
		id := must[int64](t)(s.Submit(t.Context(), JobSpec{Name: name, Script: []string{"true"}}))
		return id, f.take()
	}
	id, j := submit("graceful")
	if err := s.Cancel(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	if res := f.patch(j, 0, "after_script"); res.StatusCode != 202 || res.Header.Get("Job-Status") != "canceling" {
		t.Errorf("canceling: %s %s", res.Status, res.Header.Get("Job-Status"))
	}
	if res := f.put(j, "failed", "after_script", map[string]any{"failure_reason": "job_canceled"}); res.StatusCode != 200 {
		t.Errorf("final update: %s", res.Status)
	}
	if st := must[JobStatus](t)(s.Wait(soon(t), id)); st.State != job.Canceled || st.CancelAt.IsZero() {
		t.Errorf("%+v", st)
	}

	id, j = submit("at once")
	if err := s.Cancel(t.Context(), id, false); err != nil {
		t.Fatal(err)
	}
	if st, _ := s.Job(t.Context(), id); st.State != job.Canceled || st.Done {
		t.Errorf("the runner has not let go yet: %+v", st)
	}
	if res := f.patch(j, 0, "more"); res.StatusCode != 403 || res.Header.Get("Job-Status") != "canceled" {
		t.Errorf("canceled: %s %s", res.Status, res.Header.Get("Job-Status"))
	}
	f.put(j, "failed", "more", nil)
	if st := must[JobStatus](t)(s.Wait(soon(t), id)); !st.Done || st.LetGoAt.IsZero() {
		t.Errorf("%+v", st)
	}
	if err := s.Cancel(t.Context(), id, false); err == nil {
		t.Error("a job that is over was cancelled")
	}
	id = must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "pending", Script: []string{"true"}}))
	s.Cancel(t.Context(), id, true)
	if st := must[JobStatus](t)(s.Wait(soon(t), id)); st.State != job.Canceled || !st.HandedAt.IsZero() {
		t.Errorf("%+v", st)
	}
}

func zipped(t *testing.T, name, text string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(text))
	z.Close()
	return b.Bytes()
}

func gzipped(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.Bytes()
}

func TestArtifacts(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	maker := must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "maker", Script: []string{"true"}}))
	j := f.take()
	content := zipped(t, "a.txt", "made")
	for _, step := range []struct {
		kind, format string
		content      []byte
		code         int
	}{
		{"archive", "zip", []byte("no zip"), 400},
		{"archive", "raw", content, 400},
		{"archive", "zip", content, 201},
		{"archive", "zip", content, 201},
		{"archive", "zip", zipped(t, "a.txt", "other"), 400},
		{"dotenv", "gzip", gzipped("# built\nVERSION=\"1.2\"\nNAME=x\n"), 201},
		{"sast", "raw", content, 400},
	} {
		if res, body := f.upload(j.ID, j.Token, step.kind, step.format, "x.zip", step.content); res.StatusCode != step.code {
			t.Errorf("%s in %s: %s %s", step.kind, step.format, res.Status, body)
		}
	}
	if res, _ := f.upload(j.ID, "wrong", "archive", "zip", "x.zip", content); res.StatusCode != 403 {
		t.Errorf("upload with a wrong token: %s", res.Status)
	}
	f.finish(j, "success", nil)
	stranger := must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "stranger", Script: []string{"true"}}))
	other := f.take()
	must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "taker", Script: []string{"true"}, Dependencies: []int64{maker}}))
	taker := f.take()
	path := fmt.Sprintf("/api/v4/jobs/%d/artifacts", maker)
	if res, body := f.send("GET", path, map[string]string{"JOB-TOKEN": taker.Token}, nil); res.StatusCode != 200 || !bytes.Equal(body, content) {
		t.Errorf("download: %s, %d bytes", res.Status, len(body))
	}
	if res, _ := f.send("GET", path, map[string]string{"JOB-TOKEN": other.Token}, nil); res.StatusCode != 403 {
		t.Errorf("download by job %d, which does not depend on it: %s", stranger, res.Status)
	}
	if d := taker.Dependencies; len(d) != 1 || d[0].ID != maker || d[0].ArtifactsFile.Size != int64(len(content)) {
		t.Errorf("dependencies: %+v", d)
	}
	for key, want := range map[string]string{"VERSION": "1.2", "NAME": "x"} {
		if got := value(taker, key); got != want {
			t.Errorf("dotenv %s=%q, want %q", key, got, want)
		}
	}
	if got := must[[]byte](t)(s.Artifact(t.Context(), maker, "archive")); !bytes.Equal(got, content) {
		t.Error("artifact differs")
	}
}

func value(j wire.Job, key string) (v string) {
	for _, one := range j.Variables {
		if one.Key == key {
			v = one.Value
		}
	}
	return v
}

func git(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Env = append(cmd.Environ(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_ASKPASS=true")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestGit(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	sha := must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Dir: files(t, map[string]string{"a/b.txt": "one"}),
		Tag: "v1", Protected: []string{"main", "v*"}}))
	must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "x", Project: "shop/items", Script: []string{"true"}}))
	j := f.take()
	if j.GitInfo.SHA != sha || j.GitInfo.Ref != "main" || !j.GitInfo.Protected || j.GitInfo.RefType != "branch" {
		t.Errorf("%+v", j.GitInfo)
	}
	dir := t.TempDir()
	git(t, "init", "-q", dir)
	fetch := append([]string{"-C", dir, "fetch", "-q", "--depth", "20", j.GitInfo.RepoURL}, j.GitInfo.Refspecs...)
	if out, err := git(t, fetch...); err != nil {
		t.Fatal(out)
	}
	if out, err := git(t, "-C", dir, "show", sha+":a/b.txt"); err != nil || out != "one" {
		t.Errorf("%q %v", out, err)
	}
	old := strings.Replace(j.GitInfo.RepoURL, "/shop/", "/git/shop/", 1)
	if out, err := git(t, "ls-remote", old); err != nil || !strings.Contains(out, sha) {
		t.Errorf("under /git/: %v %s", err, out)
	}
	for what, url := range map[string]string{
		"wrong token":     strings.Replace(j.GitInfo.RepoURL, j.Token, "nonsense", 1),
		"another project": strings.Replace(j.GitInfo.RepoURL, "items", "other", 1),
	} {
		if out, err := git(t, "ls-remote", url); err == nil {
			t.Errorf("%s: %s", what, out)
		}
	}
	if out, err := git(t, "-C", dir, "push", j.GitInfo.RepoURL, sha+":refs/heads/new"); err == nil {
		t.Errorf("pushed: %s", out)
	}
	f.finish(j, "success", nil)
	if out, err := git(t, "ls-remote", j.GitInfo.RepoURL); err == nil {
		t.Errorf("a job that is over fetched: %s", out)
	}
	next := must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Branch: "topic", Dir: files(t, map[string]string{"c": "two"})}))
	must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "y", Project: "shop/items", Ref: "topic", Script: []string{"true"}}))
	must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "z", Project: "shop/items", Ref: "v1", Script: []string{"true"}}))
	j = f.take()
	if j.GitInfo.SHA != next || j.GitInfo.BeforeSHA != sha || j.GitInfo.Protected {
		t.Errorf("%+v", j.GitInfo)
	}
	if j = f.take(); j.GitInfo.RefType != "tag" || value(j, "CI_COMMIT_TAG") != "v1" || !slices.Contains(j.GitInfo.Refspecs, "+refs/tags/v1:refs/tags/v1") {
		t.Errorf("%+v", j.GitInfo)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	s := serve(t, Options{})
	for what, err := range map[string]error{
		"add it first": func() error {
			_, err := s.Submit(t.Context(), JobSpec{Name: "x", Script: []string{"true"}, Project: "no/where"})
			return err
		}(),
		"namespace/name": func() error { _, err := s.AddProject(t.Context(), Project{Path: "flat", Dir: t.TempDir()}); return err }(),
		"external url":   func() error { _, err := New(Options{}); return err }(),
		"no such job":    func() error { _, err := s.Job(t.Context(), 5); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
	if res, err := http.Get(s.URL() + "/control/info"); err != nil || res.StatusCode != 401 {
		t.Errorf("control without a token: %v %v", res, err)
	}
}
