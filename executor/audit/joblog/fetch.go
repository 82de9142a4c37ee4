package joblog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"sync/atomic"
	"time"

	gitlab "gitlab.com/gitlab-org/api/client-go/v2"
)

// verdict is what to do with a job of a list.
type verdict int

const (
	take   verdict = iota
	skip           // this one
	stop           // and all older ones
	broken         // the server left out what it must say
)

// maxRow is how many logs in a row a server may fail to give before no more
// are asked for: it is down, and the client tries each for twelve seconds.
const maxRow = 5

// each reads the logs of a list of jobs, newest first. Of pages by number,
// which old servers give, the next begins with what the last one ended with
// whenever a new job came: a job that is not older than the one before has
// been read.
func (g *GitLab) each(ctx context.Context, jobs iter.Seq2[*gitlab.Job, error], judge func(*gitlab.Job) (project any, v verdict), f Func, lost Lost) error {
	last, row := int64(0), 0
	for j, err := range jobs {
		if err != nil {
			return explain(err)
		}
		if last > 0 && j.ID >= last {
			continue
		}
		last = j.ID
		project, v := judge(j)
		switch {
		case v == stop:
			return nil
		case v == broken:
			return fmt.Errorf("job %d: GitLab does not say of which project it is", j.ID)
		case v == skip || j.StartedAt == nil: // what never began has no log
			continue
		case j.ErasedAt != nil: // the server gives an empty one
			lost(j.ID, fmt.Errorf("%w: it was erased at %s", ErrNoLog, j.ErasedAt.UTC().Format(time.RFC3339)))
			continue
		}
		fault, err := g.log(ctx, project, j.ID, f)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case fault == nil:
			row = 0
			continue
		}
		lost(j.ID, fault)
		if errors.Is(fault, ErrNoLog) { // the server is well
			continue
		}
		if row++; httpStatus(fault, http.StatusUnauthorized) || row == maxRow {
			return fmt.Errorf("%d logs in a row could not be read, and no older ones were asked for: %w", row, fault)
		}
	}
	return nil
}

// log reads one log; what breaks off is read again. fault is why the server
// did not give it, err is f's.
func (g *GitLab) log(ctx context.Context, project any, job int64, f Func) (fault, err error) {
	for try := 1; ; try++ {
		brokeOff, fault, err := g.once(ctx, project, job, f)
		if !brokeOff || try == g.tries || ctx.Err() != nil {
			return fault, err
		}
		select {
		case <-time.After(time.Duration(try) * g.pause):
		case <-ctx.Done():
		}
	}
}

var errEnough = errors.New("the rest is not wanted")

// once passes a log on as it comes. f is called when the server has said that
// there is one, and its error counts but where the log broke off.
func (g *GitLab) once(ctx context.Context, project any, job int64, f Func) (brokeOff bool, fault, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	path := fmt.Sprintf("projects/%s/jobs/%d/trace", gitlab.PathEscape(fmt.Sprint(project)), job)
	req, err := g.client.NewRequest(http.MethodGet, path, nil, []gitlab.RequestOptionFunc{gitlab.WithContext(ctx)})
	if err != nil {
		return false, err, nil
	}
	in, out := io.Pipe()
	var enough atomic.Bool
	done := make(chan error, 1)
	begun := false
	begin := func() {
		begun = true
		go func() {
			err := f(job, in)
			enough.Store(true)
			in.CloseWithError(errEnough)
			cancel() // else the client reads the rest only to drop it
			done <- err
		}()
	}
	_, err = g.client.Do(req, writerFunc(func(p []byte) (int, error) {
		if !begun {
			begin()
		}
		return out.Write(p)
	}))
	if err != nil && !begun {
		switch {
		case httpStatus(err, http.StatusForbidden):
			return false, fmt.Errorf("%w: GitLab does not let the token read it (403)", ErrNoLog), nil
		case httpStatus(err, http.StatusNotFound):
			return false, fmt.Errorf("%w: GitLab has none, or does not let the token see the job (404)", ErrNoLog), nil
		}
		return false, explain(err), nil
	}
	if !begun { // it is empty
		begin()
	}
	had := enough.Load()
	out.CloseWithError(err) // nil is the end of the log
	answer := <-done
	if err != nil && !had {
		return true, fmt.Errorf("it broke off: %w", err), nil
	}
	if answer != nil {
		return false, nil, fmt.Errorf("job %d: %w", job, answer)
	}
	return false, nil, nil
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(p []byte) (int, error) { return w(p) }
