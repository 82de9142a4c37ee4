package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"cleanroom/sandbox/initproto"

	"golang.org/x/sys/unix"
)

func socketPath() string { return filepath.Join(runDir, "init.sock") }

func maskSocketPath() string { return filepath.Join(runDir, "mask.sock") }

// markerPath names the file that tells init's second life from its first. A
// file and not a variable, because an ENTRYPOINT may start from an empty
// environment. Forging it gains nothing: an init that believes to be in its
// second life is ready without Boot, and the driver sees that it is.
func markerPath() string { return filepath.Join(runDir, "entrypoint") }

// serve is init itself, in both of its lives.
func serve() int {
	prewarm(10)
	oom := openOOMScore()
	// The key is in our memory, and the job may run as the same user.
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(64 << 20)

	l, err := listen(socketPath())
	if err != nil {
		return report(err)
	}
	h := newHost()
	h.oom = oom
	if _, err := os.Lstat(markerPath()); err == nil {
		h.becomeReady(os.Environ())
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP)
	go h.reaper.loop()
	go (&initproto.Server{Handler: h}).Serve(l)
	for {
		select {
		case s := <-signals:
			if s == unix.SIGHUP { // some terminal went away, not the room
				continue
			}
			h.terminate()
			os.Remove(socketPath())
			return exitTerminated
		case <-h.ended:
			os.Remove(socketPath())
			return 0
		case <-h.failed: // an ENTRYPOINT or service that cannot be executed
			return exitNotFound
		}
	}
}

// listen makes the socket. What lies there from a life before is removed, but
// a living init is not: a job may call us by hand.
func listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, errors.New("init already serves this container: nothing to do")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: make %s writable for the container's user", err, runDir)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w: make %s writable for the container's user", err, runDir)
	}
	// The driver may be another user than the container's, where the key decides;
	// and so may who has a value to hide.
	os.Chmod(path, 0o666)
	return l, nil
}

// prewarm has the runtime start n threads, which it then keeps. A job that
// uses up the container's process limit would otherwise end init with it: the
// Go runtime dies when it needs a thread and cannot have one.
func prewarm(n int) {
	runtime.GOMAXPROCS(2)
	var ready, done sync.WaitGroup
	release := make(chan struct{})
	for range n {
		ready.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			runtime.LockOSThread()
			ready.Done()
			<-release
			runtime.UnlockOSThread()
		}()
	}
	ready.Wait()
	close(release)
	done.Wait()
}

// host is this container, as the protocol's server asks for it.
type host struct {
	reaper *reaper
	oom    oomScore
	stop   chan struct{} // closed when init itself was told to end
	failed chan struct{} // closed when Boot failed and the driver knows
	ended  chan struct{} // told when the driver needs init no more

	running sync.Mutex // held while a stage runs
	files   *identity  // of the folder of files, once it was seen; running guards it, Boot comes before
	bad     atomic.Bool

	mu    sync.Mutex
	mask  func(value []byte) error // of the stage that runs
	ready bool
	env   []string
	shell func() (path, problem string)
}

func newHost() *host {
	return &host{reaper: newReaper(), stop: make(chan struct{}), failed: make(chan struct{}), ended: make(chan struct{}, 1), env: os.Environ()}
}

// becomeReady is the step from which stages can run, with env as their
// environment.
func (h *host) becomeReady(env []string) {
	if os.Getpid() != 1 {
		// Whom the stage's processes leave behind comes to us, as if we were.
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
	h.takeMasks()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.env, h.ready = env, true
	h.shell = sync.OnceValues(func() (string, string) { return h.findShell(env) })
}

// Hello implements initproto.Handler.
func (h *host) Hello() initproto.Hello {
	h.mu.Lock()
	hello := initproto.Hello{Version: version, UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), Ready: h.ready}
	shell := h.shell
	h.mu.Unlock()
	if shell != nil {
		hello.Shell, hello.ShellProblem = shell()
	}
	return hello
}

// End implements initproto.Handler.
func (h *host) End() {
	select {
	case h.ended <- struct{}{}:
	default:
	}
}

// Over implements initproto.Handler: after a failed Boot the driver has read
// why, or is gone; either way there is nothing left to do.
func (h *host) Over() {
	if h.bad.CompareAndSwap(true, false) {
		close(h.failed)
	}
}

// terminate ends a stage that runs, in less than the ten seconds that an
// engine gives before it kills.
func (h *host) terminate() {
	close(h.stop)
	ended := make(chan struct{})
	go func() { h.running.Lock(); close(ended) }()
	select {
	case <-ended:
		time.Sleep(20 * time.Millisecond) // the exit frame is on its way
	case <-time.After(6 * time.Second):
	}
}
