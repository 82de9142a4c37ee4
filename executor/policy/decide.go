package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"cel.dev/cel-go/cel"

	"cleanroom/executor/identity"
	"cleanroom/executor/policy/verdict"
)

// The words of decisions are package verdict's.
type (
	Kind       = verdict.Kind
	Decision   = verdict.Decision
	Waiver     = verdict.Waiver
	CacheGrant = verdict.CacheGrant
)

// Kinds.
const (
	Secret  = verdict.Secret
	Image   = verdict.Image
	Service = verdict.Service
	Profile = verdict.Profile
	Cache   = verdict.Cache
	Warn    = verdict.Warn
)

var _ verdict.Policy = (*Policy)(nil)

// maxNamed is how many rules a reason goes into.
const maxNamed = 3

// Decide says whether a job of these facts may have something, by name: a
// secret's, or an image's as the job writes it, its variables expanded. The
// first rule in order that lists it and whose condition is true grants it.
// Images, services and caches are free until some rule lists any.
func (p *Policy) Decide(kind Kind, name string, facts identity.Facts) Decision {
	if free, ok := verdict.Free(kind); ok && !p.governs(kind) {
		return free
	}
	known, err := activation(facts)
	if err != nil {
		return Decision{Reason: "the job's facts cannot be used: " + oneLine(err.Error())}
	}
	var refusals []refusal
	for _, r := range p.rules {
		if !r.lists(kind, name) {
			continue
		}
		no, granted := r.decide(known)
		if granted {
			return Decision{
				Allowed: true, Rule: r.source.Name, Reason: "granted by rule " + r.source.Name,
				Stages: slices.Clone(r.source.Stages), Identity: slices.Clone(r.source.Identity),
			}
		}
		refusals = append(refusals, no)
	}
	if len(refusals) == 0 {
		return verdict.Unlisted(kind, shortQuote(name))
	}
	return Decision{Reason: reason(refusals, facts)}
}

// Waivers are those of the rules that are true of a job. They are decided
// before the job runs, so that no stage has to compile rules.
func (p *Policy) Waivers(facts identity.Facts) (all []Waiver) {
	for _, r := range p.granting(Warn, facts) {
		all = append(all, Waiver{Rule: r.source.Name, Paths: slices.Clone(r.source.Warn), Identity: slices.Clone(r.source.Identity)})
	}
	return all
}

// CacheGrants are those of the rules that are true of a job, decided once as
// Waivers are; where no rule is about caches, one of all keys and no rule.
func (p *Policy) CacheGrants(facts identity.Facts) (all []CacheGrant) {
	if !p.governs(Cache) {
		return verdict.AllCaches()
	}
	for _, r := range p.granting(Cache, facts) {
		all = append(all, CacheGrant{Rule: r.source.Name, Keys: slices.Clone(r.source.Caches), Identity: slices.Clone(r.source.Identity)})
	}
	return all
}

// granting are the rules that list something of a kind and are true.
func (p *Policy) granting(kind Kind, facts identity.Facts) (all []rule) {
	if !p.governs(kind) {
		return nil
	}
	known, err := activation(facts)
	if err != nil {
		return nil
	}
	for _, r := range p.rules {
		if len(r.globs(kind)) == 0 {
			continue
		}
		if _, granted := r.decide(known); granted {
			all = append(all, r)
		}
	}
	return all
}

// governs says whether any rule lists something of a kind.
func (p *Policy) governs(kind Kind) bool {
	return slices.ContainsFunc(p.rules, func(r rule) bool { return len(r.globs(kind)) > 0 })
}

// refusal is why a rule does not grant. If any conjunct is false, what the
// others lack does not matter.
type refusal struct {
	rule    rule
	refused []conjunct
	missing []string
	broken  []string
}

// decide evaluates the whole condition, so as to name all that stands in the
// way at once.
func (r rule) decide(facts cel.PartialActivation) (refusal, bool) {
	no, granted := refusal{rule: r}, len(r.conjuncts) > 0
	for _, c := range r.conjuncts {
		o := c.eval(facts)
		granted = granted && o.granted()
		switch {
		case o.err != nil:
			no.broken = append(no.broken, fmt.Sprintf("%s fails: %v", short(c.text, 2*maxQuote), o.err))
		case o.refused():
			no.refused = append(no.refused, c)
		default:
			no.missing = append(no.missing, o.missing...)
		}
	}
	slices.Sort(no.missing)
	no.missing = slices.Compact(no.missing)
	return no, granted
}

// distance is how far a job is from being granted.
func (no refusal) distance() int { return len(no.refused) + len(no.missing) + len(no.broken) }

// reason names the rules that were nearest to granting.
func reason(refusals []refusal, facts identity.Facts) string {
	slices.SortStableFunc(refusals, func(a, b refusal) int { return cmp.Compare(a.distance(), b.distance()) })
	var lines []string
	for _, no := range refusals[:min(maxNamed, len(refusals))] {
		lines = append(lines, no.line(facts))
	}
	if more := len(refusals) - len(lines); more > 0 {
		lines = append(lines, fmt.Sprintf("%d more that list it do not grant it either", more))
	}
	return strings.Map(func(r rune) rune { // the name of a token's variable is the author's
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, strings.Join(lines, "; "))
}

func (no refusal) line(facts identity.Facts) string {
	name := "rule " + no.rule.source.Name
	var line string
	switch {
	case len(no.refused) > 0:
		var all []string
		for _, c := range no.refused {
			all = append(all, c.whyFalse(facts))
		}
		line = name + ": " + strings.Join(all, " and ")
	case len(no.missing) > 0:
		line = name + " needs " + lacking(no.missing, facts)
	default:
		line = name + ": " + strings.Join(no.broken, " and ") + "; ask the runner's admin to mend it"
	}
	if no.rule.source.Hint != "" {
		line += " -> " + no.rule.source.Hint
	}
	return line
}

// lacking says which facts are missing and how a job comes by them.
func lacking(names []string, facts identity.Facts) string {
	what := "the fact " + names[0]
	if len(names) > 1 {
		what = "the facts " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
	}
	for _, fact := range facts {
		if strings.Contains(fact.Source, "ID token ") {
			return what + ", which neither this job's response nor its ID token tells: ask the runner's admin"
		}
	}
	return what + ", which this job's response does not tell: give the job an ID token (id_tokens:) that this runner accepts"
}

// whyFalse shows a conjunct that is false, the job's facts that made it so,
// and who vouches for them.
func (c conjunct) whyFalse(facts identity.Facts) string {
	if c.simple {
		fact := facts[c.facts[0]]
		return fmt.Sprintf("%s is %s (%s)", c.facts[0], Show(fact), fact.Source)
	}
	text := short(c.text, 3*maxQuote) + " is false"
	var have []string
	for _, name := range c.facts {
		if fact, ok := facts[name]; ok {
			have = append(have, fmt.Sprintf("%s is %s (%s)", name, Show(fact), fact.Source))
		}
	}
	if len(have) == 0 {
		return text
	}
	return text + ": " + strings.Join(have, ", ")
}

// Show writes a fact's value as conditions do, short and on one line.
func Show(fact identity.Fact) string {
	if s, ok := fact.Value.(string); ok {
		return shortQuote(s)
	}
	return fmt.Sprint(fact.Value)
}
