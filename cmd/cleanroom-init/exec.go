package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"cleanroom/sandbox/initproto"

	"golang.org/x/sys/unix"
)

// dialTime is how long dial waits for a socket: an ENTRYPOINT may run between
// init's two lives.
const dialTime = 10 * time.Second

// dial joins stdin and stdout to init's socket, for a driver that reaches the
// container only through the engine's exec. It ends with the socket.
func dial(in io.Reader, out io.Writer) error {
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var conn net.Conn
	var err error
	for end := time.Now().Add(dialTime); ; time.Sleep(20 * time.Millisecond) {
		conn, err = net.Dial("unix", socketPath())
		if err == nil {
			break
		}
		again := errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EAGAIN)
		if !again || time.Now().After(end) {
			return fmt.Errorf("reach init: %w: look whether the container's ENTRYPOINT starts its command", err)
		}
	}
	defer conn.Close()
	go func() {
		io.Copy(conn, in)
		conn.(*net.UnixConn).CloseWrite() // init takes it as the driver's end
	}()
	_, err = io.Copy(out, conn)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil // init executed what Boot named
	}
	return err
}

// check becomes the health check that in holds. It comes by stream because
// its environment may not stand in the engine's record of the exec.
func check(in *os.File) error {
	c, err := initproto.ReadCheck(in)
	if err != nil {
		return fmt.Errorf("read health check: %w", err)
	}
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	if err := unix.Dup3(int(null.Fd()), 0, 0); err != nil {
		return err
	}
	return execve(c.Argv, mergeEnv(os.Environ(), c.Env), c.Dir)
}

// own gives folders an owner and a mode (octal). A link is not followed: the
// folder may be one that a job had before.
func own(uid, gid, mode string, paths []string) error {
	u, err1 := strconv.ParseUint(uid, 10, 31)
	g, err2 := strconv.ParseUint(gid, 10, 31)
	m, err3 := strconv.ParseUint(mode, 8, 12)
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("own UID GID MODE PATH...: %w", err)
	}
	for _, path := range paths {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", path, err)
		}
		// Mode first: after the change of owner it may no longer be ours to set.
		err = unix.Fchmod(fd, uint32(m))
		if err == nil {
			err = unix.Fchown(fd, int(u), int(g))
		}
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("own %s: %w", path, err)
		}
	}
	return nil
}
