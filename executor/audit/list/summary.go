package list

import (
	"fmt"
	"slices"
	"strings"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// Summary is what a record says, in a line. Texts in it are as the record has
// them: not yet Plain.
func Summary(r *record.Record) string {
	switch {
	case r.Job != nil:
		return ofJob(r.Job)
	case r.Reap != nil:
		return join("ended: "+r.Reap.End.Why, given(r.Reap.Secrets), left(r.Reap.End))
	case r.Config != nil:
		return "changed: " + names(r.Config.Sections)
	case r.Policy != nil:
		return OfPolicy(r.Policy)
	case r.Secret != nil:
		return OfChange(r.Secret)
	case r.Cache != nil:
		return OfCache(r.Cache)
	case r.Key != nil:
		return "signed with " + r.Key.After + " (" + r.Key.Signer + ")"
	case r.Begun != nil:
		return "log " + r.Begun.Origin + " begins, signed with " + r.Begun.Key
	}
	return ""
}

// OfPolicy is which rules changed.
func OfPolicy(p *record.Policy) string {
	var parts []string
	for _, of := range []struct {
		did   string
		rules []string
	}{{"added", p.Added}, {"removed", p.Removed}, {"changed", p.Changed}} {
		if len(of.rules) > 0 {
			parts = append(parts, of.did+" "+names(of.rules))
		}
	}
	if p.Moved {
		parts = append(parts, "another order")
	}
	return join(parts...)
}

// OfChange is what was done to a secret of the store.
func OfChange(c *record.Change) string {
	says := fmt.Sprintf("%s %s of %s", c.Action, c.Name, c.Provider)
	if c.Version != "" {
		says += ", version " + c.Version
	}
	return says
}

// OfCache is which caches were wiped.
func OfCache(c *record.Cache) string {
	return join("wiped "+names(c.Caches), Items("left: ", c.Left))
}

func ofJob(j *record.Job) string {
	var parts []string
	if j.Stage != "" {
		parts = append(parts, "in "+j.Stage)
	}
	for _, i := range j.Images {
		if i.Role == "job" {
			parts = append(parts, "image "+i.Name)
		}
	}
	parts = append(parts, given(j.Secrets))
	if n := len(j.Guard); n > 0 {
		parts = append(parts, fmt.Sprintf("findings of the guard: %d", n))
	}
	for _, r := range j.Refusals {
		parts = append(parts, r.Reason+": "+plain.Short(r.Says, 120))
	}
	return join(append(parts, left(j.End))...)
}

func given(all []record.Secret) string {
	var says []string
	for _, s := range all {
		says = append(says, s.Name+" ("+s.Outcome+")")
	}
	if len(says) == 0 {
		return ""
	}
	return "secrets " + names(says)
}

func left(e record.End) string {
	if e.Complete {
		return ""
	}
	return join(Unfinished, Items("left: ", e.Left), plain.Short(e.Error, 120))
}

// Items names what is left, behind a word for it; empty if nothing is.
func Items(word string, all []record.Item) string {
	var says []string
	for _, i := range all {
		says = append(says, i.Kind+" "+i.Name)
	}
	if len(says) == 0 {
		return ""
	}
	return word + names(says)
}

// names are a few of a list, and how many there are more.
func names(all []string) string {
	const most = 6
	if more := len(all) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), more)
	}
	return strings.Join(all, ", ")
}

func join(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
