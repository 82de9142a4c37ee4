// Package report makes one HTML file of what an audit log holds of a period,
// for people who were not there.
//
// What it promises: the file needs nothing but itself, runs no script, and its
// own policy (CSP) forbids any; what a record says is text in it, whatever it
// says; it stays small enough to be opened whatever the log's size, and says
// what it leaves out; it can be read on paper, without colours, on a telephone,
// and by those who cannot see the pictures.
package report

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"cleanroom/executor/audit/list"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// Head is what the report says of the log itself.
type Head struct {
	Period  list.Period // what it is about
	Made    time.Time   // when the report was
	Version string      // of cleanroom
	Origin  string      // the log's name
	Size    int64       // records in its checkpoint
	Root    string      // of the checkpoint's tree, as the checkpoint writes it
	Verification
}

// Verification is what came out of looking whether the log is genuine.
type Verification struct {
	Checked bool     // somebody looked
	Pinned  bool     // the log's first key was known from elsewhere
	Against []string // what it was held against that others keep, in words; none: its own keys only
	Without int64    // job logs that held no checkpoint of this log
	Missing []string // what could not be looked at, in words
	Unread  []string // the first of the job logs that could not be read, with the reason
	// UnreadTotal is how many could not be.
	UnreadTotal int64
	Wrong       []string // what is wrong; of a log that was checked, nothing: nothing was found
}

// Seal is how the page shows it: as a class of its own, and in a word.
func (v Verification) Seal() (s struct{ Class, Word string }) {
	switch {
	case !v.Checked:
		s.Class, s.Word = "s-none", "Not verified"
	case len(v.Wrong) > 0:
		s.Class, s.Word = "s-wrong", "Not genuine"
	case len(v.Missing) > 0:
		s.Class, s.Word = "s-part", "Verified in part"
	case len(v.Against) == 0:
		s.Class, s.Word = "s-own", "Own keys only"
	default:
		s.Class, s.Word = "s-good", "Witnessed"
	}
	return s
}

// How many rows tables have. What is beyond is counted.
const (
	maxNotable  = 200
	maxOthers   = 100
	maxRows     = 150
	maxLanes    = 40
	maxExpiring = 10
	maxSaid     = 8  // entries of a list in a cell
	maxFindings = 20 // of the guard, of one job
)

// Report is what is kept of the records: counts, and the newest of what is
// worth a row. Memory grows with the number of secrets and of what is not
// ended, by four bytes for each secret that a job was given, and eight for each
// job.
type Report struct {
	head  Head
	begun bool
	scale scale
	slots []slot // jobs over the period

	records    int64
	tries      []uint64 // a hash of the job of each: the runner tries some again
	outcomes   map[record.Outcome]int64
	notable    newest[*jobRow]
	others     newest[*jobRow]
	refusals   newest[refusalRow]
	refused    map[string]int64 // by who refused
	findings   newest[findingRow]
	found      map[string]int64 // by action
	reaps      newest[reapRow]
	changes    newest[changeRow]
	changed    map[record.Kind]int64
	keys       newest[changeRow]
	unreadable newest[unreadableRow]

	open     map[string]*wipeRow // by room: not ended as far as the log tells
	finished newest[*wipeRow]    // ended by a later try

	lanes    map[laneKey]*lane
	pending  map[string][]*use // by room: not known to be revoked
	bad      newest[useRow]    // never revoked, as far as is known
	late     newest[useRow]    // revoked when the job was long over
	expiring newest[useRow]    // not to be revoked, and longer good than the job was there
	counts   [fates]int64
	given    int64
}

// New begins a report.
func New(h Head) *Report {
	h.Made = h.Made.UTC()
	return &Report{
		head: h, outcomes: map[record.Outcome]int64{}, refused: map[string]int64{}, found: map[string]int64{}, changed: map[record.Kind]int64{},
		notable: keep[*jobRow](maxNotable), others: keep[*jobRow](maxOthers), refusals: keep[refusalRow](maxRows), findings: keep[findingRow](maxRows),
		reaps: keep[reapRow](maxRows), changes: keep[changeRow](maxRows), keys: keep[changeRow](maxRows), unreadable: keep[unreadableRow](20),
		open: map[string]*wipeRow{}, finished: keep[*wipeRow](maxRows),
		lanes: map[laneKey]*lane{}, pending: map[string][]*use{}, bad: keep[useRow](maxRows), late: keep[useRow](maxRows), expiring: keep[useRow](maxExpiring),
	}
}

