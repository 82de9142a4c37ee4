// Package metrics counts what drivers do, for Prometheus: every command is a
// process of its own and several run at once, so the counters stand in a file
// in data_dir, and from it a textfile for node_exporter is written.
//
// What it promises: nothing that is counted at the same time is lost; who
// reads the textfile sees an old one or a new one, never half of one; all
// series are there from the first, with values of labels that are fixed here,
// so that no author of a job can choose one; and what goes wrong is a warning
// in the driver's log, and no job's trouble.
package metrics

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/executor/secret/hostkey/durable"
)

// Family is one metric with all its series.
type Family struct {
	name, help, label string
	values            []string  // of the label; a family without one has the value ""
	buckets           []float64 // of a histogram, upper bounds; nil: a counter
}

// Values of labels.
const (
	OK       = "ok"
	Failed   = "failed"
	Canceled = "canceled"
	System   = "system"

	Policy   = "policy"
	Identity = "identity"
	Secret   = "secret"
	Request  = "request"
	Guard    = "guard"

	Refused = "refused"
	Warned  = "warned"
)

// Buckets go from what a stage takes at least to the usual bounds of a job.
var (
	short = []float64{0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300}
	long  = []float64{0.1, 0.5, 1, 5, 15, 60, 300, 900, 1800, 3600}
)

// All there is to count. A new one, or one with other buckets or values,
// needs no new version of the state: what that does not know begins at zero.
var (
	Jobs = &Family{name: "cleanroom_jobs_total", label: "result", values: []string{OK, Failed, Canceled, System},
		help: "Rooms of jobs that were ended, by what the driver saw. ok: the script's last step ended with 0 and no stage failed. " +
			"failed: a stage failed (also a failure that the job allows), or the job was refused. canceled: the runner ended a stage early, by a cancel or a timeout, or was gone. " +
			"system: all else, as a failure of the host, a driver that was killed, a script that never ended. " +
			"after_script counts for nothing. A prepare that the runner tries again has a room each time."}
	Prepare = &Family{name: "cleanroom_prepare_seconds", buckets: short,
		help: "Seconds from the start of a prepare until its room was ready; of no others."}
	Stage = &Family{name: "cleanroom_stage_seconds", label: "container", values: []string{"helper", "job"}, buckets: long,
		help: "Seconds of each stage that ran, however it ended: the runner's own in the helper container, the job's in its own."}
	Cleanup = &Family{name: "cleanroom_cleanup_seconds", buckets: short,
		help: "Seconds of each try at ending a room: leases revoked, everything wiped. By cleanup, reap or an admin."}
	Reaped = &Family{name: "cleanroom_rooms_reaped_total",
		help: "Rooms that no cleanup had ended and that reap, or the pass of a later prepare, ended."}
	Refusals = &Family{name: "cleanroom_refusals_total", label: "reason", values: []string{Policy, Identity, Secret, Request, Guard},
		help: "Refusals, of a job at its start or of what one of its stages would store. policy: an image, service, secret or wish that is not granted. identity: a token. " +
			"secret: a provider's no, a value too old. request: what the job asks for makes no sense. guard: a secret in a file that would be stored, or a file that could not be searched, or changed."}
	Redactions = &Family{name: "cleanroom_redactions_total",
		help: "Secrets that were hidden in logs of jobs, each time."}
	Findings = &Family{name: "cleanroom_guard_findings_total", label: "action", values: []string{Refused, Warned},
		help: "What the guard found in files that a stage would store. refused: nothing of that stage was stored. warned: let pass with a warning, by a rule or as an archive that is only broken."}
	Leases = &Family{name: "cleanroom_leases_total", label: "outcome", values: []string{"revoked", "expires", "failed"},
		help: "Leases that were ended. revoked: and seen to be gone. expires: it cannot be revoked. failed: each try that failed; reap tries again."}
)

var families = []*Family{Jobs, Prepare, Stage, Cleanup, Reaped, Refusals, Redactions, Findings, Leases}

// Change is something to count.
type Change struct {
	of    *Family
	value string
	by    float64
}

// Add counts n more.
func (f *Family) Add(value string, n int) Change { return Change{f, value, float64(n)} }

// Took is a duration for a histogram.
func (f *Family) Took(value string, d time.Duration) Change { return Change{f, value, d.Seconds()} }

// labels are the values of the family's label.
func (f *Family) labels() []string {
	if f.label == "" {
		return []string{""}
	}
	return f.values
}

// check keeps out what would make a series of its own, or a counter that falls.
func (c Change) check() error {
	if !slices.Contains(c.of.labels(), c.value) || !(c.by >= 0) {
		return fmt.Errorf("%s has no %q, or cannot change by %g", c.of.name, c.value, c.by)
	}
	return nil
}

// Book is where it is counted.
type Book struct {
	Dir  string        // data_dir
	File string        // the textfile; empty: nothing is counted
	Log  *logrus.Entry // hears of what goes wrong
}

// lockTime is how long a command waits for others that count. Each needs a
// millisecond: who waits longer waits for a disk that hangs.
const lockTime = 2 * time.Second

// Count counts all changes at once. It has no error: no caller may fail for it.
func (b Book) Count(changes ...Change) {
	changes = slices.DeleteFunc(changes, func(c Change) bool { return c.by == 0 && c.of.buckets == nil })
	if b.File == "" || len(changes) == 0 {
		return
	}
	if err := b.count(changes); err != nil {
		b.Log.WithError(err).Warn("metrics: not counted, or not written to metrics.file")
	}
}

func (b Book) count(changes []Change) error {
	for _, c := range changes {
		if err := c.check(); err != nil {
			return err
		}
	}
	if err := durable.Folder(b.Dir); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTime) // a stage that was cancelled counts, too
	defer cancel()
	lock, err := durable.Lock(ctx, b.path()+".lock")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	s, err := b.load()
	if err != nil {
		return err
	}
	for _, c := range changes {
		s.apply(c)
	}
	if err := b.save(s); err != nil {
		return err
	}
	// By rename in its own folder; node_exporter leaves a name that does not
	// end with .prom alone.
	return durable.Replace(b.File, s.text(), 0o644)
}
