package gitlab

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

const (
	// maxPatch bounds one piece of trace; a runner sends at most 1 MiB.
	maxPatch = 64 << 20
	// updateInterval is how many seconds a runner waits between two pieces. GitLab says 3 while someone watches and 60
	// while nobody does; someone always watches a test.
	updateInterval = "1"
)

// authJob finds the job that a request is about and checks that its token says so. A job that is over is refused with
// its state in a header: that is how a runner learns of a cancel.
func (s *Server) authJob(w http.ResponseWriter, r *http.Request, token string) (job.Status, bool) {
	if h := r.Header.Get("JOB-TOKEN"); h != "" {
		token = h
	} else if token == "" {
		token = r.URL.Query().Get("token")
	}
	st, _, ok := s.book.ByToken(token)
	if !ok || strconv.FormatInt(st.ID, 10) != r.PathValue("id") {
		s.forbidden(w)
		return st, false
	}
	w.Header().Set("Job-Status", string(st.State))
	if st.State != job.Running && st.State != job.Canceling {
		s.message(w, http.StatusForbidden, "403 Forbidden - Job is not running")
		return st, false
	}
	return st, true
}

// updateJob takes a sign of life or the final state.
func (s *Server) updateJob(w http.ResponseWriter, r *http.Request) {
	var u wire.Update
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&u); err != nil {
		s.message(w, http.StatusBadRequest, "400 Bad request: "+err.Error())
		return
	}
	last := u.State == "success" || u.State == "failed"
	st, ok := s.authJob(w, r, u.Token)
	if st.ID != 0 {
		s.book.Touch(st.ID)
	}
	if !ok {
		if last && st.State.Final() {
			s.book.LetGo(st.ID)
		}
		return
	}
	w.Header().Set("X-GitLab-Trace-Update-Interval", updateInterval)
	switch {
	case u.State == "running" || u.State == "pending":
		text(w, http.StatusOK)
		return
	case !last:
		s.message(w, http.StatusBadRequest, fmt.Sprintf("400 Bad request: state %q", u.State))
		return
	}
	// The trace is still on its way to where it is kept; come back.
	if s.dice.Once(st.ID, "accept", 2) || s.dice.Once(st.ID, "accept again", 5) {
		text(w, http.StatusAccepted)
		return
	}
	switch s.book.Finish(st.ID, u) {
	case job.Accepted:
		// No state in the header: a runner takes "failed" for the server's refusal.
		w.Header().Del("Job-Status")
		text(w, http.StatusOK)
	case job.Mismatch:
		text(w, http.StatusPreconditionFailed)
	default:
		s.forbidden(w)
	}
}

// text is GitLab's plain answer: the code, in words.
func text(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(code)
	io.WriteString(w, strconv.Itoa(code))
}

// patchTrace takes the next piece of a trace. The range is START-END, with END the last byte, not HTTP's own form.
func (s *Server) patchTrace(w http.ResponseWriter, r *http.Request) {
	st, ok := s.authJob(w, r, "")
	if !ok {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPatch))
	if err != nil {
		s.message(w, http.StatusRequestEntityTooLarge, "413 Request Entity Too Large")
		return
	}
	start, err := contentRange(r.Header.Get("Content-Range"), len(body))
	if err != nil {
		s.message(w, http.StatusBadRequest, "400 "+err.Error())
		return
	}
	if s.dice.Once(st.ID, "trace trouble", 3) {
		s.trouble(w)
		return
	}
	if st.TraceBytes > 0 && s.dice.Once(st.ID, "trace lost", 3) {
		s.outOfRange(w, s.book.Lose(st.ID, st.TraceBytes/2))
		return
	}
	size, ok := s.book.Append(st.ID, start, body)
	if !ok {
		s.outOfRange(w, size)
		return
	}
	w.Header().Set("Range", fmt.Sprintf("0-%d", size))
	w.Header().Set("X-GitLab-Trace-Update-Interval", updateInterval)
	text(w, http.StatusAccepted)
}

// outOfRange tells the runner where to go on.
func (s *Server) outOfRange(w http.ResponseWriter, size int) {
	w.Header().Set("Range", fmt.Sprintf("0-%d", size))
	w.Header().Set("X-GitLab-Trace-Update-Interval", updateInterval)
	s.message(w, http.StatusRequestedRangeNotSatisfiable, "416 Range Not Satisfiable")
}

func contentRange(h string, length int) (start int, err error) {
	from, to, ok := strings.Cut(h, "-")
	if !ok {
		return 0, fmt.Errorf("missing header content-range")
	}
	start, err = strconv.Atoi(from)
	if err != nil {
		return 0, fmt.Errorf("content-range %q: %w", h, err)
	}
	end, err := strconv.Atoi(to)
	if err != nil {
		return 0, fmt.Errorf("content-range %q: %w", h, err)
	}
	if start < 0 || end-start+1 != length {
		return 0, fmt.Errorf("content-range %q does not describe a body of %d bytes", h, length)
	}
	return start, nil
}
