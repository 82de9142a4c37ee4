// Package detach starts processes that go on when a stage of the job is over, and
// have nothing of the job.
package detach

import (
	"math"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Start starts a program and comes back at once. That takes no part in the job:
// no pipe of the runner's stays open for it, a signal to the stage's process
// group does not reach it, and of the environment it gets only what is an
// admin's, above all neither the job's variables nor the key of its secrets.
func Start(program string, args, environ []string) error {
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

// admins are variables that Go's network and the engine's client go by.
var admins = []string{
	"HOME", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION", "DOCKER_CONFIG",
	"PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "GODEBUG",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
}

// Environ is what a detached process gets: the admin's configuration, and how
// to reach the network.
func Environ(environ []string) []string {
	kept := []string{} // not nil, which would be all of ours
	for _, line := range environ {
		name, _, _ := strings.Cut(line, "=")
		if slices.Contains(admins, name) || strings.HasPrefix(name, "CLEANROOM_") && !slices.Contains(private, name) {
			kept = append(kept, line)
		}
	}
	return kept
}
