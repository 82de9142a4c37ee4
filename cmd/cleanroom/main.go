// Command cleanroom is a driver for GitLab Runner's custom executor: it gives
// every CI job a clean room of containers and wipes it afterwards.
package main

import (
	"errors"
	"fmt"
	"os"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"
	"golang.org/x/sys/unix"

	"cleanroom/executor/contract"
)

// version is set by the build (-ldflags -X main.version=...).
var version = "0.1.0-dev"

func main() {
	noCrashDump()
	err := root().Execute()
	if err == nil {
		return
	}
	code := 1
	var e exitError
	if errors.As(err, &e) {
		code = e.code
		err = e.err
	} else if call, err := contract.FromEnviron(os.Environ()); err == nil || errors.Is(err, contract.ErrNoJobResponse) && ofRunner() {
		code = call.SystemFailure() // a wrong argument in the runner's config.toml is no job's fault
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cleanroom:", err)
	}
	os.Exit(code)
}

// noCrashDump keeps what this process, or one that it starts, knows from being
// written to a disk when it crashes. With a limit of 0 the kernel would still
// feed a dump to a program (core(5), core_pattern with |); with 1, which it
// keeps for such programs themselves, it does neither.
func noCrashDump() {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
}

// ofRunner says whether a runner called us, even one that is too old.
func ofRunner() bool {
	return os.Getenv(api.BuildFailureExitCodeVariable) != "" || os.Getenv(api.SystemFailureExitCodeVariable) != ""
}

// exitError is an error with the exit code that a caller acts on; a nil err
// has been said already.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }
