package executor

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/pool"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// kind is what kind of room the job has, if one of it can be made ahead. That
// decides nothing: what the job may have, and whether the room is as it would be
// made, prepare finds out.
func (x *Executor) kind(job *contract.Job) (k pool.Kind, ok bool) {
	if x.Config.Pool.Size == 0 || len(job.Services) > 0 || x.asksForFiles() {
		return k, false
	}
	profiles := []string{string(sandbox.Compatible), string(sandbox.Hardened), string(sandbox.Strict)}
	k.Profile = x.Config.Profile
	if asked, given := x.Call.Variables[ProfileVariable]; given && asked != "" {
		if !slices.Contains(profiles[slices.Index(profiles, k.Profile):], asked) { // rules have to be asked
			return k, false
		}
		k.Profile = asked
	}
	image, err := x.Call.Image()
	if err != nil {
		return k, false
	}
	if k.Image = image.Name; k.Image == "" {
		k.Image = x.Config.Images.Default
	}
	k.User, k.Platform = string(image.ExecutorOpts.Docker.User), image.ExecutorOpts.Docker.Platform
	k.Helper, k.Cache = x.helperImage(), len(job.Cache) > 0
	// It will stand in files: nothing private, and nothing endless.
	if text := k.Image + " " + k.User + " " + k.Platform; len(text) > maxKind || unmasked(x.Call, text) != text {
		return k, false
	}
	return k, k.Image != ""
}

// maxKind bounds what a job says of its kind of room, in bytes.
const maxKind = 2 << 10

// asksForFiles tells a job that wants secrets as files: those have a mount of
// their own.
func (x *Executor) asksForFiles() bool {
	for _, name := range x.words(SecretsVariable) {
		for _, s := range x.Config.Secrets {
			if s.Name == name && slices.ContainsFunc(s.Deliver, func(d config.Deliver) bool { return d.As == "file" }) {
				return true
			}
		}
	}
	return false
}

// keyOf is the same for rooms that are made alike: of one kind, by one version of
// us, by one configuration and its rules. It is quick to compute, and other in
// each pool, whose id it needs. What may hold a password makes no room, and is
// left out.
func keyOf(c config.Config, version, id string, k pool.Kind) (string, error) {
	policy, rules := c.Policy, ""
	c = withoutPasswords(c)
	c.Policy = policy
	c.Pool, c.Log, c.Metrics, c.Audit, c.Cache = config.Pool{}, config.Log{}, config.Metrics{}, config.Audit{}, config.Cache{}
	if c.Policy.File != "" {
		if info, err := os.Stat(c.Policy.File); err == nil {
			rules = fmt.Sprint(info.Size(), info.ModTime().UnixNano())
		}
	}
	text, err := json.Marshal([]any{c, version, k, rules})
	if err != nil {
		return "", fmt.Errorf("pool: %w", err)
	}
	h := hmac.New(sha256.New, []byte(id))
	h.Write(text)
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}

// wants is the kind of the job's room with its key.
func (x *Executor) wants(job *contract.Job) (p pool.Pool, w pool.Wish, ok bool) {
	p = pool.Of(x.Config.StateDir)
	kind, ok := x.kind(job)
	if !ok {
		return p, w, false
	}
	id, err := p.ID()
	if err == nil {
		w = pool.Wish{Kind: kind, At: time.Now(), Timeout: timeout(job)}
		w.Key, err = keyOf(x.Config, x.Version, id, kind)
	}
	if err != nil {
		x.Log.WithError(err).Warn("no room of the pool's")
		return p, w, false
	}
	return p, w, true
}

// span is since when a room may wait that the job gets, and until when it has to
// last.
func (x *Executor) span(w pool.Wish) (since, until time.Time) {
	now := fault.Now()
	return now.Add(-x.Config.Pool.Age), now.Add(w.Timeout + deadlineGrace)
}

// claim takes a room that waits for such a job, and gives its name; or none, and
// then the job gets one that is made for it.
func (x *Executor) claim(job *contract.Job) (room string) {
	p, w, ok := x.wants(job)
	if !ok {
		return ""
	}
	mine := pool.ClaimFor(job.ID, x.Config.DataDir)
	since, until := x.span(w)
	ok, err := p.Claim(w.Key, since, until, mine)
	if err != nil {
		x.Log.WithError(err).Warn("no room of the pool's")
	}
	if !ok || err != nil {
		return "" // what we may hold already reap finds: nobody comes for it
	}
	return mine.Room
}

// moveIn has the job get the room that it claimed, if it is still there and as it
// would be made now. The room is ours alone until done.
func (x *Executor) moveIn(held *pool.Held, spec *sandbox.Spec) {
	if held == nil {
		return
	}
	spec.Stocked = &sandbox.Stocked{Print: held.Print, Told: func(why error) {
		log := x.Log.WithField("made", held.Made)
		if why != nil { // what the image's ENTRYPOINT printed may be part of it
			text := Fault(x.Call, why)
			log.WithField("error", text).Info("the pool's room does not fit, another is made")
			x.sayf("The room that was made ahead is not used: %s", text)
			return
		}
		log.Info("room of the pool's")
		made := held.Made.UTC()
		x.gather.line.Pooled = &made
		x.sayf("Room was made ahead, at %s", made.Format(time.RFC3339))
	}}
}

// held is the claim of the job's room; nil where it is none of the pool's.
func (x *Executor) held(name string, job *contract.Job) (*pool.Held, error) {
	if !pool.Named(name) {
		return nil, nil
	}
	held, err := pool.Of(x.Config.StateDir).Hold(name, lockTime)
	if err != nil || held == nil {
		return nil, err
	}
	if held.Claimant.Job != job.ID {
		held.Release()
		return nil, fmt.Errorf("room %s was claimed for job %d", name, held.Claimant.Job)
	}
	return held, nil
}

// wanted notes the kind of a room that the job has got.
func (x *Executor) wanted(job *contract.Job) {
	if p, w, ok := x.wants(job); ok {
		x.wish(p, w)
	}
}

// wish has rooms of a kind wait, or says why none will.
func (x *Executor) wish(p pool.Pool, w pool.Wish) bool {
	err := p.Want(w)
	if err != nil {
		x.Log.WithError(err).Warn("no room is made ahead of the next such job")
	}
	return err == nil
}

// Refills tells whether a room ought to be made in the place of the job's, which
// is a process of its own to do. The job has its room until now, however long it
// took: whoever makes another counts from here.
func (x *Executor) Refills() bool {
	if x.Config.Pool.Size == 0 {
		return false
	}
	job, err := x.Call.Job()
	if err != nil {
		return false
	}
	p, w, ok := x.wants(job)
	if !ok || !p.Wished(w.Key) || !x.wish(p, w) {
		return false
	}
	since, until := x.span(w)
	return p.Count(w.Key, since, until) < x.Config.Pool.Size
}
