package config

import "time"

// Identity says whose tokens vouch for a job, and what production demands of
// the tokens that a job takes there.
type Identity struct {
	// Issuers of ID tokens; no other is believed.
	Issuers []Issuer `mapstructure:"issuer"`
	// Profiles are what production demands of a token.
	Profiles []TokenProfile `mapstructure:"profile"`
}

// Issuer of ID tokens, a GitLab server.
type Issuer struct {
	// URL is the tokens' iss, to the letter.
	URL string `mapstructure:"url"`
	// JWKSURL is where its keys are; empty means that OIDC discovery tells.
	JWKSURL string `mapstructure:"jwks_url"`
	// Audience is the aud of tokens that are meant for cleanroom: they give
	// facts.
	Audience string `mapstructure:"audience"`
	// CAFile is a PEM file of the authority that vouches for its server.
	CAFile string `mapstructure:"ca_file"`
	// PlainHTTP accepts an address without TLS: whoever is on the way to it
	// can then make any identity.
	PlainHTTP bool `mapstructure:"plain_http"`
	// Algorithms that may sign; empty means RS256.
	Algorithms []string `mapstructure:"algorithms"`
	// Skew is how far its clock and ours may be apart; at most 5 minutes.
	Skew time.Duration `mapstructure:"skew"`
	// KeysMaxAge is how long its keys are kept on disk before they are
	// asked for again.
	KeysMaxAge time.Duration `mapstructure:"keys_max_age"`
}

// TokenProfile is what somebody who accepts tokens (production) demands of
// them. A job names it with CLEANROOM_IDENTITY, a rule with identity.
type TokenProfile struct {
	Name string `mapstructure:"name"`
	// Tokens are globs over the names of the variables that hold them; empty
	// means every ID token of the job.
	Tokens []string `mapstructure:"tokens"`
	// Issuer must be one of identity.issuer.
	Issuer string `mapstructure:"issuer"`
	// Audience: one of these must be among the token's.
	Audience []string `mapstructure:"audience"`
	// Subject: globs, one of which must match; empty means any.
	Subject []string `mapstructure:"subject"`
	// MinLifetime is how long a token must still be good for.
	MinLifetime time.Duration `mapstructure:"min_lifetime"`
	// Claims that a token must have.
	Claims []Claim `mapstructure:"claim"`
}

// Claim that a token must have, with one of these values (globs).
type Claim struct {
	Name   string   `mapstructure:"name"`
	Values []string `mapstructure:"values"`
}

// Policy says which facts earn what.
type Policy struct {
	// File holds rules, as [[rule]] tables, in place of those here.
	File  string `mapstructure:"file"`
	Rules []Rule `mapstructure:"rule"`
}

// Rule grants what it lists to the jobs for which When is true.
type Rule struct {
	Name string `mapstructure:"name"`
	// When is a CEL expression over the job's facts, named as the claims of
	// a GitLab ID token.
	When string `mapstructure:"when"`
	// Hint is what a job that this rule refuses is told to do.
	Hint string `mapstructure:"hint"`
	// Secrets, Images, Services: globs of what is granted.
	Secrets  []string `mapstructure:"secrets"`
	Images   []string `mapstructure:"images"`
	Services []string `mapstructure:"services"`
	// Profiles softer than the admin's that the job may ask for.
	Profiles []string `mapstructure:"profiles"`
	// Caches are globs over the keys of caches that are kept.
	Caches []string `mapstructure:"caches"`
	// Warn are globs of files, relative to the project's folder, in which a
	// secret that the guard finds is told and stored all the same.
	Warn []string `mapstructure:"warn"`
	// Stages that get the secrets: globs over stage names (script is
	// build_script or step_script, service:ALIAS a service); empty means
	// script, step_* and after_script.
	Stages []string `mapstructure:"stages"`
	// Identity are names of identity.profile that the job's tokens must meet
	// when the rule grants something.
	Identity []string `mapstructure:"identity"`
}
