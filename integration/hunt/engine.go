package hunt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// LocalSocket is where the machine's own engine listens.
const LocalSocket = "/var/run/docker.sock"

const (
	answerTime  = 3 * time.Minute
	answerBytes = 64 << 20
)

// ErrEngine says that an engine's API gave no answer, or not the whole of it.
var ErrEngine = errors.New("no answer of the engine")

var (
	errGone = errors.New("gone")
	errNone = errors.New("the engine has no such thing")
)

// Engine is a Docker Engine's API (docs.docker.com/reference/api/engine), as
// it answers and not as a client decodes it: what a client does not know of is
// searched too.
type Engine struct{ http *http.Client }

// At is the engine that listens on a unix socket.
func At(socket string) *Engine {
	return &Engine{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

func (e *Engine) open(ctx context.Context, path string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := e.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: is the engine up? %w: %w", path, ErrEngine, err)
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return answer.Body, nil
	case http.StatusNotFound, http.StatusConflict: // removed, or on its way
		err = errGone
	case http.StatusNotImplemented: // the output of a container without a log
		err = errNone
	default:
		err = fmt.Errorf("%s: %w: %s", path, ErrEngine, answer.Status)
	}
	return nil, errors.Join(err, answer.Body.Close())
}

// get returns an answer of at most 64 MiB, within 30 s.
func (e *Engine) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	body, err := e.open(ctx, path)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, answerBytes+1))
	if err == nil && len(b) > answerBytes {
		err = errors.New("more than 64 MiB")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrEngine, err)
	}
	return b, nil
}

func (e *Engine) decode(ctx context.Context, path string, into any) ([]byte, error) {
	b, err := e.get(ctx, path)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrEngine, err)
	}
	return b, nil
}

// Root is the engine's root folder.
func (e *Engine) Root(ctx context.Context) (string, error) {
	var info struct{ DockerRootDir string }
	_, err := e.decode(ctx, "/info", &info)
	return info.DockerRootDir, err
}

// Room returns the process ID of a container's first process, for
// ProcessScope.Rooms and Inside.
func (e *Engine) Room(ctx context.Context, container string) (int, error) {
	var c struct{ State struct{ Pid int } }
	if _, err := e.decode(ctx, "/containers/"+url.PathEscape(container)+"/json", &c); err != nil {
		return 0, err
	}
	if c.State.Pid == 0 {
		return 0, fmt.Errorf("container %s: start it first: %w", container, errGone)
	}
	return c.State.Pid, nil
}

// Engine searches everything that an engine's API tells: of the daemon, of
// every container, its execs and its output, of images with their history, of
// volumes and networks, and the events that the engine still knows.
func (h *Hunt) Engine(ctx context.Context, e *Engine) error {
	if h.err != nil {
		return h.err
	}
	var (
		failed []error
		things []struct{ ID string }
	)
	look := func(path string, into any) {
		b, err := e.get(ctx, path)
		if errors.Is(err, errGone) {
			h.skip("the engine's "+path, "an object that was removed meanwhile")
			return
		}
		if errors.Is(err, errNone) {
			h.skip("the engine's "+path, "the engine keeps none")
			return
		}
		if err == nil && into != nil {
			err = json.Unmarshal(b, into)
		}
		if err != nil {
			failed = append(failed, h.unreadable("the engine's "+path, err))
			return
		}
		failed = append(failed, h.document(ctx, "the engine's "+path, string(b)))
	}
	for _, path := range []string{"/info", "/version", "/system/df", "/plugins",
		// The second that runs is not over: wait for its end.
		fmt.Sprintf("/events?since=1&until=%d", time.Now().Unix()+1)} {
		look(path, nil)
	}
	look("/containers/json?all=1", &things)
	for _, c := range things {
		var execs struct{ ExecIDs []string }
		look("/containers/"+c.ID+"/json", &execs)
		look("/containers/"+c.ID+"/logs?stdout=1&stderr=1", nil)
		for _, id := range execs.ExecIDs {
			look("/exec/"+id+"/json", nil)
		}
	}
	things = nil
	look("/images/json?all=1", &things)
	for _, i := range things {
		look("/images/"+i.ID+"/json", nil)
		look("/images/"+i.ID+"/history", nil)
	}
	things = nil
	look("/networks", &things)
	for _, n := range things {
		look("/networks/"+n.ID+"?verbose=1", nil)
	}
	var volumes struct{ Volumes []struct{ Name string } }
	look("/volumes", &volumes)
	for _, v := range volumes.Volumes {
		look("/volumes/"+url.PathEscape(v.Name), nil)
	}
	return errors.Join(failed...)
}
