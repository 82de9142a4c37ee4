// Package fault names the instants at which tests have the driver die, fail or
// wait, and gives decisions about time a clock that tests can move.
//
// It promises that without the build tag faults none of that exists: At and
// Now then are nil and time.Now, and no environment changes them.
//
// With the tag, FAULTS_AT in the environment, or else the job's variable of that
// name, says what happens where:
//
//	POINT=kill      KILL to ourselves
//	POINT=error     At returns ErrInjected
//	POINT=stop:5s   it takes that long to go on
//
// POINT=kill@3 is for the third time that one process reaches the point.
// A value that begins with / names a file which holds that; whoever acts first
// removes it, so that it happens once and the test sees that it has.
// FAULTS_CLOCK=-24h sets Now that far from the true time.
package fault

// Points are all names that At is called with, by the command that reaches
// them, or reaches them first.
var Points = map[string][]string{
	"config": {"config.named", "config.answered"},
	"prepare": {
		"prepare.begun", "prepare.forgotten",
		"journal.made", "prepare.journal.begun", "prepare.lease.journalled", "prepare.leases.issued",
		"seal.written", "prepare.sealed",
		"room.marked", "room.images.ready", "room.network.made", "room.volume.made",
		"room.container.created", "room.container.attached", "room.container.started", "room.container.plugged", "room.container.booted",
		"room.state.written", "room.remembered", "room.services.ready", "prepare.room.made",
	},
	"config, with the pool":  {"claim.noted", "claim.taken"},
	"prepare, with the pool": {"room.fits", "room.adopted", "room.taken"},
	"pool fill":              {"fill.begun", "fill.made", "fill.written", "fill.ready", "expire.moved", "expire.wiped"},
	"run": {
		"run.begun", "run.unsealed", "run.reached", "run.output",
		"run.frozen", "run.searched", "run.stored", "run.compared", "run.ended",
	},
	"cleanup": {
		"cleanup.begun", "end.begun", "end.over.noted", "end.lease.revoked", "end.lease.ended",
		"wipe.found", "wipe.containers.gone", "wipe.removed", "wipe.forgotten",
		"end.wiped", "end.seal.gone", "end.note.gone", "end.evidence.kept",
		"append.begun", "append.written", "append.decided", "append.renamed", "end.recorded", "end.closed",
	},
	"reap":         {"reap.begun", "reap.found", "end.runner.gone", "reap.ended"},
	"audit init":   {"key.made", "init.ready", "init.journalled", "init.published"},
	"rotate-key":   {"rotate.noted", "append.key.known", "rotate.decided", "key.placed", "rotate.settled", "rotate.said"},
	"an admin":     {"queue.drafted", "change.made", "queue.kept", "queue.appended"},
	"a new policy": {"notice.seen", "notice.told"},
}
