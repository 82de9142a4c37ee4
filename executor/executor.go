// Package executor is the driver: the four stages that gitlab-runner calls,
// each in a file of its own. It decides what a job gets; the sandbox makes it
// so.
package executor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/executor/metrics"
	"cleanroom/executor/registry"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// ErrDenied marks what the admin's configuration refuses. Trying again will
// not change it, so it is a build failure.
var ErrDenied = errors.New("denied")

// Executor serves one call of the runner.
type Executor struct {
	Config  config.Config
	Call    *contract.Call
	Engine  sandbox.Engine
	Log     *logrus.Entry // for the admin
	Out     io.Writer     // the job's log; at the config stage, the answer to the runner
	Version string
	Audit   *Audit // nil: no record is kept

	// Attest, unless nil, is told what an upload of artifacts will store, when
	// the guard has let it pass and before it is stored: Vouch. What it gives goes
	// to where audit.provenance_file says; its error ends the stage. If it is nil
	// nothing is hashed.
	Attest func(context.Context, Upload) (envelope []byte, err error)

	Full *Full // nil: Ready says which calls can be served

	sealed *secret.Sealed   // what Ready has read already
	counts []metrics.Change // until the stage ends
	gather gatherer         // for the job's record
}

// authors are the errors that the job's author, or somebody the author can
// ask, has to mend.
var authors = []error{
	sandbox.ErrUser, ErrDenied, contract.ErrService, registry.ErrJob,
	identity.ErrToken, identity.ErrDisagree, secret.ErrRefused, ErrFound, ErrUnsearched, sandbox.ErrChanged, ErrPlace,
}

// stageError carries the code a stage of the job ended with.
type stageError struct{ code int }

func (e stageError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// ExitCode is what the process must exit with for the runner to understand
// err: its build failure for what the job's author can mend, its system
// failure (which it retries) for all else.
func ExitCode(call *contract.Call, err error) int {
	switch {
	case err == nil:
		return 0
	case ofAuthor(err):
		return call.BuildFailure()
	default:
		return call.SystemFailure()
	}
}

// ofAuthor says whether the job's author can mend it.
func ofAuthor(err error) bool {
	var stage stageError
	return errors.As(err, &stage) || slices.ContainsFunc(authors, func(e error) bool { return errors.Is(err, e) })
}

// Silent tells whether the runner says all there is to say of err itself.
func Silent(err error) bool {
	var stage stageError
	return errors.As(err, &stage)
}

// told is an error that stands in the job's log.
type told struct{ error }

func (t told) Unwrap() error { return t.error }

// Told tells whether a stage has printed err itself.
func Told(err error) bool {
	var t told
	return errors.As(err, &t)
}

// tell prints an error where the stage's output goes, so that the record's hash
// covers it: of what would go to stderr nobody could say later that it is ours.
func (x *Executor) tell(err error) error {
	if err == nil || Silent(err) || Told(err) {
		return err
	}
	x.sayf("cleanroom: %v", clean(err, x.toHide(&secret.Sealed{})))
	return told{err}
}

// Failed is for a stage that cannot even begin: the job is told why, and its
// record holds that.
func (x *Executor) Failed(ctx context.Context, stage string, why error) error {
	name, _, err := x.room()
	if err != nil {
		return why
	}
	return x.follow(ctx, name, stage)(metrics.Change{}, why)
}

// Fault is an error in words for the admin's log: one line, in which no
// private value of the job stands. What a room printed stays in the job's log.
func Fault(call *contract.Call, err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return scrub(call, text)
}

func scrub(call *contract.Call, text string) string {
	for _, value := range call.Private() {
		text = strings.ReplaceAll(text, value, "[private]")
	}
	return text
}

// sayf writes a line into the job's log.
func (x *Executor) sayf(format string, args ...any) {
	fmt.Fprintf(x.Out, format+"\n", args...)
}
