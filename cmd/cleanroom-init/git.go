package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// gitTime is how long git may take to list files.
const gitTime = 2 * time.Minute

// gitArgs have git list untracked files as the runner's uploader does, and
// execute nothing that the author's configuration names.
var gitArgs = []string{"git", "-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*", "ls-files", "-o", "-z"}

// untracked calls each for every untracked file below the working directory.
// After an error some may be missing.
func (h *host) untracked(ctx context.Context, each func(path string) error) error {
	git, err := lookPath("git", h.env)
	if err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	defer out.Close()
	pid, done, err := h.reaper.start(git, gitArgs, &syscall.ProcAttr{
		Env: []string{"PATH=" + getEnv(h.env, "PATH", defaultPath), "HOME=/", "LC_ALL=C",
			"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "GIT_OPTIONAL_LOCKS=0"},
		Files: []uintptr{null.Fd(), in.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	in.Close()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, gitTime, fmt.Errorf("it takes longer than %s", gitTime))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { unix.Kill(-pid, unix.SIGKILL); out.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	read := readPaths(out, each)
	if read != nil {
		unix.Kill(-pid, unix.SIGKILL) // it may be in the middle of writing
	}
	ws := <-done
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case read != nil:
		return read
	case ws.Signaled():
		return fmt.Errorf("git was ended by signal %d", ws.Signal())
	case ws.ExitStatus() != 0:
		return fmt.Errorf("git ended with status %d", ws.ExitStatus())
	}
	return nil
}

// readPaths reads paths that end in a zero byte.
func readPaths(from io.Reader, each func(string) error) error {
	r := bufio.NewReaderSize(from, 2*unix.PathMax)
	for {
		path, err := r.ReadSlice(0)
		switch {
		case err == io.EOF && len(path) == 0:
			return nil
		case err != nil:
			return errors.New("it printed what is no list of paths")
		}
		if err := each(string(path[:len(path)-1])); err != nil {
			return err
		}
	}
}
