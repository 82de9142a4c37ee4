package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
	"cleanroom/sandbox/initproto"
)

// running is a container that was started.
type running struct {
	plan
	id     string
	way    way
	output *tail // what it printed until now
	fresh  bool  // an init that somebody has given a key is not the one that is meant
	gone   context.Context
	engine *Engine
}

// errExited is why a wait for a container ends early.
type errExited struct{ code int64 }

func (e errExited) Error() string { return fmt.Sprintf("exited with code %d", e.code) }

// launch creates, watches and starts a container. Its output goes to w as
// well as to the tail, w may be nil.
func (e *Engine) launch(ctx context.Context, room sandbox.Spec, p plan, w io.Writer) (*running, error) {
	r, err := e.prepare(ctx, room, p)
	if err != nil {
		return nil, err
	}
	// Before the start, so that its first words are heard.
	if err := r.watch(ctx, w); err != nil {
		return nil, err
	}
	return r, r.begin(ctx, room)
}

// prepare creates a container.
func (e *Engine) prepare(ctx context.Context, room sandbox.Spec, p plan) (*running, error) {
	id, err := e.create(ctx, room, p)
	if err != nil {
		return nil, err
	}
	return &running{plan: p, id: id, output: newTail(nil), gone: ctx, engine: e}, fault.At("room.container.created")
}

// watch listens to a container, and ends gone when that ends. Both end with the
// container or with ctx.
func (r *running) watch(ctx context.Context, w io.Writer) error {
	e, id, p := r.engine, r.id, r.plan
	r.output = newTail(w)
	stream, err := e.api.ContainerAttach(ctx, id, container.AttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return fmt.Errorf("attach to container %s: %w", p.name, err)
	}
	go func() {
		defer stream.Close()
		stdcopy.StdCopy(r.output, r.output, stream.Reader)
		r.output.end()
	}()
	gone, cancel := context.WithCancelCause(ctx)
	r.gone = gone
	done, failed := e.api.ContainerWait(gone, id, container.WaitConditionNextExit)
	go func() {
		select {
		case s := <-done:
			cancel(errExited{s.StatusCode})
		case err := <-failed:
			cancel(fmt.Errorf("watch container %s: %w", p.name, err))
		case <-ctx.Done():
			cancel(context.Cause(ctx))
		}
	}()
	return fault.At("room.container.attached")
}

// begin starts it and connects it.
func (r *running) begin(ctx context.Context, room sandbox.Spec) (err error) {
	e, id, p := r.engine, r.id, r.plan
	if err := e.start(ctx, p, id); err != nil {
		return err
	}
	if err := fault.At("room.container.started"); err != nil {
		return err
	}
	if p.wired {
		if err := e.plug(ctx, room, p, id); err != nil {
			return err
		}
		if err := fault.At("room.container.plugged"); err != nil {
			return err
		}
	}
	r.way, err = e.wayTo(ctx, p.name, id)
	return err
}

// handshake is initproto's Dial, for an init that may be new, or Redial.
type handshake func(context.Context, io.ReadWriteCloser, [32]byte) (*initproto.Client, error)

