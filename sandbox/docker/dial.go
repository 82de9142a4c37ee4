package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	"golang.org/x/sys/unix"

	"cleanroom/sandbox/initproto"
)

// way is how a container's init is reached.
type way struct {
	ID     string `json:"id"`
	Socket string `json:"socket,omitempty"` // on this machine; empty: exec
	Files  string `json:"files,omitempty"`  // the container's FilesDir
	Frozen bool   `json:"frozen,omitempty"` // it may be: freeze.go
}

// wayTo finds the way to a container that was just made or is found again.
func (e *Engine) wayTo(ctx context.Context, name, id string) (way, error) {
	w := way{ID: id}
	if err := e.learn(ctx); err != nil {
		return w, err
	}
	if e.options.Transport == TransportExec || (e.options.Transport == TransportAuto && (!e.local || e.ownKernel())) {
		return w, nil
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	v, err := e.api.VolumeInspect(ctx, runVolume(name))
	if err != nil {
		return w, fmt.Errorf("volume %s: %w", runVolume(name), err)
	}
	socket := filepath.Join(v.Mountpoint, filepath.Base(initproto.Socket))
	if e.options.Transport == TransportAuto {
		if _, err := os.Stat(v.Mountpoint); err != nil {
			return w, nil // not ours to enter, or another machine's
		}
	}
	w.Socket = socket
	return w, nil
}

// dial connects to a container's init, waiting for it to listen.
func (e *Engine) dial(ctx context.Context, w way) (io.ReadWriteCloser, error) {
	if w.Socket == "" {
		return e.dialExec(ctx, w.ID)
	}
	ask := time.Now().Add(time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(ask) { // has it ended meanwhile?
			ask = ask.Add(time.Second)
			c, err := e.api.ContainerInspect(ctx, w.ID)
			if cerrdefs.IsNotFound(err) {
				return nil, fmt.Errorf("%w: the container is gone", errMute)
			}
			if err == nil && c.State != nil && !c.State.Running {
				return nil, fmt.Errorf("%w: the container does not run", errMute)
			}
		}
		conn, err := dialUnix(ctx, w.Socket)
		if err == nil {
			return conn, nil
		}
		if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// dialUnix connects to a socket in a folder that the job can write to. So it
// opens what is there without following a link (which would lead to a socket
// of the host's), looks that it is a socket, and connects to just that one,
// by its descriptor; which also spares the 107 bytes that an address holds.
func dialUnix(ctx context.Context, socket string) (net.Conn, error) {
	fd, err := unix.Open(socket, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: socket, Err: err}
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: socket, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return nil, fmt.Errorf("%s is no socket: something in the container took init's place", socket)
	}
	return (&net.Dialer{}).DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
}

// dialExec runs `init dial` in the container and speaks over its stdio. The
// stream of an exec shows nowhere; its environment and argv would.
func (e *Engine) dialExec(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	made, err := e.api.ContainerExecCreate(ctx, id, container.ExecOptions{
		Cmd: []string{initproto.InitPath, "dial"}, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, fmt.Errorf("exec init dial: %w", err)
	}
	stream, err := e.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return nil, fmt.Errorf("exec init dial: %w", err)
	}
	out, in := io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(in, io.Discard, stream.Reader)
		in.CloseWithError(err)
	}()
	return &execConn{PipeReader: out, conn: stream.Conn}, nil
}

// execConn is the stdio of an exec as one stream.
type execConn struct {
	*io.PipeReader
	conn net.Conn
}

func (c *execConn) Write(b []byte) (int, error) { return c.conn.Write(b) }

func (c *execConn) Close() error {
	c.PipeReader.Close()
	return c.conn.Close()
}
