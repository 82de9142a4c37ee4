package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// jobRow is a job as the tables show it: who, what, why allowed, outcome.
type jobRow struct {
	Index         int64
	At            time.Time
	Began         time.Time
	Job           int64
	Room, Project string
	Ref, User     string
	Protected     bool
	Outcome       record.Outcome
	Stage         string
	Profile       string
	Images        []string
	Allowed       []granted
	Denied        []string
	Secrets       []string
	Notes         []string // what is worth a look
	wipe          *wipeRow // if its first ending did not do everything
	lost          []string // secrets that were not revoked
}

// granted is what a rule let the job have.
type granted struct{ Rule, What string }

func jobOf(index int64, rec *record.Record) *jobRow {
	j := rec.Job
	row := &jobRow{
		Index: index, At: rec.At, Began: j.Began, Job: j.Job, Room: j.Room, Project: j.Project, Ref: list.Fact(j, "ref"),
		User: cmp.Or(list.Fact(j, "user_login"), list.Fact(j, "user_id")), Protected: list.Fact(j, "ref_protected") == "true",
		Outcome: j.Outcome, Stage: j.Stage, Profile: j.Profile,
	}
	for _, i := range j.Images {
		if i.Role != "helper" {
			row.Images = append(row.Images, i.Name)
		}
	}
	rules := map[string][]string{}
	for _, d := range j.Decisions {
		what := d.Kind + " " + d.Name
		if d.Allowed {
			rules[d.Rule] = append(rules[d.Rule], what)
		} else {
			row.Denied = append(row.Denied, what+": "+plain.Short(d.Reason, 200))
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(rules)) {
		row.Allowed = append(row.Allowed, granted{rule, few(rules[rule])})
	}
	for _, s := range j.Secrets {
		row.Secrets = append(row.Secrets, s.Name)
		if s.Outcome == "failed" || s.Outcome == "unknown" {
			row.lost = append(row.lost, s.Name)
		}
	}
	row.note(rec)
	return row
}

// note says what is worth a look.
func (row *jobRow) note(rec *record.Record) {
	j := rec.Job
	if rec.By.Command != byCleanup {
		row.Notes = append(row.Notes, "its cleanup did not end it, but "+rec.By.Command+": "+plain.Short(j.End.Why, 120))
	}
	for _, r := range j.Refusals {
		row.Notes = append(row.Notes, "refused by "+r.Reason+": "+plain.Short(r.Says, 200))
	}
	if n := len(j.Guard); n > 0 {
		row.Notes = append(row.Notes, plural(int64(n), "finding")+" of the guard")
	}
	for _, gap := range j.Gaps {
		row.Notes = append(row.Notes, "not recorded: "+gap)
	}
	for _, c := range rec.Cut {
		row.Notes = append(row.Notes, fmt.Sprintf("%s of %s had no room in the record", count(int64(c.Dropped)), c.List))
	}
}

// byCleanup is the command that writes the record of a job whose end was as it
// should be.
const byCleanup = "cleanup"

func (row *jobRow) notable() bool {
	return len(row.Notes) > 0 || len(row.lost) > 0 || row.wipe != nil || row.Outcome == record.Refused || row.Outcome == record.System
}

// Wiped says what became of the room and its leases.
func (row *jobRow) Wiped() string {
	switch {
	case row.wipe == nil:
		return "room wiped"
	case row.wipe.Ended.IsZero():
		return "not ended: " + row.wipe.Still()
	}
	return fmt.Sprintf("ended later, %s after", span(row.wipe.Ended.Sub(row.At)))
}

// Class is how the outcome is drawn.
func (row *jobRow) Class() string {
	switch row.Outcome {
	case record.Refused:
		return "p-refused"
	case record.System:
		return "p-bad"
	case record.Failed:
		return "p-strong"
	}
	return "p-plain"
}

// Lost says which secrets were not revoked with the job.
func (row *jobRow) Lost() string {
	if len(row.lost) == 0 {
		return ""
	}
	return "not revoked with it: " + few(row.lost)
}

// Open says whether something of the job is left.
func (row *jobRow) Open() bool { return row.wipe != nil && row.wipe.Ended.IsZero() }

// Took is how long the job was there.
func (row *jobRow) Took() string {
	if row.Began.IsZero() || row.At.Before(row.Began) {
		return ""
	}
	return span(row.At.Sub(row.Began))
}

// SaidNotes and SaidDenied fit a cell.
func (row *jobRow) SaidNotes() []string  { return some(row.Notes) }
func (row *jobRow) SaidDenied() []string { return some(row.Denied) }

// SaidImages and SaidSecrets fit a line.
func (row *jobRow) SaidImages() string  { return few(row.Images) }
func (row *jobRow) SaidSecrets() string { return few(row.Secrets) }

type refusalRow struct {
	*jobRow
	record.Refusal
}

type findingRow struct {
	*jobRow
	record.Finding
	More int64 // of the same job, behind this one
}

// foundRow is what was found in the files of one job.
type foundRow struct {
	*jobRow
	Findings []findingRow
	More     int64
}

// Lines of the table that it takes.
func (f foundRow) Lines() int {
	if f.More > 0 {
		return len(f.Findings) + 1
	}
	return len(f.Findings)
}

// foundIn puts findings that follow one another together by their job.
func foundIn(all []findingRow) (jobs []foundRow) {
	for _, f := range all {
		if last := len(jobs) - 1; last < 0 || jobs[last].jobRow != f.jobRow {
			jobs = append(jobs, foundRow{jobRow: f.jobRow})
		}
		job := &jobs[len(jobs)-1]
		job.Findings, job.More = append(job.Findings, f), f.More
	}
	return jobs
}

// File is where the finding is.
func (f findingRow) File() string {
	return strings.Join(append([]string{f.Path}, f.Members...), " › ")
}

// wipeRow is a room whose first ending did not do everything.
type wipeRow struct {
	*jobRow
	record.End // the last try
	Tries      int
	Ended      time.Time // by a later one; zero: not yet
	EndedBy    int64     // index of its record
}

// Still is what is left.
func (w *wipeRow) Still() string {
	var things []string
	for _, i := range w.Left {
		thing := i.Kind + " " + i.Name
		if i.Why != "" {
			thing += " (" + i.Why + ")"
		}
		things = append(things, thing)
	}
	if w.Error != "" {
		things = append(things, w.Error)
	}
	return cmp.Or(few(things), "nobody noted what is left")
}

type reapRow struct {
	Index    int64
	At       time.Time
	Job      int64
	Project  string
	Room     string
	Why      string
	By       string
	Complete bool
	Still    string
}

func reapOf(index int64, rec *record.Record) reapRow {
	r := rec.Reap
	row := reapRow{Index: index, At: rec.At, Job: r.Job, Project: r.Project, Room: r.Room, Why: r.End.Why, By: who(rec), Complete: r.End.Complete}
	if !row.Complete {
		row.Still = (&wipeRow{End: r.End}).Still()
	}
	return row
}

// changeRow is what happened to the configuration, the rules, the store, the
// caches or the log's keys.
type changeRow struct {
	Index         int64
	At            time.Time
	Kind          string
	By            string
	What          string
	Before, After string // hashes or keys
}

func changeOf(index int64, rec *record.Record) changeRow {
	row := changeRow{Index: index, At: rec.At, By: who(rec)}
	switch {
	case rec.Config != nil:
		row.Kind, row.What, row.Before, row.After = "configuration", "in "+cmp.Or(few(rec.Config.Sections), "no section that is known"), short(rec.Config.Before), short(rec.Config.After)
	case rec.Policy != nil:
		row.Kind, row.What, row.Before, row.After = "policy", list.OfPolicy(rec.Policy), short(rec.Policy.Before), short(rec.Policy.After)
	case rec.Secret != nil:
		row.Kind, row.What = "secret store", list.OfChange(rec.Secret)
	case rec.Cache != nil:
		row.Kind, row.What = "caches", list.OfCache(rec.Cache)
	case rec.Key != nil:
		row.Kind, row.What, row.Before, row.After = "key changed", "signs by "+rec.Key.Signer, rec.Key.Before, rec.Key.After
	case rec.Begun != nil:
		row.Kind, row.What, row.After = "log begun", rec.Begun.Origin, rec.Begun.Key
	}
	return row
}

// unreadableRow is a record that could not be decoded.
type unreadableRow struct {
	Index int64
	Why   string
}

func who(rec *record.Record) string {
	return cmp.Or(rec.By.User, fmt.Sprintf("uid %d", rec.By.UID)) + ", cleanroom " + rec.By.Command
}
