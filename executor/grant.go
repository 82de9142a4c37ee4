package executor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret"
)

// Job variables by which the author asks. They are wishes, never facts.
const (
	// SecretsVariable names secrets, with commas or spaces.
	SecretsVariable = "CLEANROOM_SECRETS"
	// IdentityVariable names identity profiles that the job's tokens must meet.
	IdentityVariable = "CLEANROOM_IDENTITY"
)

// maxAsked bounds the secrets that a job can ask for.
const maxAsked = 200

// grant is a secret that the job may have, and why.
type grant struct {
	secret   config.Secret
	provider config.Provider
	decision verdict.Decision
}

// standing is what we know of the job and what that earns.
type standing struct {
	*identity.Identity
	rules verdict.Policy
	// demanded are the identity profiles of the rules that granted something.
	demanded *[]string
	waivers  []secret.Waiver
	caches   []string // globs over the keys of those that are kept
}

// stand finds out who the job is, by what the server wrote and by tokens that
// we verified, and reads the rules.
func (x *Executor) stand(ctx context.Context, job *contract.Job) (standing, error) {
	rules, err := x.Full.rules(x.Config)
	if err != nil {
		return standing{}, err
	}
	verifier, err := identity.NewVerifier(x.Config.Identity, filepath.Join(x.Config.DataDir, "keys"))
	if err != nil {
		return standing{}, err
	}
	who, err := identity.Establish(ctx, job, verifier)
	if err != nil {
		return standing{}, err
	}
	fields := logrus.Fields{"policy": rules.Version()}
	for _, name := range who.Facts.Known() {
		fields[name] = scrub(x.Call, fmt.Sprint(who.Facts[name].Value))
	}
	x.Log.WithFields(fields).Info("facts")
	s := standing{Identity: who, rules: rules, demanded: new([]string)}
	x.gather.line.Facts, x.gather.line.Policy = recordFacts(who.Facts), rules.Version()
	for _, w := range rules.Waivers(who.Facts) {
		s.waivers = append(s.waivers, secret.Waiver{Rule: w.Rule, Paths: w.Paths})
		*s.demanded = append(*s.demanded, w.Identity...)
		x.gather.line.Decisions = append(x.gather.line.Decisions, recordWaiver(w))
	}
	if !x.Config.Cache.Enabled || len(job.Cache) == 0 {
		return s, nil
	}
	for _, g := range rules.CacheGrants(who.Facts) {
		s.caches = append(s.caches, g.Keys...)
		*s.demanded = append(*s.demanded, g.Identity...)
		x.gather.line.Decisions = append(x.gather.line.Decisions, recordCacheGrant(g))
	}
	return s, nil
}

// decide asks the policy, and keeps what it said for the admin.
func (x *Executor) decide(s standing, kind verdict.Kind, name string) (verdict.Decision, error) {
	d := s.rules.Decide(kind, pinned(name), s.Facts)
	x.Log.WithFields(logrus.Fields{"kind": kind, "name": scrub(x.Call, name), "allowed": d.Allowed, "rule": d.Rule, "reason": scrub(x.Call, d.Reason)}).Info("decision")
	x.gather.line.Decisions = append(x.gather.line.Decisions, recordDecision(x.Call, kind, name, d))
	if !d.Allowed {
		return d, fmt.Errorf("%w: %s %q: %s", ErrDenied, kind, name, d.Reason)
	}
	*s.demanded = append(*s.demanded, d.Identity...)
	return d, nil
}

