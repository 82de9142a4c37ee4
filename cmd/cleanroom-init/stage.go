package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"cleanroom/sandbox/initproto"

	"golang.org/x/sys/unix"
)

const (
	killTime  = 5 * time.Second        // for KILL to be obeyed
	stopGrace = 2 * time.Second        // when init itself has to end
	lastWords = 100 * time.Millisecond // for "tee" and the like after the shell
	pipeSize  = 256 << 10
)

// Run implements initproto.Handler.
func (h *host) Run(ctx context.Context, st initproto.Stage, mask func([]byte) error) (initproto.Exit, error) {
	h.running.Lock()
	defer h.running.Unlock()
	defer h.maskWith(mask)()
	if st.FilesDir == "" {
		return h.stage(ctx, st)
	}
	f, err := h.openFolder(st.FilesDir)
	if err != nil {
		return initproto.Exit{}, &initproto.ExecError{Text: err.Error()}
	}
	err = f.put(st.Files)
	st.Files = nil
	var exit initproto.Exit
	if err == nil {
		exit, err = h.stage(ctx, st)
	}
	// An exit that is told says that the files are gone.
	if left := f.end(); left != nil {
		if err != nil {
			left = fmt.Errorf("%w (and before that: %v)", left, err)
		}
		return initproto.Exit{}, left
	}
	return exit, err
}

// stage runs one to the end of its last process.
func (h *host) stage(ctx context.Context, st initproto.Stage) (initproto.Exit, error) {
	shell, problem := h.shell()
	if shell == "" {
		return initproto.Exit{}, &initproto.ExecError{Text: problem}
	}
	ooms := oomKills()
	r := &running{host: h, tree: newTree(h.reaper), grace: st.Grace, patience: killTime}
	env := withTools(mergeEnv(h.env, st.Env))
	st.Env = nil // from its start on the shell alone has it
	if err := r.start(ctx, shell, env, st); err == errEarly {
		return initproto.Exit{Code: 128 + int(unix.SIGTERM), Signal: int(unix.SIGTERM), Canceled: true}, nil
	} else if err != nil {
		return initproto.Exit{}, err
	}
	ws, err := r.wait(ctx)
	if err != nil {
		r.out.finish(0)
		return initproto.Exit{}, err
	}
	if err := r.finish(ctx); err != nil {
		return initproto.Exit{}, err
	}
	exit := initproto.Exit{Code: ws.ExitStatus(), Canceled: r.canceled}
	if ws.Signaled() {
		exit.Signal = int(ws.Signal())
		exit.Code = 128 + exit.Signal
	}
	exit.OOM = oomKills() > ooms
	return exit, nil
}

// running is a stage.
type running struct {
	host  *host
	tree  *tree
	grace time.Duration
	done  <-chan syscall.WaitStatus
	out   *outlet

	canceled bool
	killAt   time.Time
	patience time.Duration // for KILL at the end
}

// errEarly: the stage was ended before it had begun.
var errEarly = errors.New("canceled before the script was here")

func (r *running) start(ctx context.Context, shell string, env []string, st initproto.Stage) error {
	if st.Dir != "" {
		if info, err := os.Stat(st.Dir); err != nil {
			return execError(st.Dir, err)
		} else if !info.IsDir() {
			return execError(st.Dir, syscall.ENOTDIR)
		}
	}
	stdin, feed, ok, err := openScript(ctx, st.Script)
	if !ok {
		return errEarly
	}
	if err != nil {
		return fmt.Errorf("receive script: %w", err)
	}
	theirs := []uintptr{uintptr(stdin)}
	defer func() {
		for _, fd := range theirs {
			unix.Close(int(fd))
		}
	}()
	// One pipe for stdout and stderr: what is printed keeps its order.
	var p [2]int
	if err = unix.Pipe2(p[:], unix.O_CLOEXEC); err == nil {
		unix.FcntlInt(uintptr(p[0]), unix.F_SETPIPE_SZ, pipeSize) // less is slower, no more
		theirs = append(theirs, uintptr(p[1]))
		r.out = newOutlet(p[0], st.Output)
		r.tree.shell, r.done, err = r.fork(shell, &syscall.ProcAttr{
			Dir: st.Dir, Env: env, Files: []uintptr{theirs[0], theirs[1], theirs[1]}, Sys: &syscall.SysProcAttr{Setsid: true},
		})
		if err != nil {
			r.out.r.Close()
		}
	}
	go feed() // after an error it only closes: nobody reads
	if err == nil {
		go r.out.copy()
	}
	return err
}

// fork retries while the container's process limit is met: what the stage
// before left has been killed, but the kernel may need a moment to notice.
func (r *running) fork(shell string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	for try := 0; ; try++ {
		restore := r.host.oom.raise()
		pid, done, err := r.host.reaper.start(shell, []string{shell}, attr)
		restore()
		switch {
		case err == nil:
			return pid, done, nil
		case !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.ENOMEM):
			return 0, nil, execError(shell, err)
		case try == 40:
			return 0, nil, &initproto.ExecError{Argv0: shell, Text: err.Error() +
				": the container is at its limit of processes or memory before the stage begins, raise it or have ENTRYPOINT start less"}
		}
		r.host.reaper.reap()
		time.Sleep(50 * time.Millisecond)
	}
}

// wait waits for the shell, and ends it when that is asked for.
func (r *running) wait(ctx context.Context) (ws syscall.WaitStatus, err error) {
	asked, stop := ctx.Done(), r.host.stop
	var kill <-chan time.Time
	for {
		select {
		case ws = <-r.done:
			return ws, nil
		case <-asked:
			asked = nil
			kill = r.cancel(r.grace)
		case <-stop:
			stop = nil
			kill = r.cancel(min(r.grace, stopGrace))
		case <-kill:
			kill = nil
			if !r.tree.kill(killTime) {
				// finish tries again, but the driver does not wait for long.
				r.patience = time.Second
			}
			select {
			case ws = <-r.done:
				return ws, nil
			case <-time.After(killTime):
				return ws, errors.New("the stage's shell does not end by KILL: remove the container")
			}
		}
	}
}

// cancel sends TERM and sets the time of KILL; a second call can only make
// that earlier.
func (r *running) cancel(grace time.Duration) <-chan time.Time {
	if at := time.Now().Add(grace); !r.canceled || at.Before(r.killAt) {
		r.killAt = at
	}
	if !r.canceled {
		r.canceled = true
		r.tree.term()
	}
	return time.After(time.Until(r.killAt))
}

// finish ends what the shell has left. After a cancel the rest has until
// killAt to clean up; else only as long as "exec > >(tee log)" takes to write
// its last line, and only if it holds our pipe. An error is that something is
// left: then the script's exit status does not count, as what comes next would
// run beside a process that may hold its files or secrets.
func (r *running) finish(ctx context.Context) error {
	if r.canceled {
		for !r.tree.gone() && time.Now().Before(r.killAt) {
			select {
			case <-r.host.stop:
				r.killAt = time.Now()
			case <-time.After(5 * time.Millisecond):
			}
		}
	} else if r.host.reaper.reap() {
		select {
		case <-r.out.ended:
		case <-ctx.Done():
		case <-time.After(lastWords):
		}
	}
	var err error
	if !r.tree.kill(r.patience) {
		err = r.tree.left()
	}
	r.out.finish(lastWords)
	return err
}
