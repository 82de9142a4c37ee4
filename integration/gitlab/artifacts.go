package gitlab

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"

	"cleanroom/integration/gitlab/artifact"
	"cleanroom/integration/gitlab/job"
)

// authorizeArtifacts is asked by GitLab's own front server, and by scripts that imitate it.
func (s *Server) authorizeArtifacts(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.authJob(w, r, ""); ok {
		s.answer(w, http.StatusOK, map[string]any{"TempPath": s.opts.DataDir})
	}
}

// uploadArtifacts keeps an artifact, if it is what it says it is.
func (s *Server) uploadArtifacts(w http.ResponseWriter, r *http.Request) {
	st, ok := s.authJob(w, r, "")
	if !ok {
		return
	}
	up, err := artifact.Receive(r, filepath.Join(s.opts.DataDir, "artifacts", r.PathValue("id")))
	if err == nil {
		err = s.book.Uploaded(st.ID, up)
	}
	if err != nil {
		s.message(w, http.StatusBadRequest, "400 Bad request - "+err.Error())
		return
	}
	s.message(w, http.StatusCreated, "201 Created")
}

// downloadArtifacts gives a job's archive to that job itself, or to a running job that depends on it.
func (s *Server) downloadArtifacts(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	of, err := s.book.Status(id)
	asking, spec, ok := s.book.ByToken(r.Header.Get("JOB-TOKEN"))
	running := asking.State == job.Running || asking.State == job.Canceling
	switch {
	case !ok || err != nil:
		s.message(w, http.StatusUnauthorized, "401 Unauthorized")
		return
	case asking.ID != id && !(running && asking.Project == of.Project && slices.Contains(spec.Dependencies, id)):
		s.forbidden(w)
		return
	}
	up, ok := artifact.Archive(of)
	if !ok {
		s.message(w, http.StatusNotFound, "404 Not found")
		return
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", up.Name))
	http.ServeFile(w, r, up.File)
}
