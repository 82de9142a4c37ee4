package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"cleanroom/config"
	"cleanroom/executor"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/executor/plain"
	"cleanroom/executor/policy"
)

// explanation is what `policy explain` prints.
type explanation struct {
	Policy     string             `json:"policy"`
	Unverified bool               `json:"unverified,omitempty"`
	Facts      []explainedFact    `json:"facts"`
	Unknown    []string           `json:"unknown"`
	Decisions  []explainedRequest `json:"decisions"`

	policy     *policy.Policy
	facts      identity.Facts
	configured []string // names of secrets
}

type explainedFact struct {
	Name   string `json:"name"`
	Value  any    `json:"value"`
	Source string `json:"source"`
}

// explainedRequest is something that a job asks for or, where Asked is false,
// could.
type explainedRequest struct {
	Kind  policy.Kind `json:"kind"`
	Name  string      `json:"name"`
	Asked bool        `json:"asked"`
	policy.Decision
}

// explain decides on what is wished for; without a wish on all secrets there
// are, and on what the job (nil: there is none) asks for itself.
func explain(cfg config.Config, p *policy.Policy, facts identity.Facts, job *contract.Job, w wishes) *explanation {
	e := &explanation{
		Policy: p.Version(), Facts: []explainedFact{}, Unknown: []string{}, Decisions: []explainedRequest{},
		policy: p, facts: facts, configured: secretNames(cfg),
	}
	for _, name := range facts.Known() {
		e.Facts = append(e.Facts, explainedFact{name, facts[name].Value, facts[name].Source})
	}
	for _, name := range slices.Sorted(maps.Keys(identity.Names)) {
		if _, known := facts[name]; !known {
			e.Unknown = append(e.Unknown, name)
		}
	}
	if !w.none() {
		e.decide(w, true)
		return e
	}
	if job != nil {
		w = asked(job)
		e.decide(w, true)
		e.profile(cfg.Profile, lastValue(job, executor.ProfileVariable))
		e.others(cfg, job, w)
		e.caches(cfg, job)
	}
	for _, waiver := range p.Waivers(facts) {
		for _, glob := range waiver.Paths {
			e.add(policy.Warn, glob, false, policy.Decision{Allowed: true, Rule: waiver.Rule, Identity: waiver.Identity,
				Reason: "rule " + waiver.Rule + ": a secret that is found in these files is told and stored all the same"})
		}
	}
	others := slices.DeleteFunc(slices.Clone(e.configured), func(name string) bool { return slices.Contains(w.secrets, name) })
	e.decide(wishes{secrets: others}, false)
	return e
}

func (w wishes) none() bool { return len(w.secrets)+len(w.images)+len(w.services) == 0 }

// others are what else prepare would refuse the job for.
func (e *explanation) others(cfg config.Config, job *contract.Job, w wishes) {
	for _, name := range listed(job, executor.IdentityVariable) {
		if !slices.ContainsFunc(cfg.Identity.Profiles, func(p config.TokenProfile) bool { return p.Name == name }) {
			e.add("identity", name, true, policy.Decision{Reason: "this runner has no identity profile of that name"})
		}
	}
	var names []string
	for _, v := range job.Variables {
		names = append(names, v.Key)
	}
	var secrets []config.Secret
	for _, s := range cfg.Secrets {
		if slices.Contains(w.secrets, s.Name) {
			secrets = append(secrets, s)
		}
	}
	for _, wrong := range executor.Collisions(names, secrets) {
		e.add("variable", "-", true, policy.Decision{Reason: wrong.Error()})
	}
}

