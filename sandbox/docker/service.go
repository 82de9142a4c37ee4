package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// settle is how long a service without port and HEALTHCHECK is watched. (A
// test that wants to see one end has more time, on however slow a machine.)
var settle = 100 * time.Millisecond

// maxPorts is how many exposed ports are tried, as GitLab's docker executor
// does.
const maxPorts = 20

// ready waits until a service answers: by the port the job names, the image's
// HEALTHCHECK or, failing both, any one of its exposed TCP ports. One with
// none of these is taken as ready once it runs.
func (r *running) ready(ctx context.Context, room sandbox.Spec, helper *running) error {
	health := r.healthcheck()
	limit := room.ServiceTimeout
	if health != nil {
		limit = max(limit, r.picture.config.Healthcheck.StartPeriod)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	stop := context.AfterFunc(r.gone, cancel)
	defer stop()

	var err error
	var how string
	ports := r.ports()
	switch {
	case len(r.spec.Ports) == 0 && health != nil:
		how = "its HEALTHCHECK"
		err = r.checkUntil(ctx, health)
	case len(ports) > 0:
		how = "TCP port " + strings.Join(ports, " or ")
		err = r.probe(ctx, room, helper, ports)
	default:
		return r.settled(ctx)
	}
	if err == nil {
		return nil
	}
	if r.gone.Err() != nil {
		return r.stillThere()
	}
	if ctx.Err() == nil {
		return fmt.Errorf("service %s: %w", r.spec.Image, err)
	}
	return userErrorf("service %s is not ready after %s (waited for %s: %w)%s", r.spec.Image, limit, how, err, r.output.quote())
}

// settled is for one of which nothing says when it is ready; but if it cannot
// even start, that should be told of now.
func (r *running) settled(ctx context.Context) error {
	select {
	case <-r.gone.Done():
		return r.stillThere()
	case <-time.After(settle):
	}
	// The engine may be slow to tell us by itself.
	c, err := r.engine.api.ContainerInspect(ctx, r.id)
	if err != nil {
		return fmt.Errorf("service %s: %w", r.spec.Image, err)
	}
	if c.State == nil || c.State.Running {
		return nil
	}
	r.output.wait(time.Second)
	return userErrorf("service %s exited with code %d%s", r.spec.Image, c.State.ExitCode, r.output.quote())
}

// stillThere tells of a service that ended.
func (r *running) stillThere() error {
	cause := context.Cause(r.gone)
	var exited errExited
	switch {
	case cause == nil:
		return nil
	case errors.As(cause, &exited):
		r.output.wait(time.Second)
		return userErrorf("service %s exited with code %d%s", r.spec.Image, exited.code, r.output.quote())
	default:
		return fmt.Errorf("service %s: %w", r.spec.Image, cause)
	}
}

// ports are those the job names, else the exposed ones, lowest first.
func (r *running) ports() []string {
	ports := slices.Clone(r.spec.Ports)
	if len(ports) == 0 {
		for p := range r.picture.config.ExposedPorts {
			number, proto, _ := strings.Cut(p, "/")
			if n, err := strconv.ParseUint(number, 10, 16); err == nil && n > 0 && (proto == "" || proto == "tcp") {
				ports = append(ports, int(n))
			}
		}
		slices.Sort(ports)
		ports = slices.Compact(ports)
		ports = ports[:min(len(ports), maxPorts)]
	}
	var text []string
	for _, p := range ports {
		text = append(text, strconv.Itoa(p))
	}
	return text
}

// probe dials from the helper container, the one place that is sure to be on
// the service's network.
func (r *running) probe(ctx context.Context, room sandbox.Spec, helper *running, ports []string) error {
	c, err := helper.client(ctx, room.Key, initproto.Redial)
	if err != nil {
		return err
	}
	defer c.Close()
	var addrs []string
	for _, p := range ports {
		addrs = append(addrs, net.JoinHostPort(r.name, p))
	}
	_, err = c.Probe(ctx, addrs)
	return err
}

// healthcheck is the command of the image's HEALTHCHECK, nil when it has none.
func (r *running) healthcheck() []string {
	h := r.picture.config.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		shell := r.picture.config.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(slices.Clone(shell), h.Test[1])
	}
	return nil
}

// checkUntil runs the HEALTHCHECK until it succeeds. We run it ourselves, for
// the engine's own would see nothing of the service's variables, which stand
// in no configuration, and would first come after its interval.
func (r *running) checkUntil(ctx context.Context, argv []string) error {
	limit := r.picture.config.Healthcheck.Timeout
	if limit <= 0 {
		limit = dockerDefaultCheck
	}
	var last error
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := r.check(ctx, argv, limit)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			if last == nil {
				last = err
			}
			return last
		case <-time.After(pause):
		}
	}
}

// dockerDefaultCheck is a HEALTHCHECK's default timeout (Dockerfile
// reference).
const dockerDefaultCheck = 30 * time.Second

func (r *running) check(ctx context.Context, argv []string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	api := r.engine.api
	made, err := api.ContainerExecCreate(ctx, r.id, container.ExecOptions{
		Cmd: []string{initproto.InitPath, "check"}, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return err
	}
	stream, err := api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, stream.Close)
	defer stop()
	if err := initproto.WriteCheck(stream.Conn, initproto.Check{Argv: argv, Env: r.spec.Env}); err != nil {
		return err
	}
	stream.CloseWrite()
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &out, io.LimitReader(stream.Reader, tailMax))
	if ctx.Err() != nil {
		return fmt.Errorf("the check took longer than %s", limit)
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	state, err := api.ContainerExecInspect(ctx, made.ID)
	if err != nil {
		return err
	}
	if state.Running || state.ExitCode != 0 {
		text := strings.TrimSpace(out.String())
		if i := strings.LastIndexByte(text, '\n'); i >= 0 {
			text = text[i+1:]
		}
		return fmt.Errorf("exit code %d, %q", state.ExitCode, text)
	}
	return nil
}
