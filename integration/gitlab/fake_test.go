package gitlab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cleanroom/integration/gitlab/wire"
)

// fakeRunner speaks the runner API by hand, so that a test decides about every byte and every range.
type fakeRunner struct {
	t *testing.T
	s *Server
}

// serve starts a server for a test.
func serve(t *testing.T, o Options) *Server {
	t.Helper()
	o.DataDir = t.TempDir()
	s, err := Listen("127.0.0.1:0", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// files writes a folder.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (f fakeRunner) send(method, path string, header map[string]string, body any) (*http.Response, []byte) {
	f.t.Helper()
	var in io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		in = bytes.NewReader(b)
	default:
		enc, err := json.Marshal(b)
		if err != nil {
			f.t.Fatal(err)
		}
		in = bytes.NewReader(enc)
	}
	req, err := http.NewRequest(method, f.s.URL()+path, in)
	if err != nil {
		f.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	out, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return res, out
}

// take asks for a job until it gets one.
func (f fakeRunner) take() wire.Job {
	f.t.Helper()
	for range 10 {
		res, body := f.send("POST", "/api/v4/jobs/request", nil,
			map[string]any{"token": f.s.RunnerToken(), "info": map[string]any{"executor": "fake"}})
		if res.StatusCode == http.StatusCreated {
			var j wire.Job
			if err := json.Unmarshal(body, &j); err != nil {
				f.t.Fatalf("%v in %s", err, body)
			}
			return j
		}
	}
	f.t.Fatal("no job came")
	return wire.Job{}
}

func (f fakeRunner) patch(j wire.Job, start int, text string) *http.Response {
	f.t.Helper()
	res, _ := f.send("PATCH", fmt.Sprintf("/api/v4/jobs/%d/trace", j.ID), map[string]string{"JOB-TOKEN": j.Token,
		"Content-Range": fmt.Sprintf("%d-%d", start, start+len(text)-1)}, []byte(text))
	return res
}

func (f fakeRunner) put(j wire.Job, state string, trace string, more map[string]any) *http.Response {
	f.t.Helper()
	u := map[string]any{"token": j.Token, "state": state, "output": map[string]any{
		"checksum": fmt.Sprintf("crc32:%08x", crc32.ChecksumIEEE([]byte(trace))), "bytesize": len(trace)}}
	for k, v := range more {
		u[k] = v
	}
	res, _ := f.send("PUT", fmt.Sprintf("/api/v4/jobs/%d", j.ID), map[string]string{"JOB-TOKEN": j.Token}, u)
	return res
}

func (f fakeRunner) upload(id int64, token, kind, format, name string, content []byte) (*http.Response, []byte) {
	f.t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	w, err := form.CreateFormFile("file", name)
	if err != nil {
		f.t.Fatal(err)
	}
	w.Write(content)
	form.Close()
	return f.send("POST", fmt.Sprintf("/api/v4/jobs/%d/artifacts?artifact_type=%s&artifact_format=%s", id, kind, format),
		map[string]string{"JOB-TOKEN": token, "Content-Type": form.FormDataContentType()}, body.Bytes())
}

// finish ends a job without a trace.
func (f fakeRunner) finish(j wire.Job, state string, more map[string]any) {
	f.t.Helper()
	if res := f.put(j, state, "", more); res.StatusCode != http.StatusOK {
		f.t.Fatalf("final update of %s: %s", j.JobInfo.Name, res.Status)
	}
}
