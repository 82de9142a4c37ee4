// Package page shows one audit record to a person: who, what, why it was
// allowed, which secrets from when to when, what ran, what was wiped, and what
// proves it.
//
// What it promises: plain text of at most Width columns, in which nothing that
// a job's author named does anything to a terminal, or looks like a line of the
// page's own.
package page

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// Width of a page, in columns.
const Width = 80

// Write shows a record. proof is what the caller knows of its place in the
// log, a line each.
func Write(w io.Writer, r *record.Record, proof []string) error {
	p := &page{w: bufio.NewWriter(w)}
	switch {
	case r.Job != nil:
		p.job(r, r.Job)
	case r.Reap != nil:
		p.reap(r, r.Reap)
	default:
		p.change(r)
	}
	for _, c := range r.Cut {
		p.section("CUT: the record had no room for all")
		p.line(show(c.List), fmt.Sprintf("%d more", c.Dropped))
	}
	p.proof(r, proof)
	return p.w.Flush()
}

func (p *page) job(r *record.Record, j *record.Job) {
	title := "Job " + number(j.Job)
	if j.Project != "" {
		title += " of " + show(j.Project)
	}
	title += ": " + show(string(j.Outcome))
	if j.Stage != "" {
		title += " in " + show(j.Stage)
	}
	p.title(title)
	room := show(j.Room)
	if j.Profile != "" {
		room += ", profile " + show(j.Profile)
	}
	if j.Pooled != nil {
		room += ", made ahead at " + stamp(*j.Pooled)
	}
	p.line("room", room)
	if !j.Began.IsZero() {
		p.line("began", stamp(j.Began))
	}
	p.line("ended", stamp(r.At)+", "+by(r))
	if j.Tries > 1 {
		p.line("prepared", fmt.Sprintf("%d times", j.Tries))
	}
	for _, gap := range j.Gaps {
		p.line("NOT KNOWN", show(gap))
	}
	p.who(j)
	p.why(j)
	p.secrets(j.Secrets)
	p.ran(j)
	p.guard(j)
	p.wiped(j.End)
}

func (p *page) reap(r *record.Record, e *record.Reap) {
	title := "Room " + show(e.Room)
	if e.Job != 0 {
		title += " of job " + number(e.Job)
	}
	if e.Project != "" {
		title += " of " + show(e.Project)
	}
	p.title(title + ": ended later")
	p.line("tried", stamp(r.At)+", "+by(r))
	if e.Record != "" {
		p.line("job's record", show(e.Record))
	}
	p.secrets(e.Secrets)
	p.wiped(e.End)
}

func (p *page) who(j *record.Job) {
	if len(j.Facts) == 0 {
		return
	}
	p.section("WHO: what was believed, and who vouches for it")
	for _, f := range j.Facts {
		is := fmt.Sprint(f.Is)
		if strings.ContainsAny(is, " []") { // the source stands in such
			is = plain.Quoted(is)
		} else {
			is = show(is)
		}
		p.line(show(f.Fact), is+" ["+show(f.Source)+"]")
	}
}

func (p *page) why(j *record.Job) {
	if len(j.Decisions) == 0 && len(j.Refusals) == 0 {
		return
	}
	p.section("WHY: what it asked for, and the policy's answers")
	if j.Policy != "" {
		p.line("policy", show(j.Policy))
	}
	for _, d := range j.Decisions {
		text := show(d.Name) + ": "
		if d.Allowed {
			text += "yes"
		} else {
			text += "NO"
		}
		if d.Reason != "" {
			text += ", " + show(d.Reason)
		}
		if len(d.Stages) > 0 {
			text += "; for " + list(d.Stages)
		}
		if len(d.Tokens) > 0 {
			text += "; identity " + list(d.Tokens)
		}
		p.line(show(d.Kind), text)
	}
	for _, no := range j.Refusals {
		p.line("REFUSED", "in "+show(no.Stage)+", "+show(no.Reason)+": "+show(no.Says))
	}
}

func (p *page) secrets(all []record.Secret) {
	if len(all) == 0 {
		return
	}
	p.section("SECRETS: from when to when")
	for _, s := range all {
		from := "from " + show(s.Provider)
		if s.Version != "" {
			from += ", version " + show(s.Version)
		}
		if !s.Rotated.IsZero() {
			from += ", rotated " + stamp(s.Rotated)
		}
		if s.Rule != "" {
			from += ", by rule " + show(s.Rule)
		}
		if len(s.Stages) > 0 {
			from += ", for " + list(s.Stages)
		}
		p.line(show(s.Name), from)
		p.line("", lifetime(s))
		for _, l := range s.Leases {
			text := "lease " + show(l.ID) + ": " + show(l.Outcome)
			if !l.Ended.IsZero() {
				text += " " + stamp(l.Ended)
			}
			if l.Error != "" {
				text += ", " + show(l.Error)
			}
			p.line("", text)
		}
	}
}

