package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/secret/quote"
)

// maxShown bounds what is shown of another host's error, in bytes.
const maxShown = 300

// auditLog looks whether jobs have a record, and whether others get it.
func auditLog(ctx context.Context, cfg config.Config) Check {
	const name = "audit log"
	l, err := ledger.Open(cfg)
	switch {
	case errors.Is(err, ledger.ErrNoLog) && cfg.Audit.Required:
		return fail(name, "run `cleanroom audit init`", "there is none, and audit.required refuses jobs without")
	case errors.Is(err, ledger.ErrNoLog):
		return warn(name, "run `cleanroom audit init`", "there is none: jobs leave no record")
	case err != nil:
		return fail(name, "run `cleanroom audit verify`", "%v", err)
	}
	cp, err := l.Checkpoint()
	if err != nil {
		return fail(name, "run `cleanroom audit verify`", "%v", err)
	}
	about := fmt.Sprintf("%s, %d records", cp.Origin, cp.Size)
	q := queue.Of(cfg.DataDir)
	switch waiting, unusable, err := q.Waiting(); {
	case err != nil:
		return fail(name, "look at "+q.Dir, "%v", err)
	case unusable > 0:
		return fail(name, "look at "+q.Dir, "%s; %d entries of its queue cannot be read", about, unusable)
	case waiting > 0:
		return warn(name, "run `cleanroom reap`, which says why", "%s; %d more wait for it", about, waiting)
	}
	if len(cfg.Audit.Forward) == 0 {
		return ok(name, "%s", about)
	}
	states, err := l.Forwarder("", logrus.NewEntry(logrus.StandardLogger())).States(ctx)
	if err != nil {
		return fail(name, "run `cleanroom audit forward`", "%v", err)
	}
	for _, s := range states {
		if !s.FailingSince.IsZero() {
			return warn(name, "run `cleanroom audit forward`", "%s; %s has %d records to get: %s", about, s.Name, s.Pending, quote.Text(s.Error, maxShown))
		}
	}
	return ok(name, "%s, forwarded", about)
}
