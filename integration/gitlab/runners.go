package gitlab

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"time"

	"cleanroom/integration/gitlab/answer"
	"cleanroom/integration/gitlab/wire"
)

// maxRequest bounds what a runner says about itself.
const maxRequest = 1 << 20

func (s *Server) addRunner(token, description string) answer.Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := answer.Runner{ID: s.book.NewID(), UUID: random(16), Description: description}
	s.runners[token] = r
	return r
}

// read decodes what a runner sends, and finds which runner it is: old ones send their token in the body, newer ones in
// a header too.
func (s *Server) read(w http.ResponseWriter, r *http.Request) (req wire.Request, known answer.Runner, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		s.message(w, http.StatusBadRequest, "400 Bad request: "+err.Error())
		return req, known, false
	}
	if req.Token == "" {
		req.Token = r.Header.Get("RUNNER-TOKEN")
	}
	s.mu.Lock()
	known, ok = s.runners[req.Token]
	s.mu.Unlock()
	if !ok {
		s.forbidden(w)
	}
	return req, known, ok
}

// registerRunner is the legacy way; the registration token is the runner token of the options.
func (s *Server) registerRunner(w http.ResponseWriter, r *http.Request) {
	req, _, ok := s.read(w, r)
	if !ok {
		return
	}
	if req.Token != s.opts.RunnerToken {
		s.forbidden(w)
		return
	}
	token := "glrtr-" + random(10)
	made := s.addRunner(token, req.Description)
	s.answer(w, http.StatusCreated, map[string]any{"id": made.ID, "token": token, "token_expires_at": nil})
}

func (s *Server) verifyRunner(w http.ResponseWriter, r *http.Request) {
	req, known, ok := s.read(w, r)
	if !ok {
		return
	}
	s.answer(w, http.StatusOK, map[string]any{"id": known.ID, "token": req.Token, "token_expires_at": nil})
}

func (s *Server) deleteRunner(w http.ResponseWriter, r *http.Request) {
	req, _, ok := s.read(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	delete(s.runners, req.Token)
	s.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) deleteManager(w http.ResponseWriter, r *http.Request) {
	if _, _, ok := s.read(w, r); ok {
		w.WriteHeader(http.StatusNoContent)
	}
}

func (s *Server) resetToken(w http.ResponseWriter, r *http.Request) {
	req, known, ok := s.read(w, r)
	if !ok {
		return
	}
	token := "glrt-" + random(10)
	s.mu.Lock()
	delete(s.runners, req.Token)
	s.runners[token] = known
	s.mu.Unlock()
	s.answer(w, http.StatusCreated, map[string]any{"token": token, "token_expires_at": nil})
}

// requestJob hands out a job, or waits a while for one to come, which is what GitLab's front server does.
func (s *Server) requestJob(w http.ResponseWriter, r *http.Request) {
	req, known, ok := s.read(w, r)
	if !ok {
		return
	}
	asked := s.asked.Add(1)
	if s.dice.Once(asked, "request", 9) {
		s.trouble(w)
		return
	}
	timeout := time.NewTimer(s.opts.Hold)
	defer timeout.Stop()
	for {
		changed := s.book.Changed()
		if r.Context().Err() != nil {
			return
		}
		if handed, ok := s.book.Claim(known.ID, req.Info, s.dice.Pick); ok {
			p, _ := s.project(handed.Spec.Project)
			response, err := s.answers.Job(handed, p.Project, known)
			if err != nil {
				s.book.Drop(handed.ID, "data_integrity_failure")
				s.message(w, http.StatusConflict, "409 Conflict: "+err.Error())
				return
			}
			s.answer(w, http.StatusCreated, response)
			return
		}
		select {
		case <-changed:
			continue
		case <-timeout.C:
		case <-s.closing:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("X-GitLab-Last-Update", strconv.FormatInt(asked, 16))
		w.WriteHeader(http.StatusNoContent)
		return
	}
}
