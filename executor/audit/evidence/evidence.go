// Package evidence gathers what others than the log's host hold of an audit
// log: the checkpoints that jobs' logs have, in a folder or at a GitLab server,
// and those that witnesses cosigned. It says what came of holding the log
// against them.
//
// What it promises: a log that cannot be read keeps nobody from the others, and
// is named; so is one without a checkpoint; nothing that a job printed counts
// without a signature of the log's; what a witness is said to have signed it
// has signed.
package evidence

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"cleanroom/executor/audit/checkpoint"
	"cleanroom/executor/audit/verify"
)

const (
	// maxNames bounds a list of names.
	maxNames = 20
)

// Names are the first few of a list, and how many it has.
type Names struct {
	First []string
	Total int
}

func (n *Names) add(name string) {
	if n.Total++; len(n.First) < maxNames {
		n.First = append(n.First, name)
	}
}

// Some are the first few, and how many there are more.
func (n Names) Some(most int) string {
	shown := n.First[:min(most, len(n.First))]
	text := strings.Join(shown, ", ")
	if more := n.Total - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Gathered is what was found.
type Gathered struct {
	Asked  bool   // for job logs
	Read   int    // job logs
	Unread Names  // logs that could not be read, each with the reason
	CutOff string // why no more logs were asked for, before the list's end; empty: all were

	known     []verify.Known
	notes     map[string]int // where in known; a job can print one as often as it likes
	holding   []holding      // logs with a checkpoint, of whatever log
	without   Names          // logs with none
	witnesses []cosigned
	wrong     []string
}

type holding struct {
	log   string
	marks []mark
}

// mark is a checkpoint in a log.
type mark struct {
	at   int // in known
	line int
	by   checkpoint.By
}

type cosigned struct {
	url string
	cp  checkpoint.Checkpoint
	at  int // in known
}

// Known is for verify.Options.
func (g *Gathered) Known() []verify.Known { return g.known }

// know adds a checkpoint, unless it is known.
func (g *Gathered) know(name string, msg []byte) int {
	at, ok := g.notes[string(msg)]
	if !ok {
		if g.notes == nil {
			g.notes = map[string]int{}
		}
		at = len(g.known)
		g.notes[string(msg)] = at
		g.known = append(g.known, verify.Known{Name: name, Note: msg})
	}
	return at
}

// errMany is a log that somebody filled with checkpoints.
var errMany = errors.New("it holds more checkpoints than are looked at")

// Log takes a job's log. The error is r's, or that of a log with too many
// checkpoints; then nothing of it counts.
func (g *Gathered) Log(name string, r io.Reader) error {
	found, more, err := checkpoint.Scan(r)
	if err == nil && more { // prepare's may be behind them
		err = errMany
	}
	if err != nil {
		return err
	}
	g.Read++
	h := holding{log: name}
	for _, f := range found { // all: the runner prints variables of the job before prepare prints ours
		if f.Err == nil { // else a job's own text
			h.marks = append(h.marks, mark{g.know(fmt.Sprintf("%s, line %d", name, f.Line), f.Checkpoint.Note), f.Line, f.By})
		}
	}
	if len(h.marks) == 0 {
		g.without.add(name)
		return nil
	}
	g.holding = append(g.holding, h)
	return nil
}

// lost notes a log that could not be read.
func (g *Gathered) lost(name string, why error) { g.Unread.add(fmt.Sprintf("%s: %v", name, why)) }

// Witness takes the checkpoint that the host keeps with a witness's
// cosignature; nil: there is none yet.
func (g *Gathered) Witness(url string, v note.Verifier, msg []byte) {
	name := "witness " + url
	if msg == nil {
		return
	}
	cp, _, err := checkpoint.Open(msg, note.VerifierList(v))
	if err != nil {
		g.wrong = append(g.wrong, fmt.Sprintf("the checkpoint that is kept as signed by %s is not: %v", name, err))
		return
	}
	g.witnesses = append(g.witnesses, cosigned{url, cp, g.know(name, msg)})
}

func (g *Gathered) witnessed(at int) bool {
	return slices.ContainsFunc(g.witnesses, func(w cosigned) bool { return w.at == at })
}

// Result is what came of holding the log against it.
type Result struct {
	Wrong   []string // beyond what the verification found
	Agree   int      // checkpoints in job logs that the log agrees with
	Newest  int64    // how many records the largest of those has
	Without Names    // job logs that hold no checkpoint of this log
	Others  int      // checkpoints in job logs that are of other logs
	// Against says in words what the log was held against, beside its keys.
	Against []string
	// Missing says what could not be held against it.
	Missing []string
}

// Judge says what came of it, after the verification.
func (g *Gathered) Judge(r *verify.Report) Result {
	out := Result{Wrong: g.wrong, Without: g.without}
	foreign, anew := map[int]bool{}, map[int]string{}
	var unsure Names
	for _, k := range r.NotOurs {
		foreign[g.notes[string(k.Note)]] = true
	}
	ofOrigin := func(at int) bool {
		cp, err := checkpoint.Parse(g.known[at].Note)
		return err == nil && cp.Origin == r.Checkpoint.Origin
	}
	// A job can print what it likes, also before prepare does: the runner shows
	// what is wrong with its variables. But prepare prints one in each log, so that
	// a log in which prepare's was not signed by a key of the log's tells; and
	// where nobody knows whose it is, that is no proof of anything.
	for _, h := range g.holding {
		if slices.ContainsFunc(h.marks, func(m mark) bool { return !foreign[m.at] }) {
			continue
		}
		i := slices.IndexFunc(h.marks, func(m mark) bool { return m.by != checkpoint.Job && ofOrigin(m.at) })
		if i < 0 {
			continue
		}
		m := h.marks[i] // the first tells enough
		if where := fmt.Sprintf("%s, line %d", h.log, m.line); m.by != checkpoint.Prepare {
			unsure.add(where)
		} else if anew[m.at] == "" {
			anew[m.at] = where
		}
	}
	for _, k := range r.NotOurs {
		at := g.notes[string(k.Note)]
		says, where := "prepare printed into a job's log", anew[at]
		if g.witnessed(at) {
			says, where = "a witness signed", k.Name
		}
		if where == "" || !ofOrigin(at) {
			out.Others++
			continue
		}
		out.Wrong = append(out.Wrong, fmt.Sprintf("%s the checkpoint of %s in %s, which none of the log's keys signed: the log was made anew, or rolled back to before its key was changed", says, r.Checkpoint.Origin, where))
	}
	if unsure.Total > 0 {
		out.Missing = append(out.Missing, fmt.Sprintf("%s of this log's name that none of its keys signed, and nothing shows who printed it: a job did, or the log was made anew with another key: look at %s", hold(unsure.Total), unsure.Some(3)))
	}
	agree := map[int]bool{}
	for _, k := range r.Consistent {
		agree[g.notes[string(k.Note)]] = true
	}
	counted := map[int]bool{}
	for _, h := range g.holding {
		none := true
		for _, m := range h.marks {
			at := m.at
			none = none && foreign[at]
			if agree[at] && !counted[at] {
				counted[at] = true
				cp, _ := checkpoint.Parse(g.known[at].Note) // it was opened
				out.Newest = max(out.Newest, cp.Size)
			}
		}
		if none {
			out.Without.add(h.log)
		}
	}
	out.Agree = len(counted)
	if out.Agree > 0 {
		out.Against = append(out.Against, fmt.Sprintf("%s with %s, the newest of which covers %d of its %d records", many(g.Read, "job log"), many(out.Agree, "checkpoint"), out.Newest, r.Checkpoint.Size))
	}
	for _, w := range g.witnesses {
		if agree[w.at] {
			out.Against = append(out.Against, fmt.Sprintf("a checkpoint of %d of its %d records that the witness %s signed", w.cp.Size, r.Checkpoint.Size, w.url))
		}
	}
	if g.Unread.Total > 0 {
		out.Missing = append(out.Missing, many(g.Unread.Total, "job log")+" could not be read")
	}
	if g.CutOff != "" {
		out.Missing = append(out.Missing, "the jobs could not be gone through to the end: "+g.CutOff)
	}
	switch {
	case !g.Asked:
	case g.Read == 0:
		out.Missing = append(out.Missing, "no job log was read")
	case out.Agree == 0 && len(r.Findings)+len(out.Wrong) == 0:
		out.Missing = append(out.Missing, "no job log holds a checkpoint of this log: they prove nothing")
	}
	return out
}

func hold(n int) string {
	if n == 1 {
		return "1 job log holds a checkpoint"
	}
	return fmt.Sprintf("%d job logs hold a checkpoint", n)
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
