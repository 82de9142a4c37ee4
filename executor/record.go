package executor

import (
	"context"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/contract"
	"cleanroom/executor/guard"
	"cleanroom/executor/identity"
	"cleanroom/executor/metrics"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// Audit is where records of what is done go; a nil one keeps none.
type Audit struct {
	Log     dossier.Log
	Queue   queue.Queue // where what is no job waits for the log
	Version string      // of this program
	// Required: what no record can be kept of is not done.
	Required bool
	Report   *logrus.Entry // is told what waits
	// Checkpoint is the newest one, for jobs' logs; nil: they show none.
	Checkpoint func() (checkpoint.Checkpoint, error)
	// Seal makes provenance and signs it with the log's key, in which Builder is
	// this host: ledger's.
	Seal    func(ctx context.Context, job provenance.Job, files []provenance.File, hide func(string) string) (provenance.Envelope, error)
	Builder string
}

// head is a record of a kind, but for its body and its id.
func (a *Audit) head(kind record.Kind, command string) *record.Record {
	r := &record.Record{Kind: kind, At: time.Now(), By: record.By{Command: command, UID: os.Getuid()}}
	r.Host.Name, _ = os.Hostname()
	r.Host.Cleanroom = a.Version
	if who, err := user.LookupId(strconv.Itoa(r.By.UID)); err == nil {
		r.By.User = who.Username
	}
	return r
}

// recordFacts are facts as a record has them: whole, as nothing of them is the
// author's to hide.
func recordFacts(facts identity.Facts) (all []record.Fact) {
	for _, name := range facts.Known() {
		all = append(all, record.Fact{Fact: name, Is: facts[name].Value, Source: facts[name].Source})
	}
	return all
}

// unmasked is a text that the author had a part in, without the values that no
// log may show.
func unmasked(call *contract.Call, text string) string {
	for _, v := range call.Masked() {
		if len(v.Value) >= leastHidden {
			text = strings.ReplaceAll(text, v.Value, "[masked]")
		}
	}
	return text
}

func recordDecision(call *contract.Call, kind verdict.Kind, name string, d verdict.Decision) record.Decision {
	return record.Decision{
		Kind: string(kind), Name: unmasked(call, name), Allowed: d.Allowed, Rule: d.Rule,
		Stages: d.Stages, Tokens: d.Identity, Reason: unmasked(call, d.Reason),
	}
}

// recordSecret is what a job was given. What becomes of it, leases tell.
func recordSecret(g grant, given secret.Issued, issued time.Time) record.Secret {
	return record.Secret{
		Name: g.secret.Name, Provider: g.provider.Name, Rule: g.decision.Rule, Stages: g.decision.Stages,
		Version: given.Version, Rotated: given.Rotated, Issued: issued, Expires: given.Expires, Revocable: given.Revocable,
	}
}

// recordLeases are what became of leases, by secret, in the order of their
// issue.
func recordLeases(endings []secret.Ending, at time.Time) (all []record.Secret) {
	for _, e := range slices.Backward(endings) { // revoked youngest first
		l := record.Lease{ID: e.Entry.ID, Issued: e.Entry.Issued, Expires: e.Entry.Expires, Ended: at, Outcome: string(e.Outcome)}
		if e.Err != nil {
			l.Error = whyNot
		}
		all = dossier.Merge(all, record.Secret{Name: e.Entry.Secret, Provider: e.Entry.Provider, Leases: []record.Lease{l}})
	}
	return all
}

// recordEnd is the evidence of an ending.
func recordEnd(why string, took time.Duration, ended Ended, err error) record.End {
	e := record.End{Why: why, Millis: took.Milliseconds(), Removed: recordItems(ended.Evidence.Removed), Left: recordItems(ended.Evidence.Left), Complete: err == nil}
	if err != nil {
		e.Error = err.Error()
		for _, l := range ended.Leases {
			if l.Err != nil {
				e.Error = strings.ReplaceAll(e.Error, l.Err.Error(), whyNot)
			}
		}
		e.Error = strings.ReplaceAll(e.Error, "\n", "; ")
	}
	return e
}

// whyNot stands in a record for the words of a source or of a program that
// revokes: they may hold what it gave, and a record stays for good.
const whyNot = "it could not be revoked: the driver's log, and room show, say why"

func recordItems(items []sandbox.Item) (all []record.Item) {
	for _, i := range items {
		all = append(all, record.Item{Kind: i.Kind, Name: i.Name, Why: i.Why})
	}
	return all
}

// recordFinding is one of the guard, its names without secrets.
func recordFinding(stage string, f guard.Finding, warned bool, rule string) record.Finding {
	r := record.Finding{Stage: stage, Path: f.Path, Members: f.Members, Name: f.Secret, Unsearched: f.Unsearched, Action: metrics.Refused, Rule: rule}
	if f.Unsearched != "" {
		r.Name = ""
	}
	if warned {
		r.Action = metrics.Warned
	}
	return r
}

// recordRefusal is what a stage's error refused; ok: it is a refusal.
func recordRefusal(call *contract.Call, stage string, err error) (r record.Refusal, ok bool) {
	reason := refusal(err)
	if reason == "" {
		return r, false
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return record.Refusal{Stage: stage, Reason: reason, Says: unmasked(call, text)}, true
}

// recordCounts are redactions, by name.
func recordCounts(counts map[string]int) (all []record.Count) {
	for name, n := range counts {
		if n > 0 {
			all = append(all, record.Count{Name: name, Times: n})
		}
	}
	slices.SortFunc(all, func(a, b record.Count) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// recordOutcome is how a job went, by its stages as the note of a job has it;
// in says which stage made it so.
func recordOutcome(j record.Job) (outcome record.Outcome, in string) {
	var n note
	for _, s := range j.Stages {
		result := s.Result
		if result == "unknown" { // its driver was killed
			result = metrics.System
		}
		n.add(s.Stage, result)
	}
	refused := slices.ContainsFunc(j.Refusals, func(r record.Refusal) bool { return r.Stage == n.In })
	if n.Result == metrics.Failed && refused {
		return record.Refused, n.In
	}
	return record.Outcome(n.result()), n.In
}

// roomEnd is what somebody who ends a room knows of it.
type roomEnd struct {
	room, by, why string
	began         time.Time // the ending
	ended         Ended
	journal       *secret.Journal // nil: there is none
	err           error
}

// end puts the record of an ending into the log: the job's own, the first
// time; later, if it got anybody further, what that was. The error means that
// the room must stay on the books.
func (a *Audit) end(dataDir string, e roomEnd) error {
	if a == nil {
		return nil
	}
	now := time.Now()
	took := now.Sub(e.began)
	_, err := dossier.Close(dataDir, e.room, a.Log, func(s dossier.State) *record.Record {
		if id, ok := s.Recorded(); ok {
			return a.reap(id, s, e, took, now)
		}
		r := a.head(record.OfJob, e.by)
		job := s.Job
		job.Gaps = s.Gaps
		if e.journal != nil && job.Job == 0 {
			job.Job, job.Project, job.Began = e.journal.Head.Job, e.journal.Head.Project, e.journal.Head.Began
		}
		job.Outcome, job.Stage = recordOutcome(job)
		job.Secrets = settle(job.Secrets, recordLeases(e.ended.Leases, now))
		job.End = recordEnd(e.why, took, e.ended, e.err)
		r.Job = &job
		return r
	}, e.err == nil)
	return err
}

// reap is the record of a later try, nil if nobody got further.
func (a *Audit) reap(id string, s dossier.State, e roomEnd, took time.Duration, now time.Time) *record.Record {
	further := e.err == nil || len(e.ended.Evidence.Removed) > 0 ||
		slices.ContainsFunc(e.ended.Leases, func(l secret.Ending) bool { return l.Outcome != secret.Failed })
	if !further {
		return nil
	}
	r := a.head(record.OfReap, e.by)
	ended := recordLeases(e.ended.Leases, now)
	given := slices.DeleteFunc(s.Job.Secrets, func(one record.Secret) bool {
		return !slices.ContainsFunc(ended, func(e record.Secret) bool { return e.Name == one.Name && e.Provider == one.Provider })
	})
	r.Reap = &record.Reap{Room: e.room, Job: s.Job.Job, Project: s.Job.Project, Record: id,
		Secrets: settle(given, ended), End: recordEnd(e.why, took, e.ended, e.err)}
	if e.journal != nil && r.Reap.Job == 0 {
		r.Reap.Job, r.Reap.Project = e.journal.Head.Job, e.journal.Head.Project
	}
	return r
}

// settle adds what became of leases, and says of each secret what became of it.
func settle(secrets, ended []record.Secret) []record.Secret {
	for _, one := range ended {
		secrets = dossier.Merge(secrets, one)
	}
	for i := range secrets {
		if secrets[i].Outcome == "" {
			secrets[i].Outcome = dossier.Outcome(secrets[i])
		}
	}
	return secrets
}
