package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"cleanroom/executor/audit/dossier"
	"cleanroom/executor/audit/output"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/contract"
	"cleanroom/executor/guard"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/redact"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
)

// gatherer is what one stage has to say for the job's record.
type gatherer struct {
	stage record.Stage
	line  dossier.Line
	meter *output.Meter
}

// exit takes the stage's own result.
func (g *gatherer) exit(r sandbox.Result) {
	code := r.ExitCode
	g.stage.Exit, g.stage.OutOfMemory = &code, r.OOM
}

// found takes what the guard found. There may be as many as the job has files.
func (g *gatherer) found(f guard.Finding, warned bool, rule string) {
	const most = 1000 // more than a record has
	if len(g.line.Guard) < most {
		g.line.Guard = append(g.line.Guard, recordFinding(g.stage.Stage, f, warned, rule))
	}
}

// begins notes that a stage begins, and measures what goes into the job's log
// from here on.
func (x *Executor) begins(room, stage string) {
	g := &x.gather
	g.stage = record.Stage{Stage: stage, Began: time.Now()}
	if stage != prepareStage {
		g.stage.Container = string(sandbox.Helper)
		if kind, err := contract.Classify(stage); err == nil && kind == contract.User {
			g.stage.Container = string(sandbox.Job)
		}
	}
	if x.Audit == nil {
		return
	}
	job, err := x.Call.Job()
	if err != nil { // the stage says so
		return
	}
	if stage == prepareStage {
		x.noted(dossier.Begin(x.Config.DataDir, dossier.Head{Room: room, Job: job.ID, Project: projectOf(job), Began: g.stage.Began}))
	}
	x.noted(dossier.Add(x.Config.DataDir, room, dossier.Line{Began: &g.stage}, false))
	g.meter = output.New(x.Out, output.Options{Prefixes: job.Features.TokenMaskPrefixes, Phrases: x.phrases()})
	x.Out = g.meter
}

// projectOf names a job's project by what the server says.
func projectOf(job *contract.Job) string {
	if job.JobInfo.ProjectFullPath != "" {
		return job.JobInfo.ProjectFullPath
	}
	return strconv.FormatInt(job.JobInfo.ProjectID, 10)
}

// phrases are the values that the runner masks in what the redactor lets
// through: those that are too short for it, and those that are a part of what
// it puts in the place of others.
func (x *Executor) phrases() (all []string) {
	masked := x.Call.Masked()
	names := []string{"add-mask not heeded: ", maskName}
	for _, v := range masked {
		names = append(names, v.Name)
	}
	for _, s := range x.Config.Secrets {
		names = append(names, s.Name)
	}
	for _, v := range masked {
		own := func(name string) bool { return strings.Contains("[cleanroom: "+name+"]", v.Value) }
		if redact.Size(v.Value) < leastHidden || slices.ContainsFunc(names, own) {
			all = append(all, v.Value)
		}
	}
	return all
}

// ends notes how the stage ended.
func (x *Executor) ends(room, result string, err error) {
	g := &x.gather
	if g.meter == nil {
		return
	}
	out, wrong := g.meter.Close()
	x.noted(wrong)
	g.stage.Result, g.stage.Millis, g.stage.Output = result, time.Since(g.stage.Began).Milliseconds(), &out
	if r, ok := recordRefusal(x.Call, g.stage.Stage, err); ok {
		g.line.Refusals = append(g.line.Refusals, r)
	}
	g.line.Ended = &g.stage
	x.noted(dossier.Add(x.Config.DataDir, room, g.line, g.stage.Stage == prepareStage))
}

// noted is for what the record will lack: it says so itself, and no job fails
// for it.
func (x *Executor) noted(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.Log.WithError(err).Error("audit: the job's record will lack something")
	}
}

