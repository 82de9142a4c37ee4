// Package joblog reads the logs of jobs from a GitLab server, by its REST API
// (docs.gitlab.com/api/jobs, docs.gitlab.com/api/runners).
//
// What it promises: a log is streamed, never held in memory; one that breaks
// off is never taken for a whole one, and one that cannot be read keeps nobody
// from the others; pages, rate limits and a server that is
// being deployed are dealt with (by GitLab's own client); the token goes to
// that server alone and stands in no error.
package joblog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"

	"cleanroom/executor/https"
	"cleanroom/executor/secret/hostkey/durable"
)

// Errors.
var (
	// ErrNoToken is that there is no access token.
	ErrNoToken = errors.New("no access token for GitLab")
	// ErrNoLog is a job that the server does not have, whose log was erased,
	// or whose log the token may not read.
	ErrNoLog = errors.New("no log")
)

// TokenVariable holds a token where no file does.
const TokenVariable = "GITLAB_TOKEN"

// Token reads an access token from a private file or, without one, from
// GITLAB_TOKEN in an environment. It must be a personal, project or group
// access token with the scope read_api: a job's token can read no log.
func Token(file string, environ []string) (string, error) {
	text := ""
	if file != "" {
		data, err := durable.Read(file, 4096)
		if err != nil {
			return "", err
		}
		text = string(data)
	} else {
		for _, line := range environ {
			if value, ok := strings.CutPrefix(line, TokenVariable+"="); ok {
				text = value
			}
		}
	}
	text = strings.TrimSpace(text)
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: put one with the scope read_api into a private file, or set %s", ErrNoToken, TokenVariable)
	}
	return text, nil
}

// Func gets a job's log. If the log breaks off on its way the reader fails,
// and Func is called again with the log from its beginning: what it found
// counts once it has read to the end. It need not read to there.
type Func func(job int64, log io.Reader) error

// Lost is told of a job whose log could not be read, and why: ErrNoLog, or what
// is wrong with the server. The other jobs' logs are read all the same.
type Lost func(job int64, why error)

// GitLab is a server.
type GitLab struct {
	client *gitlab.Client
	// tries is how often a log that breaks off is asked for, and pause the
	// time in between.
	tries int
	pause time.Duration
}

// Open prepares to ask the server at url, like https://gitlab.example.com.
// caFile is a PEM file of the authority that vouches for it; empty means the
// system's.
func Open(url, token, caFile string) (*GitLab, error) { return dial(url, token, caFile) }

func dial(url, token, caFile string, options ...gitlab.ClientOptionFunc) (*GitLab, error) {
	if err := https.CheckURL(url); err != nil {
		return nil, fmt.Errorf("the URL of GitLab %w", err)
	}
	t, err := https.Transport(caFile)
	if err != nil {
		return nil, err
	}
	t.DisableKeepAlives = false // many logs are asked for
	t.ResponseHeaderTimeout = time.Minute
	client, err := gitlab.NewClient(token, append(options, gitlab.WithBaseURL(url), gitlab.WithHTTPClient(https.Client(t)))...)
	if err != nil {
		return nil, err
	}
	return &GitLab{client: client, tries: 3, pause: time.Second}, nil
}

// Project calls f with the logs of all jobs of a project whose ids are from
// first to last, newest first; jobs that never began have none. Its error is
// that of the list of jobs, of a server that gives no log any more, or f's: it
// ends the reading at once.
func (g *GitLab) Project(ctx context.Context, project string, first, last int64, f Func, lost Lost) error {
	return g.each(ctx, gitlab.Scan2(func(page gitlab.PaginationOptionFunc) ([]*gitlab.Job, *gitlab.Response, error) {
		return g.client.Jobs.ListProjectJobs(project, &gitlab.ListJobsOptions{ListOptions: keyset}, page, gitlab.WithContext(ctx))
	}), func(j *gitlab.Job) (any, verdict) {
		switch {
		case j.ID > last:
			return nil, skip
		case j.ID < first:
			return nil, stop
		}
		return project, take
	}, f, lost)
}

// queued is how long a job may have waited to be started, by hand for example.
const queued = 30 * 24 * time.Hour

// Runner calls f with the logs of all jobs that a runner, by its id, started
// since a time, newest first. Jobs that were made more than 30 days before
// that time are not looked at. The token needs to see the runner's projects:
// GitLab leaves out the others without a word. Errors are as Project's.
func (g *GitLab) Runner(ctx context.Context, runner int64, since time.Time, f Func, lost Lost) error {
	options := &gitlab.ListRunnerJobsOptions{ListOptions: gitlab.ListOptions{Pagination: keyset.Pagination, PerPage: keyset.PerPage},
		OrderBy: gitlab.Ptr(keyset.OrderBy), Sort: gitlab.Ptr(keyset.Sort)}
	return g.each(ctx, gitlab.Scan2(func(page gitlab.PaginationOptionFunc) ([]*gitlab.Job, *gitlab.Response, error) {
		return g.client.Runners.ListRunnerJobs(runner, options, page, gitlab.WithContext(ctx))
	}), func(j *gitlab.Job) (any, verdict) {
		switch {
		case j.CreatedAt != nil && j.CreatedAt.Before(since.Add(-queued)):
			return nil, stop
		case j.StartedAt != nil && j.StartedAt.Before(since):
			return nil, skip
		case j.Project == nil || j.Project.ID == 0:
			return nil, broken
		}
		return j.Project.ID, take
	}, f, lost)
}

// keyset pages stay the same while new jobs come, and have no end beyond which
// GitLab gives none (50,000 with pages by number).
var keyset = gitlab.ListOptions{Pagination: "keyset", PerPage: 100, OrderBy: "id", Sort: "desc"}

func httpStatus(err error, codes ...int) bool {
	for _, code := range codes {
		if gitlab.HasStatusCode(err, code) {
			return true
		}
	}
	return false
}

// explain says what to do about an error of the server.
func explain(err error) error {
	switch {
	case httpStatus(err, http.StatusUnauthorized):
		return fmt.Errorf("%w: GitLab does not know the token: it must be an access token with the scope read_api that has not expired", err)
	case httpStatus(err, http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect):
		return fmt.Errorf("%w: the project or the server moved: give its URL, and the project's id", err)
	}
	return err
}
