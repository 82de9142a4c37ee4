package forward

import (
	"math"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DetachedTime bounds a process that Detach started. What it leaves is for
// the next, or for reap.
const DetachedTime = time.Minute

// Detach starts a program that sends what there is to send, and comes back at
// once. It takes no part in the job: no pipe of the runner's stays open for
// it, a signal to the stage's process group does not reach it, and of the
// environment it gets only what forwarding needs, above all neither the job's
// variables nor the key of its secrets.
func Detach(program string, args, environ []string) error {
	// A wrapper around the driver may have left more than 0, 1 and 2 open.
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) // from Linux 5.11 on
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = Environ(environ)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// private are CLEANROOM_ variables that are a job's, not the admin's.
var private = []string{"CLEANROOM_ROOM", "CLEANROOM_KEY", "CLEANROOM_RUNNER"}

// forwarding are variables that Go's network goes by.
var forwarding = []string{
	"PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GODEBUG",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// Environ is what a detached process gets: the admin's configuration, and how
// to reach the network.
func Environ(environ []string) []string {
	kept := []string{} // not nil, which would be all of ours
	for _, line := range environ {
		name, _, _ := strings.Cut(line, "=")
		if slices.Contains(forwarding, name) || strings.HasPrefix(name, "CLEANROOM_") && !slices.Contains(private, name) {
			kept = append(kept, line)
		}
	}
	return kept
}