// client reaches init and shakes hands, with a key of this container alone.
// It tries again while init still ends a stage whose driver died, and when a
// flood of connections (a job can make one) pushed ours out.
func (r *running) client(ctx context.Context, room [32]byte, shake handshake) (*initproto.Client, error) {
	key := initproto.ContainerKey(room, r.name)
	for {
		conn, err := r.engine.dial(ctx, r.way)
		if err != nil {
			return nil, err
		}
		c, err := shake(ctx, conn, key)
		if !errors.Is(err, initproto.ErrBusy) && !errors.Is(err, initproto.ErrLost) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// boot hands a container what its configuration does not hold, and waits
// until it can run stages (job, helper) or has become its service.
func (r *running) boot(room sandbox.Spec, env []string) (initproto.Hello, error) {
	timeout := fmt.Errorf("did not answer within entrypoint_timeout, %s", room.EntrypointTimeout)
	ctx, cancel := context.WithTimeoutCause(r.gone, room.EntrypointTimeout, timeout)
	defer cancel()
	c, err := r.client(ctx, room.Key, initproto.Dial)
	if err != nil {
		return initproto.Hello{}, r.bootError(ctx, err)
	}
	if r.fresh && !c.Hello().Fresh {
		c.Close()
		return initproto.Hello{}, errUsed
	}
	argv := r.argv()
	b := initproto.Boot{Role: initproto.Role(r.role), Env: env, Argv: argv}
	if len(r.spec.Files) > 0 {
		b.FilesDir, b.Files = r.spec.FilesDir, filesOf(r.spec.Files)
	}
	replaced, err := c.Boot(ctx, b)
	if err != nil {
		c.Close()
		return initproto.Hello{}, r.bootError(ctx, err)
	}
	if !replaced {
		defer c.Close()
		return c.Hello(), nil
	}
	c.Close()
	if r.role == sandbox.Service {
		return initproto.Hello{}, nil
	}
	return r.afterEntrypoint(ctx, room, argv)
}

// afterEntrypoint waits for the second init, which the image's ENTRYPOINT is
// to run as its command.
func (r *running) afterEntrypoint(ctx context.Context, room sandbox.Spec, argv []string) (initproto.Hello, error) {
	for {
		c, err := r.client(ctx, room.Key, initproto.Dial)
		if err == nil {
			defer c.Close()
			if h := c.Hello(); h.Ready {
				return h, nil
			}
		}
		select {
		case <-ctx.Done():
			return initproto.Hello{}, r.entrypointError(ctx, argv, room.EntrypointTimeout)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// argv is what init is to become: all of a service's ENTRYPOINT and command,
// a job's ENTRYPOINT alone, nothing for the helper.
func (r *running) argv() []string {
	entrypoint := r.spec.Entrypoint
	if len(entrypoint) == 0 {
		entrypoint = r.picture.config.Entrypoint
	}
	if len(entrypoint) == 1 && entrypoint[0] == "" { // `entrypoint: [""]` means none
		entrypoint = nil
	}
	switch r.role {
	case sandbox.Service:
		command := r.spec.Command
		if len(command) == 0 && len(r.spec.Entrypoint) == 0 {
			command = r.picture.config.Cmd
		}
		return append(append([]string{}, entrypoint...), command...)
	case sandbox.Job:
		return entrypoint
	default:
		return nil
	}
}

// bootError blames: an ENTRYPOINT that cannot run is the user's.
func (r *running) bootError(ctx context.Context, err error) error {
	var exec *initproto.ExecError
	if errors.As(err, &exec) {
		if r.role == sandbox.Service {
			return userErrorf("service %s: %w: correct its `command:` or `entrypoint:`, or the image", r.spec.Image, err)
		}
		return userErrorf("image %s: %w: correct the image, or set `entrypoint:` in .gitlab-ci.yml", r.spec.Image, err)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("container %s: %w%s", r.name, err, r.output.quote())
}

func (r *running) entrypointError(ctx context.Context, argv []string, timeout time.Duration) error {
	cause := context.Cause(ctx)
	if exited := (errExited{}); errors.As(cause, &exited) {
		r.output.wait(time.Second)
		return userErrorf("image %s: its ENTRYPOINT %s ended (exit code %d) without running its command: it must end in `exec \"$@\"`; "+
			"override it with `image: {name: %s, entrypoint: [\"\"]}`%s", r.spec.Image, quoteArgv(argv), exited.code, r.spec.Image, r.output.quote())
	}
	if r.gone.Err() == nil {
		return userErrorf("image %s: its ENTRYPOINT %s did not run its command within %s: it must end in `exec \"$@\"`; "+
			"override it with `image: {name: %s, entrypoint: [\"\"]}`%s", r.spec.Image, quoteArgv(argv), timeout, r.spec.Image, r.output.quote())
	}
	return fmt.Errorf("container %s: %w", r.name, cause)
}

func quoteArgv(argv []string) string {
	b, _ := json.Marshal(argv)
	return string(b)
}
