package dossier

import (
	"fmt"

	"cleanroom/executor/audit/record"
)

// bound cuts a line's lists and texts to what a record may have at most: their
// names are the author's, and as many as the author likes.
func bound(l Line) Line {
	j := record.Job{
		Facts: l.Facts, Policy: l.Policy, Profile: l.Profile, Decisions: l.Decisions, Images: l.Images, Secrets: l.Secrets,
		Guard: l.Guard, Refusals: l.Refusals, Artifacts: l.Artifacts, Provenance: l.Provenance, Gaps: l.Gaps,
	}
	if l.Ended != nil {
		j.Stages = []record.Stage{*l.Ended}
	}
	ended := record.Job{Secrets: l.Leases}
	for _, cut := range append(j.Bound(), ended.Bound()...) {
		j.Gaps = append(j.Gaps, fmt.Sprintf("%d of %s are not in the dossier", cut.Dropped, cut.List))
	}
	l.Facts, l.Policy, l.Profile, l.Decisions, l.Images, l.Secrets = j.Facts, j.Policy, j.Profile, j.Decisions, j.Images, j.Secrets
	l.Guard, l.Refusals, l.Artifacts, l.Provenance, l.Gaps, l.Leases = j.Guard, j.Refusals, j.Artifacts, j.Provenance, j.Gaps, ended.Secrets
	if l.Ended != nil {
		l.Ended = &j.Stages[0]
	}
	if b := l.Began; b != nil { // of what only begins there is no more
		l.Began = &record.Stage{Stage: b.Stage, Container: b.Container, Began: b.Began}
	}
	return l
}

// split makes two lines of one that is too long; ok: there was something to
// split.
func (l Line) split() (first, second Line, ok bool) {
	first, second = l, Line{}
	first.Facts, second.Facts = halves(l.Facts, &ok)
	first.Decisions, second.Decisions = halves(l.Decisions, &ok)
	first.Images, second.Images = halves(l.Images, &ok)
	first.Secrets, second.Secrets = halves(l.Secrets, &ok)
	first.Leases, second.Leases = halves(l.Leases, &ok)
	first.Guard, second.Guard = halves(l.Guard, &ok)
	first.Refusals, second.Refusals = halves(l.Refusals, &ok)
	first.Artifacts, second.Artifacts = halves(l.Artifacts, &ok)
	return first, second, ok
}

func halves[T any](list []T, ok *bool) (first, second []T) {
	if len(list) < 2 {
		return list, nil
	}
	*ok = true
	return list[:len(list)/2], list[len(list)/2:]
}