// decided puts on the disk what was decided, before any of it is done.
func (x *Executor) decided(ctx context.Context, room string, spec *sandbox.Spec, who standing) error {
	if x.Audit == nil {
		return nil
	}
	if x.Full != nil { // else Ready has looked
		if err := x.Audit.Notice(ctx, prepareStage, x.Config, who.rules); err != nil {
			return err
		}
	}
	g := &x.gather
	g.line.Profile = string(spec.Profile)
	if err := dossier.Add(x.Config.DataDir, room, g.line, true); err != nil {
		return err
	}
	g.line = dossier.Line{}
	spec.Found = func(p sandbox.Picture) {
		g.line.Images = append(g.line.Images, record.Image{Role: string(p.Role), Name: unmasked(x.Call, p.Name), ID: p.ID, Digest: p.Digest})
	}
	return nil
}

// showCheckpoint prints the newest checkpoint of the audit log into the job's
// log, folded: GitLab keeps that, off this host, so that each job bears witness
// to all records before it.
func (x *Executor) showCheckpoint() error {
	if x.Audit == nil || x.Audit.Checkpoint == nil {
		return nil
	}
	cp, err := x.Audit.Checkpoint()
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	now := time.Now().Unix() // as GitLab's documentation has sections
	x.sayf("\x1b[0Ksection_start:%d:cleanroom_audit[collapsed=true]\r\x1b[0KAudit log: %d records", now, cp.Size)
	fmt.Fprint(x.Out, cp.Block())
	fmt.Fprintf(x.Out, "\x1b[0Ksection_end:%d:cleanroom_audit\r\x1b[0K\n", now)
	return nil
}

// recordWaiver is what a rule lets a job store.
func recordWaiver(w verdict.Waiver) record.Decision {
	return record.Decision{Kind: string(verdict.Warn), Name: strings.Join(w.Paths, ", "), Allowed: true, Rule: w.Rule, Tokens: w.Identity,
		Reason: "granted by rule " + w.Rule}
}

// recordCacheGrant is which caches the job may have kept.
func recordCacheGrant(g verdict.CacheGrant) record.Decision {
	reason := "no rule is about caches"
	if g.Rule != "" {
		reason = "granted by rule " + g.Rule
	}
	return record.Decision{Kind: string(verdict.Cache), Name: strings.Join(g.Keys, ", "), Allowed: true, Rule: g.Rule, Tokens: g.Identity, Reason: reason}
}

// record keeps what is known of an ending, if there was something to end. Its
// error is the ending's, and that of keeping.
func (f finisher) record(e roomEnd) error {
	if f.audit == nil {
		return e.err
	}
	known := e.journal != nil || e.err != nil || len(e.ended.Evidence.Removed)+len(e.ended.Evidence.Left) > 0
	if !known && !dossier.Has(f.config.DataDir, e.room) {
		return e.err
	}
	return errors.Join(e.err, f.audit.end(f.config.DataDir, e))
}

// byDossier ends rooms of which nothing is left but a dossier: of a job that
// was refused, and whose cleanup never came, or could not put the record into
// the log.
func (r *Reaper) byDossier(ctx context.Context, journals []string, rooms []sandbox.RoomInfo) error {
	if r.Audit == nil {
		return nil
	}
	old, err := dossier.Rooms(r.Config.DataDir, time.Now().Add(-noteTime))
	failed := []error{err}
	for _, room := range old {
		if slices.Contains(journals, room) || slices.ContainsFunc(rooms, func(i sandbox.RoomInfo) bool { return i.Name == room }) {
			continue
		}
		if stage, _ := RunningStage(r.Config.StateDir, room); stage != "" {
			continue
		}
		if journal, err := secret.Find(r.Config.DataDir, room, 0); journal != nil || !errors.Is(err, fs.ErrNotExist) {
			if journal != nil { // of a prepare that has just begun
				err = journal.Keep()
			}
			failed = append(failed, err)
			continue
		}
		failed = append(failed, r.told(room, func() (Ended, error) {
			return r.finisher(byReap).finish(ctx, room, "its prepare was refused, and no cleanup came", nil, nil)
		}))
	}
	return errors.Join(failed...)
}
