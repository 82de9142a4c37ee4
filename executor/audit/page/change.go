package page

import (
	"fmt"

	"cleanroom/executor/audit/record"
)

// change is for what is not a job.
func (p *page) change(r *record.Record) {
	told := func(title string) {
		p.title(title)
		p.line("when", stamp(r.At)+", "+by(r))
	}
	hashes := func(before, after string) {
		if before == "" {
			before = "not known"
		}
		p.line("before", show(before))
		p.line("after", show(after))
	}
	names := func(label string, all []string) {
		if len(all) > 0 {
			p.line(label, list(all))
		}
	}
	switch {
	case r.Config != nil:
		told("The configuration was changed")
		hashes(r.Config.Before, r.Config.After)
		names("sections", r.Config.Sections)
	case r.Policy != nil:
		told("The policy was changed")
		hashes(r.Policy.Before, r.Policy.After)
		names("new rules", r.Policy.Added)
		names("rules gone", r.Policy.Removed)
		names("rules changed", r.Policy.Changed)
		if r.Policy.Moved {
			p.line("order", "the rules that stay are in another one")
		}
	case r.Secret != nil:
		told("Secret " + show(r.Secret.Name) + " in " + show(r.Secret.Provider) + ": " + show(r.Secret.Action))
		if r.Secret.Version != "" {
			p.line("version", show(r.Secret.Version))
		}
	case r.Cache != nil:
		told(fmt.Sprintf("Caches were wiped: %d", len(r.Cache.Caches)))
		for _, v := range r.Cache.Caches {
			p.line("removed", show(v))
		}
		for _, i := range r.Cache.Left {
			p.line("LEFT", show(i.Kind)+" "+show(i.Name)+": "+show(i.Why))
		}
	case r.Key != nil:
		told("The log is signed with another key")
		hashes(r.Key.Before, r.Key.After)
		p.line("signed by", show(r.Key.Signer))
	case r.Begun != nil:
		told("A log begins: " + show(r.Begun.Origin))
		p.line("key", show(r.Begun.Key))
	}
}
