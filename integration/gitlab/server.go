// Package gitlab is a stand-in for a GitLab server: it speaks the runner API (v4) to a real, unchanged gitlab-runner,
// serves repositories with the real git, issues ID tokens, and runs single jobs or whole pipelines. It promises to accept
// and refuse what GitLab accepts and refuses, and to be awkward on purpose (see package awkward) unless told not to.
//
// A Server is an http.Handler for use inside a test; a Client does the same things to one that runs elsewhere. Both are
// an Instance.
package gitlab

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"cleanroom/integration/gitlab/answer"
	"cleanroom/integration/gitlab/awkward"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/repo"
)

// Options of a Server. Only DataDir has to be given.
type Options struct {
	// Seed decides every awkwardness; the same seed treats the same jobs in the same way.
	Seed    uint64
	Awkward bool
	// ExternalURL is how runners and jobs reach the server. Listen knows one if it is empty.
	ExternalURL string
	DataDir     string
	// RunnerToken is a token that is accepted without registering; ControlToken opens /control. Made up when empty.
	RunnerToken  string
	ControlToken string
	// AccessToken is a person's, with the scope read_api. Made up when empty.
	AccessToken string
	// Hold is how long a request for a job waits for one, 5 s when zero.
	Hold time.Duration
	// TLSCert and TLSKey are files; with them Listen serves HTTPS.
	TLSCert, TLSKey string
}

// Server is the stand-in.
type Server struct {
	opts    Options
	dice    *awkward.Dice
	book    *job.Book
	repos   *repo.Store
	answers answer.Server
	mux     *http.ServeMux
	closing chan struct{}
	stop    func() error
	asked   atomic.Int64

	mu       sync.Mutex
	projects map[string]*project
	runners  map[string]answer.Runner
	iid      int64
}

// New makes a server that whoever calls serves over HTTP at Options.ExternalURL.
func New(o Options) (*Server, error) {
	o.ExternalURL = strings.TrimRight(o.ExternalURL, "/")
	u, err := url.Parse(o.ExternalURL)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("external url %q: give the address that runners reach this server by", o.ExternalURL)
	}
	if o.DataDir == "" {
		return nil, errors.New("data dir is empty: give a folder for repositories and artifacts")
	}
	if o.Hold == 0 {
		o.Hold = 5 * time.Second
	}
	if o.RunnerToken == "" {
		o.RunnerToken = "glrt-" + random(10)
	}
	if o.ControlToken == "" {
		o.ControlToken = random(16)
	}
	if o.AccessToken == "" {
		o.AccessToken = "glpat-" + random(10)
	}
	if err := os.MkdirAll(filepath.Join(o.DataDir, "artifacts"), 0o755); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Join(o.DataDir, "repositories"))
	if err != nil {
		return nil, err
	}
	repos, err := repo.New(dir)
	if err != nil {
		return nil, err
	}
	signer, err := answer.NewSigner()
	if err != nil {
		return nil, err
	}
	s := &Server{opts: o, repos: repos, answers: answer.Server{URL: u, Signer: signer}, closing: make(chan struct{}),
		dice: awkward.New(o.Seed, o.Awkward), projects: map[string]*project{}, runners: map[string]answer.Runner{}}
	// A client that takes ids for small, dense or starting at one finds out.
	next := 1000 + int64(o.Seed%7919)
	s.book = job.NewBook(func() int64 { next += s.dice.Gap(); return next })
	s.addRunner(o.RunnerToken, "stand-in runner")
	s.routes()
	return s, nil
}

// Listen makes a server and serves it on addr until Close. Without an external url it is known by the address it got.
func Listen(addr string, o Options) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if o.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(o.TLSCert, o.TLSKey)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tls: %w", err), l.Close())
		}
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
		scheme = "https"
	}
	if o.ExternalURL == "" {
		o.ExternalURL = scheme + "://" + l.Addr().String()
	}
	s, err := New(o)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	h := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	s.stop = h.Close
	go h.Serve(l)
	return s, nil
}

// Close ends requests that wait and, after Listen, the listener.
func (s *Server) Close() error {
	close(s.closing)
	if s.stop != nil {
		return s.stop()
	}
	return nil
}

// URL is the address that runners are configured with.
func (s *Server) URL() string { return s.opts.ExternalURL }

// RunnerToken is the token that runners are configured with.
func (s *Server) RunnerToken() string { return s.opts.RunnerToken }

// ControlToken is the token that a Client needs.
func (s *Server) ControlToken() string { return s.opts.ControlToken }

// AccessToken is a token for the REST API.
func (s *Server) AccessToken() string { return s.opts.AccessToken }

func (s *Server) routes() {
	s.mux = http.NewServeMux()
	api := func(pattern string, h http.HandlerFunc) {
		method, path, _ := strings.Cut(pattern, " ")
		s.mux.HandleFunc(method+" /api/v4"+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Request-Id", random(16))
			s.pause(r.Context())
			h(w, r)
		})
	}
	api("POST /runners", s.registerRunner)
	api("DELETE /runners", s.deleteRunner)
	api("DELETE /runners/managers", s.deleteManager)
	api("POST /runners/verify", s.verifyRunner)
	api("POST /runners/reset_authentication_token", s.resetToken)
	api("GET /runners/router/discovery", func(w http.ResponseWriter, _ *http.Request) {
		s.message(w, http.StatusNotImplemented, "501 Not Implemented")
	})
	api("POST /jobs/request", s.requestJob)
	api("PUT /jobs/{id}", s.updateJob)
	api("PATCH /jobs/{id}/trace", s.patchTrace)
	api("POST /jobs/{id}/artifacts/authorize", s.authorizeArtifacts)
	api("POST /jobs/{id}/artifacts", s.uploadArtifacts)
	api("GET /jobs/{id}/artifacts", s.downloadArtifacts)
	api("GET /projects/{project}/jobs", s.rest(s.listProjectJobs))
	api("GET /projects/{project}/jobs/{id}", s.rest(s.getJob))
	api("GET /projects/{project}/jobs/{id}/trace", s.rest(s.getTrace))
	api("GET /runners/{id}/jobs", s.rest(s.listRunnerJobs))
	s.mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, http.StatusOK, s.answers.Discovery())
	})
	s.mux.HandleFunc("GET /oauth/discovery/keys", func(w http.ResponseWriter, _ *http.Request) {
		s.answer(w, http.StatusOK, s.answers.Signer.Keys())
	})
	s.mux.HandleFunc("/", s.serveGit)
	s.controlRoutes()
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) pause(ctx context.Context) {
	if d := s.dice.Delay(); d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
}

// answer writes JSON the way GitLab does on its better and worse days.
func (s *Server) answer(w http.ResponseWriter, code int, v any) {
	body, err := s.dice.JSON(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	w.Write(body)
}

func (s *Server) message(w http.ResponseWriter, code int, text string) {
	s.answer(w, code, map[string]string{"message": text})
}

func (s *Server) forbidden(w http.ResponseWriter) {
	s.message(w, http.StatusForbidden, "403 Forbidden")
}

// trouble answers with one of the errors that a GitLab behind a proxy gives while it is being deployed.
func (s *Server) trouble(w http.ResponseWriter) {
	code := []int{http.StatusInternalServerError, http.StatusBadGateway}[s.dice.Pick(2)]
	http.Error(w, http.StatusText(code), code)
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
