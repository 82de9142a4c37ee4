package report

import (
	"cmp"
	"slices"
	"time"

	"cleanroom/executor/audit/record"
)

// grace is how long after a job a secret may still be good before that is
// said: revoking takes some seconds.
const grace = time.Minute

// What becomes of a secret that a job was given.
const (
	revoked  = iota // with the job
	late            // by a later try
	expires         // it ends by itself
	standing        // it is not this job's alone
	failed          // not revoked, or nobody knows
	fates
)

type laneKey struct{ provider, name string }

// lane is one secret over the period.
type lane struct {
	Provider, Name string
	Given          int64
	counts         [fates]int64
	outlived       int64
	lives          []uint32 // seconds
	longest        time.Duration
	alive          []int32           // how many more, or fewer, there are than a step before
	bars           [2]newest[useRow] // not revoked, and revoked late
}

// use is one job's having a secret.
type use struct {
	*lane
	row     *jobRow
	issued  time.Time
	over    time.Time // when the job was seen last
	expires time.Time
	why     string
}

// useRow is one that stands out.
type useRow struct {
	Provider, Name string
	*jobRow
	Issued, Over time.Time
	End          time.Time // zero: not known
	Fate         string
	Bad          bool // nobody took it back
	Why          string
}

// secrets notes what a job was given.
func (r *Report) secrets(rec *record.Record, row *jobRow) {
	for _, s := range rec.Job.Secrets {
		key := laneKey{s.Provider, s.Name}
		l := r.lanes[key]
		if l == nil {
			l = &lane{Provider: s.Provider, Name: s.Name, alive: make([]int32, steps+1), bars: [2]newest[useRow]{keep[useRow](maxBars), keep[useRow](maxBars)}}
			r.lanes[key] = l
		}
		l.Given++
		r.given++
		u := &use{lane: l, row: row, issued: firstTime(s.Issued, rec.Job.Began, rec.At), over: seen(rec), expires: s.Expires}
		for _, lease := range s.Leases {
			u.why = cmp.Or(u.why, lease.Error)
		}
		switch s.Outcome {
		case "revoked":
			r.use(u, revoked, ended(s.Leases, rec.At))
		case "expires":
			r.use(u, expires, s.Expires)
		case "standing":
			r.use(u, standing, rec.At)
		default:
			r.pending[row.Room] = append(r.pending[row.Room], u)
		}
	}
}

// revoke settles what a later try took back.
func (r *Report) revoke(rec *record.Record) {
	reap := rec.Reap
	r.pending[reap.Room] = slices.DeleteFunc(r.pending[reap.Room], func(u *use) bool {
		at := slices.IndexFunc(reap.Secrets, func(s record.Secret) bool { return s.Name == u.Name && s.Provider == u.Provider })
		switch {
		case at >= 0 && reap.Secrets[at].Outcome == "revoked":
			r.use(u, late, ended(reap.Secrets[at].Leases, rec.At))
		case reap.End.Complete: // no lease is left
			r.use(u, late, rec.At)
		default:
			return false
		}
		return true
	})
	if len(r.pending[reap.Room]) == 0 {
		delete(r.pending, reap.Room)
	}
}

// use is what became of one that a job had, until when it was good.
func (r *Report) use(u *use, fate int, end time.Time) {
	l := u.lane
	l.counts[fate]++
	r.counts[fate]++
	until := firstTime(end, u.expires, r.scale.to())
	l.alive[r.scale.step(u.issued)]++
	l.alive[max(r.scale.step(u.issued), r.scale.step(until))+1]--
	if life := end.Sub(u.issued); fate != standing && !end.IsZero() && life >= 0 {
		l.lives = append(l.lives, uint32(min(life/time.Second, 1<<32-1)))
		l.longest = max(l.longest, life)
	}
	if fate == standing {
		return
	}
	row := useRow{Provider: l.Provider, Name: l.Name, jobRow: u.row, Issued: u.issued, Over: u.over, End: end, Why: u.why}
	switch {
	case fate == failed:
		row.Fate, row.Bad = "not revoked", true
		l.bars[0].add(row)
		r.bad.add(row)
		return
	case fate == expires && (end.IsZero() || end.Sub(u.over) > grace): // as every one of its kind, so that they have no bars
		row.Fate = "ends by itself"
		r.expiring.add(row)
	case fate == late || end.Sub(u.over) > grace:
		row.Fate = "revoked late"
		l.bars[1].add(row)
		r.late.add(row)
	default:
		return
	}
	l.outlived++
}

// finish counts what nobody revoked.
func (r *Report) finish() {
	var left []*use
	for _, of := range r.pending {
		left = append(left, of...)
	}
	slices.SortFunc(left, func(a, b *use) int { return cmp.Compare(a.row.Index, b.row.Index) })
	for _, u := range left {
		r.use(u, failed, u.expires)
	}
	clear(r.pending)
}

// ended is when the last lease was.
func ended(leases []record.Lease, otherwise time.Time) (last time.Time) {
	for _, l := range leases {
		if l.Outcome == "revoked" && l.Ended.After(last) {
			last = l.Ended
		}
	}
	return firstTime(last, otherwise)
}

// seen is when a job was seen last: by its cleanup, or, of one that somebody
// else had to end, by its last stage.
func seen(rec *record.Record) time.Time {
	if rec.By.Command == byCleanup {
		return rec.At
	}
	last := rec.Job.Began
	for _, s := range rec.Job.Stages {
		if end := s.Began.Add(time.Duration(s.Millis) * time.Millisecond); end.After(last) && !end.After(rec.At) {
			last = end
		}
	}
	return firstTime(last, rec.At)
}

func firstTime(all ...time.Time) time.Time {
	at := slices.IndexFunc(all, func(t time.Time) bool { return !t.IsZero() })
	if at < 0 {
		return time.Time{}
	}
	return all[at]
}

// Median is how long half of them were good at most.
func (l *lane) Median() string {
	if len(l.lives) == 0 {
		return "–"
	}
	slices.Sort(l.lives)
	return span(time.Duration(l.lives[len(l.lives)/2]) * time.Second)
}

// Longest is how long the one was that was good longest.
func (l *lane) Longest() string {
	if len(l.lives) == 0 {
		return "–"
	}
	return span(l.longest)
}

// Counts by what became of them.
func (l *lane) Revoked() int64    { return l.counts[revoked] + l.counts[late] }
func (l *lane) Expires() int64    { return l.counts[expires] }
func (l *lane) Standing() int64   { return l.counts[standing] }
func (l *lane) NotRevoked() int64 { return l.counts[failed] }
func (l *lane) Outlived() int64   { return l.outlived }
