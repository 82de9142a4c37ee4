package executor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/executor/contract"
	"cleanroom/executor/secret"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// filesDir is where a container finds the secrets that come as files, as
// Docker's own do, and pydantic-settings' secrets_dir is told in its manual.
const filesDir = "/run/secrets"

// afterTime is what a secret may outlast its job's timeout: after_script (5
// minutes, unless RUNNER_AFTER_SCRIPT_TIMEOUT says more), and a cleanup that
// has to log in with it in order to revoke it.
const afterTime = 10 * time.Minute

// maxVariables bounds what secrets may add to an environment, in bytes: Linux
// takes about 2 MiB of it and of arguments together, and the job has its own.
const maxVariables = 1 << 20

// filesVariable tells a program that folder.
const filesVariable = "CLEANROOM_SECRETS_DIR"

// fetch has every granted secret issued for this job, and seals the values in
// the state folder. Each lease is in the journal before it is used; the journal
// is there before the room is.
func (x *Executor) fetch(ctx context.Context, room string, key [32]byte, job *contract.Job, s standing, grants []grant, deadline time.Time) (*secret.Sealed, error) {
	if err := x.forget(ctx, room); err != nil {
		return nil, err
	}
	if err := fault.At("prepare.forgotten"); err != nil {
		return nil, err
	}
	sealed := &secret.Sealed{Until: time.Now().Add(timeout(job) + afterTime), Waivers: s.waivers, Caches: s.caches}
	var host secret.Sealer
	if len(grants) > 0 {
		var err error
		if host, err = x.Full.hostKey(x.Config.DataDir); err != nil {
			return nil, err
		}
	}
	head := secret.Head{Room: room, Job: job.ID, Project: s.project(job), Began: time.Now(), Deadline: deadline, Clock: contract.ClockIn(deadline.Sub(fault.Now())), Temp: x.Call.TmpDir}
	if runner := contract.Runner(); runner.String() == x.Call.Runner { // else it is a wrapper, gone with this stage
		head.Runner = runner
	}
	journal, err := secret.Begin(x.Config.DataDir, host, head)
	if err != nil {
		return nil, err
	}
	if err := fault.At("prepare.journal.begun"); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	f := &fetcher{Executor: x, sealed: sealed, journal: journal, standing: s,
		job: secret.Job{ID: job.ID, Project: head.Project, Room: room}}
	if err := f.all(ctx, grants); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	if err := fault.At("prepare.leases.issued"); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	if err := journal.Keep(); err != nil { // without a lease, too: by it reap knows whose room it is
		return nil, err
	}
	if err := sealed.Save(x.Config.StateDir, room, key); err != nil {
		return nil, err
	}
	return sealed, fault.At("prepare.sealed")
}

// project names the job's project for providers and records, by what is
// certain of it: its path, or its number.
func (s standing) project(job *contract.Job) string {
	if path, ok := s.Facts["project_path"].Value.(string); ok && path != "" {
		return path
	}
	return strconv.FormatInt(job.JobInfo.ProjectID, 10)
}

// forget ends what a prepare before this one was given: the runner may try
// again without a cleanup.
func (x *Executor) forget(ctx context.Context, room string) error {
	if _, err := secret.Discard(x.Config.StateDir, room); err != nil {
		return err
	}
	journal, err := secret.Find(x.Config.DataDir, room, lockTime)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		var endings []secret.Ending
		endings, err = revoke(ctx, x.Config, x.Full, journal)
		err = errors.Join(err, journal.Close())
		logLeases(x.Log, endings)
		x.count(leaseChanges(endings)...)
		x.gather.line.Leases = append(x.gather.line.Leases, recordLeases(endings, time.Now())...)
	}
	if err != nil {
		return fmt.Errorf("leases of an earlier try: %w", err)
	}
	return nil
}

// fetcher asks all providers at once, and each for one secret after another.
type fetcher struct {
	*Executor
	standing
	job     secret.Job
	mu      sync.Mutex
	journal *secret.Journal
	sealed  *secret.Sealed
}

