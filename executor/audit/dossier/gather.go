package dossier

import (
	"bufio"
	"fmt"
	"io"
	"slices"

	"cleanroom/executor/audit/record"
)

// gather reads lines until the bound of the file.
func gather(room string, r io.Reader) State {
	s := State{Job: record.Job{Room: room}}
	lines := bufio.NewReaderSize(io.LimitReader(r, maxFile+endRoom), maxLine)
	bad, size := 0, 0
	for {
		text, err := lines.ReadSlice('\n')
		size += len(text)
		if err == bufio.ErrBufferFull { // no line of ours; it is passed over to its end
			bad++
			for err == bufio.ErrBufferFull {
				text, err = lines.ReadSlice('\n')
				size += len(text)
			}
		} else if n := len(text); n > 0 && text[n-1] == '\n' && n > 1 {
			if l, ok := parse(text[:n-1]); ok {
				s.take(l)
			} else {
				bad++
			}
		} else if n > 0 && text[n-1] != '\n' {
			bad++
		}
		if err != nil {
			break
		}
	}
	switch {
	case bad == 1:
		s.gap(torn)
	case bad > 1:
		s.gap(fmt.Sprintf("%d lines of the dossier cannot be read: what they would say is not known", bad))
	}
	if s.Job.Tries == 0 && s.recorded == 0 {
		s.gap("the dossier of this room has no beginning: whose it was is not known from it")
	}
	if size > maxFile-maxLine {
		s.gap("the dossier was full: what was to be added at last is not known")
	}
	if s.Job.Tries == 1 {
		s.Job.Tries = 0 // as a record has it
	}
	return s
}

func (s *State) gap(text string) {
	if !slices.Contains(s.Gaps, text) {
		s.Gaps = append(s.Gaps, text)
	}
}

// take adds what a line says.
func (s *State) take(l Line) {
	j := &s.Job
	if h := l.Head; h != nil {
		if h.Room != j.Room {
			s.gap(foreign)
			return
		}
		// What an earlier prepare decided is void. What it ran, hid, refused
		// and gave did happen.
		*j = record.Job{Room: j.Room, Job: h.Job, Project: h.Project, Began: h.Began, Tries: j.Tries + 1,
			Stages: j.Stages, Guard: j.Guard, Refusals: j.Refusals, Artifacts: j.Artifacts, Provenance: j.Provenance, Secrets: j.Secrets}
		if j.Tries > 1 {
			s.ended()
		}
	}
	j.Facts = append(j.Facts, l.Facts...)
	j.Decisions = append(j.Decisions, l.Decisions...)
	j.Images = append(j.Images, l.Images...)
	j.Secrets = append(j.Secrets, l.Secrets...)
	j.Guard = append(j.Guard, l.Guard...)
	j.Refusals = append(j.Refusals, l.Refusals...)
	j.Artifacts = append(j.Artifacts, l.Artifacts...)
	j.Provenance = append(j.Provenance, l.Provenance...)
	for _, gap := range l.Gaps {
		s.gap(gap)
	}
	if l.Policy != "" {
		j.Policy = l.Policy
	}
	if l.Profile != "" {
		j.Profile = l.Profile
	}
	if l.Pooled != nil {
		j.Pooled = l.Pooled
	}
	for _, ended := range l.Leases {
		j.Secrets = Merge(j.Secrets, ended)
	}
	if l.Began != nil {
		began := *l.Began
		began.Result = "unknown"
		j.Stages = append(j.Stages, began)
	}
	if l.Ended != nil {
		s.stage(*l.Ended)
	}
	switch m := l.Mark; {
	case m == nil:
	case !m.Recorded:
		s.pending = *m
	default:
		if s.recorded++; s.recorded == 1 {
			s.first = m.ID
		}
	}
}

// ended is for the secrets of a prepare before this one: what was not noted of
// them by now never will be.
func (s *State) ended() {
	for i := range s.Job.Secrets {
		if one := &s.Job.Secrets[i]; one.Outcome == "" {
			one.Outcome = Outcome(*one)
		}
	}
}

// stage takes the place of its beginning, which is the last of that name.
func (s *State) stage(ended record.Stage) {
	for i := range slices.Backward(s.Job.Stages) {
		if one := &s.Job.Stages[i]; one.Stage == ended.Stage && one.Result == "unknown" {
			*one = ended
			return
		}
	}
	s.Job.Stages = append(s.Job.Stages, ended)
}

// Merge adds what became of leases to the secret of the same name and
// provider, which is added where it is not known.
func Merge(secrets []record.Secret, ended record.Secret) []record.Secret {
	for i := range slices.Backward(secrets) {
		one := &secrets[i]
		if one.Name != ended.Name || one.Provider != ended.Provider {
			continue
		}
		for _, lease := range ended.Leases {
			at := slices.IndexFunc(one.Leases, func(l record.Lease) bool { return l.ID == lease.ID })
			if at < 0 {
				one.Leases = append(one.Leases, lease)
			} else {
				one.Leases[at] = lease
			}
		}
		one.Outcome = Outcome(*one)
		return secrets
	}
	ended.Outcome = Outcome(ended)
	return append(secrets, ended)
}

// Outcome of a secret, by what is known of it and its leases.
func Outcome(s record.Secret) string {
	revoked := 0
	unknown := false
	for _, l := range s.Leases {
		switch l.Outcome {
		case "failed":
			return "failed"
		case "revoked":
			revoked++
		case "expires":
		default:
			unknown = true
		}
	}
	switch {
	case unknown:
		return "unknown"
	case s.Revocable && revoked > 0 && revoked == len(s.Leases):
		return "revoked"
	case s.Revocable && len(s.Leases) == 0:
		return "unknown" // its lease was issued, and nobody noted its end
	case !s.Expires.IsZero(), slices.ContainsFunc(s.Leases, func(l record.Lease) bool { return l.Outcome == "expires" && !l.Expires.IsZero() }):
		return "expires"
	case s.Issued.IsZero() && revoked > 0 && revoked == len(s.Leases): // only the journal tells of it
		return "revoked"
	case len(s.Leases) == 0 || !s.Revocable:
		return "standing"
	default:
		return "unknown"
	}
}
