// Package verdict has the words in which a policy answers, and the answers of
// one without rules. It is apart from package policy, whose conditions take long
// to load and which most hosts' jobs have no use for.
package verdict

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"cleanroom/config"
	"cleanroom/executor/identity"
)

// Kind of what a job asks for.
type Kind string

// Kinds. A Profile is one that hardens less than the admin's; a Cache is one
// that is kept, by its key; a Warn is a file in which a secret that the guard finds is told and stored all the same.
const (
	Secret  Kind = "secret"
	Image   Kind = "image"
	Service Kind = "service"
	Profile Kind = "profile"
	Cache   Kind = "cache"
	Warn    Kind = "warn"
)

// Decision is the policy's answer.
type Decision struct {
	Allowed bool `json:"allowed"`
	// Rule that grants; empty when none did.
	Rule string `json:"rule,omitempty"`
	// Stages are globs over the names of stages that get a secret; empty
	// means the default.
	Stages []string `json:"stages,omitempty"`
	// Identity are the profiles that the job's tokens must meet.
	Identity []string `json:"identity,omitempty"`
	// Reason is one line. It repeats conditions and the job's own facts.
	Reason string `json:"reason"`
}

// Waiver is where a rule lets a job store files although the guard found a
// secret in them.
type Waiver struct {
	Rule     string   `json:"rule"`
	Paths    []string `json:"paths"` // globs, relative to the project's folder
	Identity []string `json:"-"`     // profiles that the job's tokens must meet
}

// CacheGrant is which caches a rule lets a job keep, and have.
type CacheGrant struct {
	Rule     string
	Keys     []string // globs
	Identity []string // profiles that the job's tokens must meet
}

// Policy decides what a job may have. Package policy has one of rules.
type Policy interface {
	// Decide says whether a job of these facts may have something, by name: a
	// secret's, or an image's as the job writes it, its variables expanded.
	Decide(kind Kind, name string, facts identity.Facts) Decision
	// Waivers are those of the rules that are true of a job. They are decided
	// before the job runs, so that no stage has to compile rules.
	Waivers(facts identity.Facts) []Waiver
	// CacheGrants are decided once, as Waivers are; where no rule is about
	// caches, one of all keys and no rule.
	CacheGrants(facts identity.Facts) []CacheGrant
	// Version changes with the rules, and Rules are these in order.
	Version() string
	Rules() []config.Rule
}

// Form begins what Version is the SHA-256 of, in hex: the rules follow.
const Form = "cleanroom policy 1\n"

// Free is the answer where no rule is about a kind, if that is granted then:
// images, services and caches are.
func Free(kind Kind) (Decision, bool) {
	if kind != Image && kind != Service && kind != Cache {
		return Decision{}, false
	}
	return Decision{Allowed: true, Reason: fmt.Sprintf("no rule is about %ss", kind)}, true
}

// Unlisted refuses what no rule lists; name is as it is to be shown.
func Unlisted(kind Kind, name string) Decision {
	return Decision{Reason: fmt.Sprintf("no rule grants %s %s to any job; ask the runner's admin", kind, name)}
}

// AllCaches are the grants where no rule is about caches.
func AllCaches() []CacheGrant { return []CacheGrant{{Keys: []string{"**"}}} }

// None is a policy without rules.
type None struct{}

var _ Policy = None{}

// Decide grants what is free.
func (None) Decide(kind Kind, name string, _ identity.Facts) Decision {
	if d, ok := Free(kind); ok {
		return d
	}
	return Unlisted(kind, ShortQuote(name))
}

// Waivers has none.
func (None) Waivers(identity.Facts) []Waiver { return nil }

// CacheGrants are of all.
func (None) CacheGrants(identity.Facts) []CacheGrant { return AllCaches() }

// Version of no rules.
func (None) Version() string {
	sum := sha256.Sum256([]byte(Form))
	return hex.EncodeToString(sum[:])
}

// Rules are none.
func (None) Rules() []config.Rule { return []config.Rule{} }
