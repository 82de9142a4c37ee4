package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cleanroom/config"
	"cleanroom/config/glob"
)

// Verdict is what one rule of a profile says of a token.
type Verdict struct {
	Rule     string `json:"rule"` // signature, issuer, audience, subject, lifetime, claim NAME
	Accepted bool   `json:"accepted"`
	Detail   string `json:"detail"` // what the token has, and what would be accepted
}

// Verdicts are those of all rules of a profile, in their order.
func Verdicts(p config.TokenProfile, t *Token, now time.Time) []Verdict {
	name := label(p.Name)
	judge := func(rule string, accepted bool, is, wants string) Verdict {
		if !accepted {
			is += ", " + name + " " + wants
		}
		return Verdict{rule, accepted, is}
	}
	list := []Verdict{judge("issuer", t.Issuer == p.Issuer, "issuer is "+shown(t.Issuer), "accepts "+shown(p.Issuer))}
	if len(p.Audience) > 0 {
		meant := slices.ContainsFunc(t.Audience, func(a string) bool { return slices.Contains(p.Audience, a) })
		list = append(list, judge("audience", meant, "audience is "+anyOf(t.Audience, "and"), "accepts "+anyOf(p.Audience, "or")))
	}
	if len(p.Subject) > 0 {
		list = append(list, judge("subject", matches(p.Subject, t.Subject), "subject is "+shown(t.Subject), "accepts "+anyOf(p.Subject, "or")))
	}
	left := t.Expires.Sub(now)
	is := "expires in " + seconds(left).String()
	if left <= 0 {
		is = "expired " + seconds(-left).String() + " ago"
	}
	list = append(list, judge("lifetime", left > 0 && left >= p.MinLifetime, is, "needs at least "+p.MinLifetime.String()))
	for _, c := range p.Claims {
		values := t.values(c.Name)
		is := "claim " + label(c.Name) + " is "
		if len(values) == 0 {
			is += "missing"
		} else {
			is += anyOf(values, "and")
		}
		good := slices.ContainsFunc(values, func(v string) bool { return matches(c.Values, v) })
		list = append(list, judge("claim "+label(c.Name), good, is, "requires "+anyOf(c.Values, "or")))
	}
	return list
}

// matches says whether one of the globs (doublestar: * stops at a slash)
// matches; a pattern that is none matches nothing but itself.
func matches(globs []string, value string) bool {
	return slices.ContainsFunc(globs, func(pattern string) bool { return pattern == value || glob.Match(pattern, value) })
}

// Check says whether a profile accepts a token at this time. The error is one
// line that names every rule that does not, and wraps ErrToken.
func Check(p config.TokenProfile, t *Token, now time.Time) error {
	return Refusal(t.Variable, Verdicts(p, t, now))
}

// Refusal is one line of all that was not accepted; nil when all was.
func Refusal(variable string, verdicts []Verdict) error {
	var lines []string
	for _, v := range verdicts {
		if !v.Accepted {
			lines = append(lines, v.Detail)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return &finding{kind: ErrToken, line: "token " + label(variable) + ": " + strings.Join(lines, "; ")}
}

// Profile finds a profile by its name. The error names those there are, and
// wraps ErrToken.
func (v *Verifier) Profile(name string) (config.TokenProfile, error) {
	var known []string
	if v != nil {
		for _, p := range v.profiles {
			if p.Name == name {
				return p, nil
			}
			known = append(known, label(p.Name))
		}
	}
	remedy := "this runner has none"
	if len(known) > 0 {
		remedy = "this runner has " + strings.Join(known, ", ")
	}
	return config.TokenProfile{}, &finding{kind: ErrToken, line: "no identity profile is called " + shown(name) + ": " + remedy}
}

// CheckToken verifies a token and holds it against a profile. The verdicts
// begin with that on its signature; where that is bad, there are no others.
// The token is nil then. An error wraps ErrIssuer.
func (v *Verifier) CheckToken(ctx context.Context, p config.TokenProfile, variable, raw string) (*Token, []Verdict, error) {
	prefix := "token " + label(variable) + ": "
	if u, ok := peek(raw); ok && v.issuer(u.issuer) == nil { // its keys are not known here: nothing else can be said
		return nil, []Verdict{{"issuer", false, fmt.Sprintf("issuer is %s, %s accepts %s", shown(u.issuer), label(p.Name), shown(p.Issuer))}}, nil
	}
	t, err := v.signed(ctx, variable, raw)
	if errors.Is(err, ErrIssuer) {
		return nil, nil, err
	}
	if err != nil {
		return nil, []Verdict{{"signature", false, strings.TrimPrefix(err.Error(), prefix)}}, nil
	}
	list := []Verdict{{"signature", true, "signature is good"}}
	list = append(list, Verdicts(p, t, v.now())...)
	if err := t.begun(v.now(), v.issuer(t.Issuer).Skew); err != nil {
		list = append(list, Verdict{"not before", false, strings.TrimPrefix(err.Error(), prefix)})
	}
	return t, list, nil
}

// CheckProfile holds the job's tokens against a profile, as production will:
// those whose variables the profile names, or all of configured issuers. Each
// must also be of this job. The lines say for how long each will do; the
// error is one line with all that will not, and wraps ErrToken or ErrIssuer.
func (i *Identity) CheckProfile(ctx context.Context, name string) ([]string, error) {
	p, err := i.verifier.Profile(name)
	if err != nil {
		return nil, err
	}
	names, err := i.named(p)
	if err != nil {
		return nil, err
	}
	var lines, failed []string
	for _, variable := range names {
		t, verdicts, err := i.verifier.CheckToken(ctx, p, variable, *i.shaped[variable].raw)
		if err != nil {
			return nil, err
		}
		if t != nil {
			if err := i.bound(t); err != nil {
				verdicts = append(verdicts, Verdict{"job", false, strings.TrimPrefix(err.Error(), "token "+label(variable)+": ")})
			}
		}
		if err := Refusal(variable, verdicts); err != nil {
			failed = append(failed, err.Error())
			continue
		}
		lines = append(lines, fmt.Sprintf("token %s: %s accepts it for %s", label(variable), label(p.Name), short(t.Expires.Sub(i.verifier.now()))))
	}
	if len(failed) > 0 {
		return nil, &finding{kind: ErrToken, line: strings.Join(failed, "; ")}
	}
	return lines, nil
}

// named are the variables with tokens that a profile is about.
func (i *Identity) named(p config.TokenProfile) ([]string, error) {
	if len(p.Tokens) == 0 {
		if names := i.Tokens(); len(names) > 0 {
			return names, nil
		}
		return nil, &finding{kind: ErrToken, line: fmt.Sprintf("job has no ID token for identity profile %s: add one under id_tokens: in .gitlab-ci.yml, with aud: %s",
			label(p.Name), anyOf(p.Audience, "or"))}
	}
	var names []string
	for name := range i.shaped {
		if matches(p.Tokens, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, &finding{kind: ErrToken, line: fmt.Sprintf("job has no ID token %s, which identity profile %s is about: add it under id_tokens: in .gitlab-ci.yml, with aud: %s",
			anyOf(p.Tokens, "or"), label(p.Name), anyOf(p.Audience, "or"))}
	}
	slices.Sort(names)
	return names, nil
}

// short is a duration in its two largest units, rounded down.
func short(d time.Duration) string {
	switch {
	case d >= time.Hour:
		return strings.Replace(strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s"), "h0m", "h", 1)
	case d >= time.Minute:
		return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
	}
	return d.Truncate(time.Second).String()
}
