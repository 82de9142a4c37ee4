package stages

import (
	"errors"
	"fmt"
	"os"

	"gitlab.com/gitlab-org/gitlab-runner/executors/custom/api"
	"golang.org/x/sys/unix"

	"cleanroom/executor/contract"
)

// Exit is an error with the exit code that a caller acts on; a nil Err has
// been said already.
type Exit struct {
	Code int
	Err  error
}

func (e Exit) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e Exit) Unwrap() error { return e.Err }

// End says what is wrong, if anything is, and ends the process.
func End(err error) {
	if err == nil {
		os.Exit(0)
	}
	code := 1
	var e Exit
	if errors.As(err, &e) {
		code = e.Code
		err = e.Err
	} else if call, err := contract.FromEnviron(os.Environ()); err == nil || errors.Is(err, contract.ErrNoJobResponse) && ofRunner() {
		code = call.SystemFailure() // a wrong argument in the runner's config.toml, or a program that is missing, is no job's fault
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cleanroom:", err)
	}
	os.Exit(code)
}

// NoCrashDump keeps what this process, or one that it starts, knows from being
// written to a disk when it crashes. With a limit of 0 the kernel would still
// feed a dump to a program (core(5), core_pattern with |); with 1, which it
// keeps for such programs themselves, it does neither.
func NoCrashDump() {
	unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1, Max: 1})
}

// ofRunner says whether a runner called us, even one that is too old.
func ofRunner() bool {
	return os.Getenv(api.BuildFailureExitCodeVariable) != "" || os.Getenv(api.SystemFailureExitCodeVariable) != ""
}