// listed are the words of a variable, as prepare reads them.
func listed(job *contract.Job, variable string) []string {
	words := strings.FieldsFunc(lastValue(job, variable), func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	slices.Sort(words)
	return slices.Compact(words)
}

// asked is what a job asks for itself, as its author wrote it.
func asked(job *contract.Job) (w wishes) {
	w.secrets = listed(job, executor.SecretsVariable)
	if job.Image.Name != "" {
		w.images = []string{job.Image.Name}
	}
	for _, s := range job.Services {
		w.services = append(w.services, s.Name)
	}
	return w
}

// lastValue of a variable: where a name comes twice, the last holds, as in the
// runner.
func lastValue(job *contract.Job, name string) string {
	for _, v := range slices.Backward(job.Variables) {
		if v.Key == name {
			return v.Value
		}
	}
	return ""
}

func (e *explanation) decide(w wishes, asked bool) {
	for _, name := range w.secrets {
		d := policy.Decision{Reason: "this runner has no secret of that name"}
		if slices.Contains(e.configured, name) {
			d = e.policy.Decide(policy.Secret, name, e.facts)
		}
		e.add(policy.Secret, name, asked, d)
	}
	for _, name := range w.images {
		e.written(policy.Image, name, asked)
	}
	for _, name := range w.services {
		e.written(policy.Service, name, asked)
	}
}

// written decides on a name as it is written: its variables have values only
// while the job runs.
func (e *explanation) written(kind policy.Kind, name string, asked bool) {
	d := e.policy.Decide(kind, name, e.facts)
	if strings.Contains(name, "$") {
		d.Reason += " (decided on the name as written; in the job its variables have their values)"
	}
	e.add(kind, name, asked, d)
}

// caches decides on those of the job, by their keys as they are written. One
// that is not kept is no reason to refuse the job: it is not what it asks for.
func (e *explanation) caches(cfg config.Config, job *contract.Job) {
	for _, c := range job.Cache {
		if !cfg.Cache.Enabled {
			e.add(policy.Cache, c.Key, false, policy.Decision{Reason: "this runner keeps no caches (cache.enabled)"})
			continue
		}
		e.written(policy.Cache, c.Key, false)
	}
}

// profile decides on one that the job asks for, if it hardens less than the
// admin's.
func (e *explanation) profile(admins, name string) {
	order := []string{"compatible", "hardened", "strict"}
	if name != "" && (!slices.Contains(order, name) || slices.Index(order, name) < slices.Index(order, admins)) {
		e.add(policy.Profile, name, true, e.policy.Decide(policy.Profile, name, e.facts))
	}
}

func (e *explanation) add(kind policy.Kind, name string, asked bool, d policy.Decision) {
	e.Decisions = append(e.Decisions, explainedRequest{kind, name, asked, d})
}

// denied names what was asked for and is denied; nothing if all is granted.
func (e *explanation) denied() string {
	var all []string
	for _, r := range e.Decisions {
		if r.Asked && !r.Allowed {
			all = append(all, string(r.Kind)+" "+plain.Word(r.Name))
		}
	}
	return strings.Join(all, ", ")
}

func (e *explanation) print(out io.Writer) error {
	fmt.Fprintf(out, "policy %s\n\n", e.Policy)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "FACT\tVALUE\tSOURCE")
	for _, f := range e.Facts {
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Name, policy.Show(e.facts[f.Name]), f.Source)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(e.Unknown) > 0 {
		fmt.Fprintf(out, "not known: %s\n", strings.Join(e.Unknown, ", "))
	}
	fmt.Fprintln(out)
	w = tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "DECISION\tKIND\tNAME\tASKED\tREASON")
	for _, r := range e.Decisions {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", word(r.Allowed, "allowed", "denied"), r.Kind, plain.Word(r.Name), word(r.Asked, "asked", "-"), r.says())
	}
	return w.Flush()
}

// says is the reason, with what comes with a grant.
func (r explainedRequest) says() string {
	says := r.Reason
	if len(r.Stages) > 0 {
		says += ", to stages " + strings.Join(r.Stages, ", ")
	}
	if len(r.Identity) > 0 {
		says += ", if the job's tokens meet " + strings.Join(r.Identity, ", ")
	}
	return says
}

func word(yes bool, one, other string) string {
	if yes {
		return one
	}
	return other
}