// Add takes the log's next record. Give it all of them, in order: those from
// before the period are not looked at, and those from after it tell what became
// of what the period left open.
func (r *Report) Add(index int64, raw []byte) {
	at, ok := list.At(raw)
	after := ok && !r.head.Period.To.IsZero() && !at.Before(r.head.Period.To)
	switch {
	case ok && at.Before(r.head.Period.From):
		return
	case after && !bytes.Contains(raw, []byte(`"kind":"reap"`)):
		return
	}
	rec, err := list.Read(raw)
	if err != nil {
		if !after {
			r.unreadable.add(unreadableRow{index, plain.Short(plain.Text(err.Error()), 200)})
		}
		return
	}
	scrub(rec)
	switch {
	case !r.head.Period.Contains(rec.At):
		if rec.Reap != nil {
			r.settle(index, rec)
		}
		return
	case !r.begun:
		r.begin(rec.At)
	}
	r.records++
	switch {
	case rec.Job != nil:
		r.job(index, rec)
	case rec.Reap != nil:
		r.settle(index, rec)
		r.reaps.add(reapOf(index, rec))
	case rec.Key != nil, rec.Begun != nil:
		r.keys.add(changeOf(index, rec))
	default:
		r.changed[rec.Kind]++
		r.changes.add(changeOf(index, rec))
	}
}

// begin lays out the period, with what the first record tells of a log that is
// asked for from its beginning.
func (r *Report) begin(first time.Time) {
	from, to := r.head.Period.From, r.head.Period.To
	if from.IsZero() {
		from = first
	}
	if to.IsZero() {
		to = r.head.Made
	}
	if !from.Before(to) { // a clock that was wrong
		to = from.Add(time.Hour)
	}
	r.scale = scaleOf(from, to)
	r.slots = make([]slot, len(r.scale.starts))
	r.begun = true
}

func (r *Report) job(index int64, rec *record.Record) {
	j := rec.Job
	row := jobOf(index, rec)
	r.tries = append(r.tries, hashOf(j))
	r.outcomes[j.Outcome]++
	r.slots[r.scale.slot(rec.At)].add(j.Outcome)
	for _, refusal := range j.Refusals {
		r.refused[refusal.Reason]++
		r.refusals.add(refusalRow{row, refusal})
	}
	for _, f := range j.Guard {
		r.found[f.Action]++
	}
	shown := min(maxFindings, len(j.Guard))
	more := int64(len(j.Guard) - shown)
	for i := shown - 1; i >= 0; i-- { // rows are shown the other way round
		row := findingRow{jobRow: row, Finding: j.Guard[i]}
		if i == shown-1 {
			row.More = more
		}
		r.findings.add(row)
	}
	r.findings.Total += more
	r.findings.left += more
	if !j.End.Complete {
		w := &wipeRow{jobRow: row, End: j.End, Tries: 1}
		r.open[j.Room] = w
		row.wipe = w
	}
	r.secrets(rec, row)
	if row.notable() {
		r.notable.add(row)
	} else {
		r.others.add(row)
	}
}

var seed = maphash.MakeSeed()

// hashOf is the same for each try of a job; one without a number is its room's.
func hashOf(j *record.Job) uint64 {
	is := struct {
		of  string
		job int64
	}{j.Project, j.Job}
	if j.Job == 0 {
		is.of = j.Room
	}
	return maphash.Comparable(seed, is)
}

// settle notes what a later try at ending a room brought.
func (r *Report) settle(index int64, rec *record.Record) {
	reap := rec.Reap
	r.revoke(rec)
	w := r.open[reap.Room]
	if w == nil {
		return
	}
	w.Tries++
	if !reap.End.Complete {
		w.End = reap.End
		return
	}
	w.Ended, w.EndedBy = rec.At, index
	delete(r.open, reap.Room)
	r.finished.add(w)
}

// Incomplete says in the report that the log could not be read to its end, and
// why.
func (r *Report) Incomplete(why error) {
	r.head.Checked = true
	r.head.Wrong = append(slices.Clip(r.head.Wrong), "the log could not be read to its end, and what comes there is not in this report: "+why.Error())
}

// newest keeps the last ones of many, and counts all.
type newest[T any] struct {
	most  int
	Total int64
	left  int64 // of these never were rows: a row tells of them
	list  []T
}

func keep[T any](most int) newest[T] { return newest[T]{most: most} }

func (n *newest[T]) add(v T) {
	n.Total++
	if len(n.list) == 2*n.most {
		n.list = n.list[:copy(n.list, n.list[n.most:])]
	}
	n.list = append(n.list, v)
}

// Rows are the last ones, the last first.
func (n newest[T]) Rows() []T {
	from := max(0, len(n.list)-n.most)
	rows := make([]T, 0, len(n.list)-from)
	for i := len(n.list) - 1; i >= from; i-- {
		rows = append(rows, n.list[i])
	}
	return rows
}

// More says what is not shown; empty when all is.
func (n newest[T]) More() string {
	rows := n.Total - n.left
	if rows <= int64(n.most) {
		return ""
	}
	return fmt.Sprintf("The newest %s of %s are shown; %s older ones are in the log.", count(int64(n.most)), count(rows), count(rows-int64(n.most)))
}
