// Package identity says what is known of a job, and who vouches for it: the
// fields of the job response that the GitLab server writes, and ID tokens
// (id_tokens: in .gitlab-ci.yml) that it signed for this very job. It also
// says in the first second what production would say of a token in the last.
//
// What it promises: nothing that a job's author can write becomes a fact, not
// a CUSTOM_ENV_ variable and not one of the job response; where two sources
// disagree there is an error and no fact; a token's text is in no error and
// in nothing that can be printed; reading an issuer's keys is bounded in time
// and bytes, and no job can make us do it often.
package identity

import "slices"

// Fact is something that we believe of a job, and who vouches for it.
type Fact struct {
	Value  any    `json:"value"`  // string, bool or int64, as Names says
	Source string `json:"source"` // "job response (job_info.project_id)", "ID token NAME (iss URL)"
}

// Facts are what is known of a job, by name. What is not known is not there:
// an empty string is the knowledge that there is none (a job without an
// environment).
type Facts map[string]Fact

// Kind is the type of a fact's value.
type Kind int

// Kinds.
const (
	String Kind = iota
	Bool
	Int
)

// Names are all facts there may be, and their kinds. They are called as the
// claims of GitLab's ID tokens
// (https://docs.gitlab.com/ci/secrets/id_token_authentication/), but for
// job_name, which has none.
var Names = map[string]Kind{
	"project_id": Int, "project_path": String,
	"namespace_id": Int, "namespace_path": String,
	"ref": String, "ref_type": String, "ref_protected": Bool,
	"environment": String, "environment_protected": Bool, "deployment_tier": String,
	"user_id": Int, "user_login": String,
	"pipeline_id": Int, "pipeline_source": String,
	"job_id": Int, "job_name": String, "sha": String,
}

// Known are the names of the facts there are, sorted.
func (f Facts) Known() []string {
	var names []string
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
