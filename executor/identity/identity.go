package identity

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"cleanroom/executor/contract"
)

// Identity is one job's: its facts, and its ID tokens.
type Identity struct {
	// Facts are what is known of the job.
	Facts Facts

	verifier *Verifier // nil: no issuer is configured
	host     string    // of the GitLab that the job is from
	shaped   map[string]*shaped
}

// shaped is a variable whose value is shaped like a JWT. A pointer holds the
// text, so that printing an Identity by mistake prints an address.
type shaped struct {
	raw *string
	unverified
}

// Establish takes facts from the job response and from those of the job's ID
// tokens that are meant for us: a variable of the response whose value is
// shaped like a JWT, of a configured issuer and for the audience configured
// with it. Such a token must be good and of this very job, and must agree with
// all else that is known. Tokens for other audiences give no facts, but Token
// and CheckProfile know them. With a nil Verifier the job response is the only
// source.
//
// CUSTOM_ENV_ variables are not even asked for, and a variable's name counts
// for nothing: what makes a token is its signature.
//
// Errors wrap ErrToken, ErrDisagree or ErrIssuer.
func Establish(ctx context.Context, job *contract.Job, v *Verifier) (*Identity, error) {
	i := &Identity{Facts: FromJob(job), verifier: v, shaped: map[string]*shaped{}}
	if u, err := url.Parse(job.GitInfo.RepoURL); err == nil {
		i.host = u.Host
	}
	if v == nil {
		v = &Verifier{}
	}
	for _, variable := range job.Variables {
		u, ok := peek(variable.Value)
		if !ok || variable.Value == job.Token { // the job token may be a JWT, of another key
			continue
		}
		raw := strings.Clone(variable.Value)
		i.shaped[variable.Key] = &shaped{&raw, u}
		issuer := v.issuer(u.issuer)
		if issuer == nil || issuer.Audience == "" || !slices.Contains(u.audience, issuer.Audience) {
			continue
		}
		t, err := i.own(ctx, variable.Key, raw)
		if err != nil {
			return nil, err
		}
		facts, err := t.Facts()
		if err != nil {
			return nil, err
		}
		if err := i.Facts.merge(facts, t); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// merge adds the facts of a token, all of which must agree with what is known.
func (f Facts) merge(more Facts, t *Token) error {
	for _, name := range more.Known() { // sorted: the same error each time
		fact := more[name]
		known, ok := f[name]
		switch {
		case !ok:
			f[name] = fact
		case known.Value == fact.Value:
			f[name] = Fact{known.Value, known.Source + ", " + fact.Source}
		case name == "ref" && mergeRequest(known.Value):
			// In a merge request's pipeline git_info has its own ref, and
			// the token the source branch, which may be a fork's and may be
			// called main: what tells them apart is what stays.
		default:
			return refuse(ErrDisagree, t.Variable, "claim %s is %s, the %s says %s", name, shown(fact.Value), known.Source, shown(known.Value))
		}
	}
	return nil
}

func mergeRequest(ref any) bool {
	s, _ := ref.(string)
	return strings.HasPrefix(s, "refs/merge-requests/")
}

// own verifies a token, and that it is this job's.
func (i *Identity) own(ctx context.Context, variable, raw string) (*Token, error) {
	t, err := i.verifier.Verify(ctx, variable, raw)
	if err != nil {
		return nil, err
	}
	return t, i.bound(t)
}

// bound says whether a token is of this very job and its project. In a merge
// request of a fork GitLab writes the fork into project_id, and the project
// that runs the job into job_project_id (lib/gitlab/ci/jwt.rb): the fork's
// code must not earn what the project earns.
func (i *Identity) bound(t *Token) error {
	// Two GitLabs have jobs and projects of the same numbers.
	if u, err := url.Parse(t.Issuer); len(i.verifier.issuers) > 1 && (err != nil || u.Host != i.host) {
		return refuse(ErrDisagree, t.Variable, "issuer is %s, the job is from %s: it is another GitLab's token", shown(t.Issuer), shown(i.host))
	}
	for _, name := range []string{"job_id", "project_id"} {
		fact, ok := i.Facts[name]
		if !ok {
			return refuse(ErrDisagree, t.Variable, "the job response has no %s to compare it with", name)
		}
		want := strconv.FormatInt(fact.Value.(int64), 10)
		got, ok := t.Claim(name)
		switch runs, _ := t.Claim("job_project_id"); {
		case !ok:
			return refuse(ErrDisagree, t.Variable, "has no claim %s: it is not of this job", name)
		case got == want:
		case name == "project_id" && runs == want:
			return refuse(ErrDisagree, t.Variable, "claim project_id is %s, the job runs in project %s: a merge request of a fork has the fork's identity; give its jobs no id_tokens (rules: on $CI_MERGE_REQUEST_SOURCE_PROJECT_ID)", shown(got), want)
		default:
			return refuse(ErrDisagree, t.Variable, "claim %s is %s, the job response says %s: it is another job's token", name, shown(got), shown(want))
		}
	}
	return nil
}

// Tokens are the names of the variables that hold tokens of configured
// issuers, sorted. They are not verified yet.
func (i *Identity) Tokens() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(i.shaped)) {
		if i.verifier != nil && i.verifier.issuer(i.shaped[name].issuer) != nil {
			names = append(names, name)
		}
	}
	return names
}

// Token gives the text of the ID token of a variable, for any audience, after
// verifying that it is good now and of this job. It is for whoever issues
// secrets, and for nothing that is kept. Errors wrap ErrToken, ErrDisagree or
// ErrIssuer.
func (i *Identity) Token(ctx context.Context, variable string) (string, error) {
	if i.verifier == nil || len(i.verifier.issuers) == 0 {
		return "", refuse(ErrToken, variable, "cannot be verified: this runner knows no issuer (identity.issuer in its configuration)")
	}
	s, ok := i.shaped[variable]
	if !ok {
		return "", &finding{kind: ErrToken, line: "job has no ID token " + label(variable) + ": add it under id_tokens: in .gitlab-ci.yml"}
	}
	if _, err := i.own(ctx, variable, *s.raw); err != nil {
		return "", err
	}
	return *s.raw, nil
}
