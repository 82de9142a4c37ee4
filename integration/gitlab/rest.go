package gitlab

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"cleanroom/integration/gitlab/job"
)

// The part of the REST API that reads jobs (docs.gitlab.com/api/jobs, /api/runners, /api/rest).

const (
	perPage    = 20  // results in a page, if nobody says how many
	maxPerPage = 100 // and at most
)

// rest lets in who has the access token, and now and then tells them that they ask too often.
func (s *Server) rest(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := r.Header.Get("PRIVATE-TOKEN")
		if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && token == "" {
			token = bearer
		}
		if token != s.opts.AccessToken { // a job's token, too: it opens none of this
			s.message(w, http.StatusUnauthorized, "401 Unauthorized")
			return
		}
		switch asked := s.asked.Add(1); {
		case s.dice.Once(asked, "rate limit", 50):
			w.Header().Set("RateLimit-Limit", "7200")
			w.Header().Set("RateLimit-Remaining", "0")
			w.Header().Set("RateLimit-Reset", strconv.FormatInt(time.Now().Add(time.Second).Unix(), 10))
			w.Header().Set("Retry-After", "1")
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, "Retry later\n")
		case s.dice.Once(asked, "rest", 50):
			s.trouble(w)
		default:
			h(w, r)
		}
	}
}

// number is the id of a project: one without a name, which single jobs may have, is 1.
func (s *Server) number(name string) int64 {
	if p, ok := s.project(name); ok {
		return p.id
	}
	return 1
}

// named finds a project by its id or its path, which comes URL-encoded.
func (s *Server) named(w http.ResponseWriter, r *http.Request) (name string, ok bool) {
	want := r.PathValue("project")
	s.mu.Lock()
	for path, p := range s.projects {
		if path == want || strconv.FormatInt(p.id, 10) == want {
			name, ok = path, true
		}
	}
	s.mu.Unlock()
	if ok = ok || want == "1"; !ok {
		s.message(w, http.StatusNotFound, "404 Project Not Found")
	}
	return name, ok
}

func (s *Server) findJob(w http.ResponseWriter, r *http.Request) (st JobStatus, ok bool) {
	name, ok := s.named(w, r)
	if !ok {
		return st, false
	}
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		s.answer(w, http.StatusBadRequest, map[string]string{"error": "job_id is invalid"})
		return st, false
	}
	if st, err = s.book.Status(id); err != nil || st.Project != name {
		s.message(w, http.StatusNotFound, "404 Not found")
		return st, false
	}
	return st, true
}

func (s *Server) getJob(w http.ResponseWriter, r *http.Request) {
	if st, ok := s.findJob(w, r); ok {
		s.answer(w, http.StatusOK, s.describe(st))
	}
}

func (s *Server) getTrace(w http.ResponseWriter, r *http.Request) {
	st, ok := s.findJob(w, r)
	if !ok {
		return
	}
	trace, err := s.book.Trace(st.ID, 0)
	if err != nil {
		s.message(w, http.StatusNotFound, "404 Not found")
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Disposition", fmt.Sprintf("infile; filename=\"%d.log\"", st.ID))
	w.Write(trace)
}

func (s *Server) listProjectJobs(w http.ResponseWriter, r *http.Request) {
	name, ok := s.named(w, r)
	if !ok {
		return
	}
	scope := r.URL.Query()["scope[]"]
	s.page(w, r, true, func(st JobStatus) bool {
		return st.Project == name && (scope == nil || slices.Contains(scope, string(st.State)))
	})
}

func (s *Server) listRunnerJobs(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	s.mu.Lock()
	known := false
	for _, runner := range s.runners {
		known = known || runner.ID == id
	}
	s.mu.Unlock()
	if !known {
		s.message(w, http.StatusNotFound, "404 Runner Not Found")
		return
	}
	q := r.URL.Query()
	// Without order_by, sort is not looked at.
	s.page(w, r, q.Get("order_by") != "id" || q.Get("sort") != "asc", func(st JobStatus) bool {
		return st.RunnerID == id && (!q.Has("status") || q.Get("status") == string(st.State))
	})
}