// words are what a job's variable lists.
func (x *Executor) words(variable string) []string {
	list := strings.FieldsFunc(x.Call.Variables[variable], func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	slices.Sort(list)
	return slices.Compact(list)
}

// grants are the secrets that the job asks for. All that it may not have is
// said at once.
func (x *Executor) grants(job *contract.Job, s standing) ([]grant, error) {
	var all []grant
	var denied []error
	asked := x.words(SecretsVariable)
	if len(asked) > maxAsked {
		return nil, fmt.Errorf("%w: %s names %d secrets, at most %d are possible", ErrDenied, SecretsVariable, len(asked), maxAsked)
	}
	for _, name := range asked {
		i := slices.IndexFunc(x.Config.Secrets, func(c config.Secret) bool { return c.Name == name })
		if i < 0 {
			denied = append(denied, fmt.Errorf("%w: secret %.100q: this runner has none of that name: correct %s, or ask the runner's admin", ErrDenied, name, SecretsVariable))
			continue
		}
		d, err := x.decide(s, verdict.Secret, name)
		if err != nil {
			denied = append(denied, err)
			continue
		}
		c := x.Config.Secrets[i]
		p := slices.IndexFunc(x.Config.Providers, func(p config.Provider) bool { return p.Name == c.Provider })
		all = append(all, grant{c, x.Config.Providers[p], d})
	}
	var secrets []config.Secret
	for _, g := range all {
		secrets = append(secrets, g.secret)
	}
	names := slices.Collect(maps.Keys(x.Call.Variables)) // the runner's own too
	for _, v := range job.Variables {
		names = append(names, v.Key)
	}
	for name := range job.Secrets { // GitLab's own, which the runner resolves
		names = append(names, name)
	}
	return all, oneLine(append(denied, Collisions(names, secrets)...))
}

// oneLine joins errors in a line.
func oneLine(all []error) error {
	joined := errors.Join(all...)
	if joined == nil {
		return nil
	}
	return lineError{joined}
}

type lineError struct{ error }

// Error says once what several had to say.
func (e lineError) Error() string {
	var lines []string
	for line := range strings.SplitSeq(e.error.Error(), "\n") {
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}

func (e lineError) Unwrap() error { return e.error }

// Collisions are names that two would have: secrets among each other, and the
// job's variables. The runner's script sets these after our environment is
// there: one of the same name would win, and the job would run with a value
// that nobody rotated. Errors wrap ErrDenied.
func Collisions(variables []string, secrets []config.Secret) (wrong []error) {
	const variable = "a variable of the job, which its script would use in place of the secret: remove or rename that variable"
	taken := map[string]string{}
	for _, name := range variables {
		taken[name] = variable
	}
	if by, ok := taken[filesVariable]; ok && slices.ContainsFunc(secrets, func(s config.Secret) bool {
		return slices.ContainsFunc(s.Deliver, func(d config.Deliver) bool { return d.File != "" })
	}) {
		wrong = append(wrong, fmt.Errorf("%w: %s is %s", ErrDenied, filesVariable, by))
	}
	files := map[string]string{}
	for _, s := range secrets {
		for _, d := range s.Deliver {
			if by, ok := taken[d.Variable]; ok {
				wrong = append(wrong, fmt.Errorf("%w: secret %s: %s is also %s", ErrDenied, s.Name, d.Variable, by))
			}
			if by, ok := files[d.File]; ok && d.File != "" {
				wrong = append(wrong, fmt.Errorf("%w: secret %s: the file %s is also secret %s's: ask for one of them, or ask the runner's admin", ErrDenied, s.Name, d.File, by))
			}
			taken[d.Variable] = fmt.Sprintf("the name of secret %s: ask for one of them, or ask the runner's admin", s.Name)
			files[d.File] = s.Name
		}
	}
	return wrong
}

// checkTokens holds the job's tokens against the profiles that the job names
// and those that rules demand for what they granted, an image as well as a
// secret.
func (x *Executor) checkTokens(ctx context.Context, s standing) error {
	profiles := append(x.words(IdentityVariable), *s.demanded...)
	slices.Sort(profiles)
	var refused []error
	for _, name := range slices.Compact(profiles) {
		accepted, err := s.CheckProfile(ctx, name)
		for _, line := range accepted {
			x.sayf("Identity: %s", line)
		}
		refused = append(refused, err)
	}
	return oneLine(refused)
}