// lifetime is what became of a secret, in words.
func lifetime(s record.Secret) string {
	text := ""
	if !s.Issued.IsZero() {
		text = "issued " + stamp(s.Issued) + "; "
	}
	switch s.Outcome {
	case "revoked":
		var last time.Time
		for _, l := range s.Leases {
			if l.Ended.After(last) {
				last = l.Ended
			}
		}
		text += "REVOKED"
		if !last.IsZero() {
			text += " " + stamp(last)
			if !s.Issued.IsZero() {
				text += ", after " + took(last.Sub(s.Issued).Milliseconds())
			}
		}
	case "expires":
		text += "it ends by itself"
		if !s.Expires.IsZero() {
			text += " " + stamp(s.Expires)
		}
	case "failed":
		text += "NOT REVOKED: `cleanroom reap` tries again"
		if !s.Expires.IsZero() {
			text += "; it ends by itself " + stamp(s.Expires)
		}
	case "standing":
		text += "not issued for this job alone: it stays good"
	default:
		text += "what became of it is not known"
	}
	return text
}

func (p *page) ran(j *record.Job) {
	if len(j.Images)+len(j.Stages)+len(j.Artifacts)+len(j.Provenance) == 0 {
		return
	}
	p.section("WHAT RAN")
	for _, i := range j.Images {
		p.line(show(i.Role)+" image", show(i.Name))
		switch {
		case i.Digest != "":
			p.line("", show(i.Digest))
		case i.ID != "":
			p.line("", "local image "+show(i.ID))
		}
	}
	for _, s := range j.Stages {
		text := show(s.Result)
		if s.Exit != nil {
			text += fmt.Sprintf(", exit code %d", *s.Exit)
		}
		if s.OutOfMemory {
			text += ", out of memory"
		}
		if s.Container != "" {
			text += ", in the " + show(s.Container) + " container"
		}
		if !s.Began.IsZero() {
			text += ", " + stamp(s.Began) + " for " + took(s.Millis)
		}
		p.line(show(s.Stage), text)
		if o := s.Output; o != nil && o.Bytes > 0 {
			p.line("", fmt.Sprintf("printed %d bytes, whose SHA-256 is", o.Bytes))
			p.line("", show(o.SHA256))
		}
		for _, c := range s.Redacted {
			p.line("", fmt.Sprintf("%s was hidden there, times: %d", show(c.Name), c.Times))
		}
	}
	for _, a := range j.Artifacts {
		p.line("stored", fmt.Sprintf("%s, %d bytes, by %s", show(a.Path), a.Bytes, show(a.Stage)))
		p.line("", show(a.SHA256))
	}
	for _, v := range j.Provenance {
		text := fmt.Sprintf("of %d files, by %s", v.Files, show(v.Stage))
		if v.Withheld > 0 {
			text += fmt.Sprintf("; silent about %d more, in which secrets are", v.Withheld)
		}
		p.line("provenance", text+"; SHA-256 of the envelope")
		p.line("", show(v.SHA256))
	}
}

func (p *page) guard(j *record.Job) {
	if len(j.Guard) == 0 {
		return
	}
	p.section("FOUND in what it would have stored")
	for _, f := range j.Guard {
		text := show(f.Path)
		for _, m := range f.Members {
			text += ", member " + show(m)
		}
		switch {
		case f.Unsearched != "":
			text += ": not searched: " + show(f.Unsearched)
		default:
			text += ": secret " + show(f.Name)
		}
		if f.Rule != "" {
			text += " (rule " + show(f.Rule) + " lets it be stored)"
		}
		p.line(show(f.Action), text)
	}
}

func (p *page) wiped(e record.End) {
	p.section("WHAT WAS WIPED")
	if e.Complete {
		p.line("complete", "yes: a second look found nothing, and no lease is left")
	} else {
		p.line("complete", "NO: `cleanroom reap` goes on, and its record follows")
	}
	p.line("why", show(e.Why)+", in "+took(e.Millis))
	for _, i := range e.Removed {
		p.line("removed", show(i.Kind)+" "+show(i.Name))
	}
	for _, i := range e.Left {
		p.line("LEFT", show(i.Kind)+" "+show(i.Name)+": "+show(i.Why))
	}
	if e.Error != "" {
		p.line("error", show(e.Error))
	}
}

func (p *page) proof(r *record.Record, proof []string) {
	p.section("PROOF")
	p.line("record", fmt.Sprintf("%s, %s, version %d", show(r.ID), show(string(r.Kind)), r.Version))
	p.line("written", stamp(r.At)+" on "+show(r.Host.Name)+", by cleanroom "+show(r.Host.Cleanroom))
	for _, line := range proof {
		p.line("", show(line))
	}
}

// by is who did it.
func by(r *record.Record) string {
	text := "by " + show(r.By.Command)
	if r.By.User != "" {
		return text + " of user " + show(r.By.User)
	}
	return fmt.Sprintf("%s of user %d", text, r.By.UID)
}

func list(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, show(n))
	}
	return strings.Join(all, ", ")
}