// page answers with a part of the jobs that match, by number or, if the client asks for it, by what came before.
func (s *Server) page(w http.ResponseWriter, r *http.Request, newestFirst bool, matches func(JobStatus) bool) {
	all := slices.DeleteFunc(s.book.Jobs(), func(st JobStatus) bool { return !matches(st) })
	if newestFirst {
		slices.Reverse(all)
	}
	q := r.URL.Query()
	size := min(max(whole(q.Get("per_page"), perPage), 1), maxPerPage)
	var links []string
	link := func(rel, key, value string) {
		u, to := *s.answers.URL, url.Values{}
		for k, v := range q {
			to[k] = v
		}
		to.Set(key, value)
		to.Set("per_page", strconv.Itoa(size))
		u.Path, u.RawPath = path.Join(u.Path, r.URL.Path), path.Join(u.Path, r.URL.EscapedPath())
		u.RawQuery = to.Encode()
		links = append(links, fmt.Sprintf("<%s>; rel=%q", &u, rel))
	}
	if q.Get("pagination") == "keyset" {
		if after, ok := readCursor(q.Get("cursor")); ok {
			i := slices.IndexFunc(all, func(st JobStatus) bool { return (st.ID < after) == newestFirst && st.ID != after })
			if i < 0 {
				i = len(all)
			}
			all = all[i:]
		}
		if len(all) > size {
			all = all[:size]
			link("next", "cursor", cursor(all[size-1].ID))
		}
	} else {
		number := max(whole(q.Get("page"), 1), 1)
		pages := max((len(all)+size-1)/size, 1)
		set := func(name string, n int, shown bool) {
			text := ""
			if shown {
				text = strconv.Itoa(n)
			}
			w.Header().Set(name, text)
		}
		set("X-Page", number, true)
		set("X-Per-Page", size, true)
		set("X-Next-Page", number+1, number < pages)
		set("X-Prev-Page", number-1, number > 1)
		set("X-Total", len(all), true)
		set("X-Total-Pages", pages, true)
		if number < pages {
			link("next", "page", strconv.Itoa(number+1))
		}
		link("first", "page", "1")
		link("last", "page", strconv.Itoa(pages))
		from := min((number-1)*size, len(all))
		all = all[from:min(from+size, len(all))]
	}
	if links != nil {
		w.Header().Set("Link", strings.Join(links, ", "))
	}
	out := []any{}
	for _, st := range all {
		out = append(out, s.describe(st))
	}
	s.answer(w, http.StatusOK, out)
}

func whole(text string, unset int) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	return unset
}

// cursor is opaque to clients, as GitLab's is.
func cursor(id int64) string {
	text, _ := json.Marshal(map[string]string{"id": strconv.FormatInt(id, 10), "_kd": "n"})
	return base64.URLEncoding.EncodeToString(text)
}

func readCursor(text string) (id int64, ok bool) {
	raw, err := base64.URLEncoding.DecodeString(text)
	var c struct{ ID string }
	if err != nil || json.Unmarshal(raw, &c) != nil {
		return 0, false
	}
	id, err = strconv.ParseInt(c.ID, 10, 64)
	return id, err == nil
}

// describe is a job as the API shows it.
func (s *Server) describe(st JobStatus) map[string]any {
	when := func(t time.Time) any {
		if t.IsZero() {
			return nil
		}
		return t.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	began := st.HandedAt
	if st.State == job.Skipped {
		began = time.Time{}
	}
	m := map[string]any{
		"id": st.ID, "status": st.State, "stage": st.Stage, "name": st.Name, "ref": st.Ref, "tag": false,
		"coverage": nil, "allow_failure": st.Allowed, "created_at": when(st.CreatedAt), "started_at": when(began),
		"finished_at": when(st.FinalAt), "erased_at": nil, "duration": nil, "queued_duration": nil, "tag_list": []string{},
		"artifacts": []any{}, "artifacts_expire_at": nil, "runner": nil, "user": nil, "commit": nil,
		"web_url":  s.URL() + "/" + st.Project + "/-/jobs/" + strconv.FormatInt(st.ID, 10),
		"pipeline": map[string]any{"id": st.Pipeline, "project_id": s.number(st.Project), "ref": st.Ref},
		"project": map[string]any{"id": s.number(st.Project), "name": path.Base(st.Project), "path": path.Base(st.Project),
			"path_with_namespace": st.Project, "description": nil},
	}
	if !began.IsZero() && !st.FinalAt.IsZero() {
		m["duration"] = st.FinalAt.Sub(began).Seconds()
	}
	if st.FailureReason != "" {
		m["failure_reason"] = st.FailureReason
	}
	if st.RunnerID != 0 {
		m["runner"] = map[string]any{"id": st.RunnerID, "active": true, "is_shared": true, "status": "online"}
	}
	return m
}
