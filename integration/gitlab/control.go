package gitlab

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/repo"
)

// controlHeader carries the token that keeps jobs, which reach the same address, out of /control.
const controlHeader = "Standin-Token"

// controlRoutes are what a Client speaks: an Instance over HTTP.
func (s *Server) controlRoutes() {
	handle := func(pattern string, h func(*http.Request) (any, error)) {
		s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if subtle.ConstantTimeCompare([]byte(r.Header.Get(controlHeader)), []byte(s.opts.ControlToken)) != 1 {
				http.Error(w, "set "+controlHeader+" to the stand-in's control token", http.StatusUnauthorized)
				return
			}
			v, err := h(r)
			if err != nil {
				code := http.StatusBadRequest
				if errors.Is(err, job.ErrNotFound) || errors.Is(err, repo.ErrNotFound) {
					code = http.StatusNotFound
				}
				http.Error(w, err.Error(), code)
				return
			}
			if raw, ok := v.([]byte); ok {
				w.Header().Set("Content-Type", "application/octet-stream")
				w.Write(raw)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(v)
		})
	}
	byID := func(f func(r *http.Request, id int64) (any, error)) func(*http.Request) (any, error) {
		return func(r *http.Request) (any, error) {
			id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
			if err != nil {
				return nil, fmt.Errorf("id %q is no number", r.PathValue("id"))
			}
			return f(r, id)
		}
	}
	handle("GET /control/info", func(*http.Request) (any, error) {
		return map[string]any{"url": s.URL(), "runner_token": s.RunnerToken(), "access_token": s.AccessToken(), "seed": s.opts.Seed, "awkward": s.opts.Awkward}, nil
	})
	handle("POST /control/projects", s.controlProject)
	handle("POST /control/jobs", func(r *http.Request) (any, error) {
		var spec JobSpec
		dec := json.NewDecoder(r.Body)
		dec.DisallowUnknownFields()
		if err := dec.Decode(&spec); err != nil {
			return nil, fmt.Errorf("job: %w", err)
		}
		id, err := s.Submit(r.Context(), spec)
		return map[string]int64{"id": id}, err
	})
	handle("GET /control/jobs", func(r *http.Request) (any, error) { return s.Jobs(r.Context()) })
	handle("GET /control/jobs/{id}", byID(func(r *http.Request, id int64) (any, error) {
		switch {
		case r.URL.Query().Has("wait"):
			return s.Wait(r.Context(), id)
		case r.URL.Query().Has("trace"):
			return s.WaitTrace(r.Context(), id, r.URL.Query().Get("trace"))
		}
		return s.book.Status(id)
	}))
	handle("GET /control/jobs/{id}/trace", byID(func(_ *http.Request, id int64) (any, error) {
		return s.book.Trace(id, 0)
	}))
	handle("DELETE /control/jobs/{id}/trace", byID(func(_ *http.Request, id int64) (any, error) {
		return struct{}{}, s.book.Forget(id)
	}))
	handle("GET /control/jobs/{id}/artifacts/{kind}", byID(func(r *http.Request, id int64) (any, error) {
		return s.Artifact(r.Context(), id, r.PathValue("kind"))
	}))
	handle("POST /control/jobs/{id}/cancel", byID(func(r *http.Request, id int64) (any, error) {
		return struct{}{}, s.Cancel(r.Context(), id, r.URL.Query().Get("gracefully") == "true")
	}))
	handle("POST /control/pipelines", func(r *http.Request) (any, error) {
		id, err := s.Pipeline(r.Context(), r.URL.Query().Get("project"), r.URL.Query().Get("ref"))
		return map[string]int64{"id": id}, err
	})
	handle("GET /control/pipelines/{id}", byID(func(r *http.Request, id int64) (any, error) {
		if r.URL.Query().Has("wait") {
			return s.WaitPipeline(r.Context(), id)
		}
		return s.book.Pipeline(id)
	}))
	handle("GET /control/events", func(r *http.Request) (any, error) {
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		return s.Events(r.Context(), after)
	})
}

// controlProject takes a form of two parts: the project's settings as JSON, and its files as a tar.
func (s *Server) controlProject(r *http.Request) (any, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, err
	}
	part, err := form.NextPart()
	if err != nil {
		return nil, fmt.Errorf("first part: %w", err)
	}
	var p Project
	if err := json.NewDecoder(part).Decode(&p); err != nil {
		return nil, fmt.Errorf("project: %w", err)
	}
	if part, err = form.NextPart(); err != nil {
		return nil, fmt.Errorf("second part: %w", err)
	}
	if p.Dir, err = os.MkdirTemp("", "standin-project-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(p.Dir)
	if err := unpack(part, p.Dir); err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	sha, err := s.AddProject(r.Context(), p)
	return map[string]string{"sha": sha}, err
}
