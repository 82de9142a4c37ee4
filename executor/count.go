package executor

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/executor/metrics"
	"cleanroom/executor/registry"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

func book(c config.Config, log *logrus.Entry) metrics.Book {
	return metrics.Book{Dir: c.DataDir, File: c.Metrics.File, Log: log}
}

// count keeps something to count until the stage ends: all is counted at once.
func (x *Executor) count(c ...metrics.Change) { x.counts = append(x.counts, c...) }

// follow notes a stage, and returns what notes and counts how it went. That
// tells the job of an error, too, and gives it back as one that was told.
func (x *Executor) follow(ctx context.Context, room, stage string) (end func(took metrics.Change, err error) error) {
	n := openNote(x.Config.StateDir, room, stage == prepareStage)
	n.begins(stage)
	x.begins(room, stage)
	return func(took metrics.Change, err error) error {
		n.ends(resultOf(ctx, err))
		err = x.tell(err) // before the record has what was printed
		x.ends(room, resultOf(ctx, err), err)
		if reason := refusal(err); reason != "" {
			x.count(metrics.Refusals.Add(reason, 1))
		}
		if took != (metrics.Change{}) {
			x.count(took)
		}
		book(x.Config, x.Log).Count(x.counts...)
		x.counts = nil
		return err
	}
}

// prepareStage is prepare's name among stages; the runner has none of that name.
const prepareStage = "prepare"

func resultOf(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return metrics.OK
	case ctx.Err() != nil:
		return metrics.Canceled
	case ofAuthor(err):
		return metrics.Failed
	default:
		return metrics.System
	}
}

// refusals are the errors of a job that was refused, by reason. What is not
// among them, as an image that is nowhere, failed and was not refused.
var refusals = []struct {
	reason string
	errors []error
}{
	{metrics.Guard, []error{ErrFound, ErrUnsearched, sandbox.ErrChanged}},
	{metrics.Identity, []error{identity.ErrToken, identity.ErrDisagree}},
	{metrics.Policy, []error{ErrDenied}},
	{metrics.Secret, []error{secret.ErrRefused}},
	{metrics.Request, []error{contract.ErrService, registry.ErrJob}},
}

func refusal(err error) string {
	for _, r := range refusals {
		if slices.ContainsFunc(r.errors, func(one error) bool { return errors.Is(err, one) }) {
			return r.reason
		}
	}
	return ""
}

// leaseChanges are what became of leases, to be counted.
func leaseChanges(endings []secret.Ending) (all []metrics.Change) {
	for _, e := range endings {
		all = append(all, metrics.Leases.Add(string(e.Outcome), 1))
	}
	return all
}

// count counts one try at ending a room, and the job itself once: by whoever
// took its note away, or else its journal. The state folder, and the note with
// it, may not have survived a restart of the machine.
func (f finisher) count(ended Ended, journal bool, took time.Duration, err error) {
	all := leaseChanges(ended.Leases)
	if journal || len(ended.Evidence.Removed)+len(ended.Evidence.Left) > 0 {
		all = append(all, metrics.Cleanup.Took("", took))
	}
	if err == nil && f.by == byReap {
		all = append(all, metrics.Reaped.Add("", 1))
	}
	if err == nil && (ended.noted || journal) {
		all = append(all, metrics.Jobs.Add(ended.note.result(), 1))
	}
	book(f.config, f.log).Count(all...)
}

// byReap is how reap, and the passes of prepares, sign what they end.
const byReap = "reap"