func (f *fetcher) all(ctx context.Context, grants []grant) error {
	byProvider := map[string][]grant{}
	for _, g := range grants {
		byProvider[g.provider.Name] = append(byProvider[g.provider.Name], g)
	}
	var work sync.WaitGroup
	failed := map[string]error{} // by secret: all that is wrong is said at once
	for _, grants := range byProvider {
		work.Go(func() {
			p, err := f.Full.providers(f.Config.DataDir)(grants[0].provider)
			for _, one := range grants {
				wrong := err
				if wrong == nil {
					wrong = f.one(ctx, p, one)
				}
				if wrong != nil {
					f.mu.Lock()
					failed[one.secret.Name] = fmt.Errorf("secret %s: %w", one.secret.Name, wrong)
					f.mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	var all []error
	for _, name := range slices.Sorted(maps.Keys(failed)) {
		all = append(all, failed[name])
	}
	return oneLine(all)
}

func (f *fetcher) one(ctx context.Context, p secret.Provider, g grant) error {
	var leases []string
	given, err := p.Fetch(ctx, secret.Request{
		Secret: g.secret, Job: f.job, Token: f.Token, Until: f.sealed.Until,
		Journal: func(l secret.Lease) error { leases = append(leases, l.ID); return f.write(g, l) },
		Hold:    f.journal.Hold(),
	})
	if err != nil {
		return err
	}
	if err := secret.TooOld(g.secret, given, time.Now()); err != nil {
		return err
	}
	deliveries, err := secret.Deliver(g.secret, given, g.decision.Stages)
	if err != nil {
		return err
	}
	for _, d := range deliveries {
		if err := long(g.secret, "the value for "+d.Variable, d.Value); err != nil {
			return err
		}
	}
	parts, err := hidden(g.secret, given)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sealed.Deliveries = append(f.sealed.Deliveries, deliveries...)
	f.sealed.Hidden = append(f.sealed.Hidden, parts...)
	f.tell(g, given, leases)
	return nil
}

// write puts a lease on the disk, and into the seal when a stage has to keep
// it alive.
func (f *fetcher) write(g grant, l secret.Lease) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.journal.Add(g.secret.Name, g.provider, l, time.Now())
	if err == nil {
		err = fault.At("prepare.lease.journalled")
	}
	if err == nil && l.Renewable && l.Expires.Before(f.sealed.Until) {
		f.sealed.Renewals = append(f.sealed.Renewals, secret.Renewal{Secret: g.secret.Name, Provider: g.provider, Lease: l})
	}
	return err
}

// tell says in the job's log, and the admin's, what was given and why.
func (f *fetcher) tell(g grant, given secret.Issued, leases []string) {
	var about []string
	if len(g.decision.Stages) > 0 {
		about = append(about, "for "+strings.Join(g.decision.Stages, ", "))
	}
	if given.Version != "" {
		about = append(about, "version "+given.Version)
	}
	if !given.Rotated.IsZero() {
		about = append(about, "rotated "+given.Rotated.UTC().Format(time.RFC3339))
	}
	if !given.Expires.IsZero() {
		about = append(about, "expires "+given.Expires.UTC().Format(time.RFC3339))
	}
	switch {
	case given.Revocable:
		about = append(about, "revoked after the job")
	case given.Expires.IsZero():
		about = append(about, "not issued for this job alone: it stays good")
	case given.Expires.After(f.sealed.Until):
		about = append(about, "cannot be revoked and outlives the job's timeout")
	default:
		about = append(about, "cannot be revoked")
	}
	if !given.Expires.IsZero() && given.Expires.Before(f.sealed.Until.Add(-afterTime)) && len(leases) == 0 {
		about = append(about, "ends before the job's timeout")
	}
	f.gather.line.Secrets = append(f.gather.line.Secrets, recordSecret(g, given, time.Now()))
	line := fmt.Sprintf("Secret %s: %s, from %s", g.secret.Name, g.decision.Reason, g.provider.Name)
	f.sayf("%s (%s)", line, strings.Join(about, ", "))
	log := f.Log.WithFields(logrus.Fields{"secret": g.secret.Name, "provider": g.provider.Name, "rule": g.decision.Rule, "version": given.Version,
		"revocable": given.Revocable, "leases": leases})
	log = logTime(logTime(log, "rotated", given.Rotated), "expires", given.Expires)
	log.Info("secret issued")
}

// logTime leaves a time out that is not known.
func logTime(log *logrus.Entry, name string, t time.Time) *logrus.Entry {
	if t.IsZero() {
		return log
	}
	return log.WithField(name, t.UTC().Format(time.RFC3339))
}

// handed is what one stage, or one service, gets.
func handed(deliveries []secret.Delivery, stage string) (env []string, files []sandbox.File) {
	for _, d := range deliveries {
		if !d.Gets(stage) {
			continue
		}
		if d.File == "" {
			env = append(env, d.Variable+"="+d.Value)
			continue
		}
		env = append(env, d.Variable+"="+filesDir+"/"+d.File)
		files = append(files, sandbox.File{Name: d.File, Mode: 0o400, Data: []byte(d.Value)})
	}
	if len(files) > 0 {
		env = append(env, filesVariable+"="+filesDir)
	}
	return env, files
}

// place puts into the room's plan what is there before any stage: the folders
// for files, and what services get.
func place(s *sandbox.Spec, deliveries []secret.Delivery) error {
	size, variables := int64(sandbox.DefaultFilesSize), 0
	for _, d := range deliveries {
		if d.File == "" {
			variables += len(d.Value)
			continue
		}
		size += (int64(len(d.Value)) + 4095) &^ 4095 // whole pages
		s.Job.FilesDir = filesDir
		if len(d.Stages) > 0 { // the default names no helper stage
			s.Helper.FilesDir = filesDir
		}
	}
	if variables > maxVariables {
		return fmt.Errorf("%w: the job's secrets fill %d KiB of variables, more than %d: have the large ones delivered as files", secret.ErrRefused, variables>>10, maxVariables>>10)
	}
	if size > sandbox.MaxFilesSize {
		return fmt.Errorf("%w: the job's secrets fill more than %d MiB of files: ask for fewer", secret.ErrRefused, (sandbox.MaxFilesSize-sandbox.DefaultFilesSize)>>20)
	}
	s.Job.FilesSize, s.Helper.FilesSize = size, size
	for i := range s.Services {
		c := &s.Services[i]
		for _, alias := range c.Aliases { // all of one container: the first that a rule names counts
			env, files := handed(deliveries, secret.ServiceStage(alias))
			for _, line := range env {
				name, _, _ := strings.Cut(line, "=")
				if slices.ContainsFunc(c.Env, func(own string) bool { return strings.HasPrefix(own, name+"=") }) {
					return fmt.Errorf("%w: service %s has a variable %s of its own and a secret of that name: remove the variable", ErrDenied, alias, name)
				}
			}
			if len(files) > 0 {
				c.FilesDir, c.FilesSize, c.Files = filesDir, size, files
			}
			if len(env) > 0 {
				c.Env = append(c.Env, env...)
				break
			}
		}
	}
	return nil
}

// keepAlive renews, until stop, the leases that would end before the job does.
// What a later stage need not try again is taken out of the seal.
func (x *Executor) keepAlive(ctx context.Context, room string, key [32]byte, sealed *secret.Sealed) (stop func()) {
	if len(sealed.Renewals) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		before := len(sealed.Renewals)
		left := secret.KeepAlive(ctx, slices.Clone(sealed.Renewals), sealed.Until, x.Full.providers(x.Config.DataDir), func(r secret.Renewal, err error) {
			x.Log.WithError(err).WithField("lease", r.Lease.ID).Error("lease not renewed")
			x.sayf("Warning: secret %s may end before the job does: %v", r.Secret, err)
		})
		if len(left) < before {
			if err := sealed.Change(x.Config.StateDir, room, key, func(s *secret.Sealed) { s.Renewals = left }); err != nil {
				x.Log.WithError(err).Error("leases that end are not noted")
			}
		}
	}()
	return func() { cancel(); <-done }
}
