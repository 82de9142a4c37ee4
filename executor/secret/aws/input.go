package aws

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"

	"cleanroom/executor/secret"
)

// Bounds of AssumeRoleWithWebIdentity, as its API reference has them.
const (
	minDuration = 15 * time.Minute
	maxDuration = 12 * time.Hour
	// An hour is STS's own default, and the least that a role's
	// MaxSessionDuration can be: more is an error unless the role was changed.
	defaultDuration = time.Hour

	maxPolicies = 10
	maxSession  = 64 // bytes
)

// input makes the request but for the token. Errors wrap secret.ErrRefused.
func input(r secret.Request, now time.Time) (*sts.AssumeRoleWithWebIdentityInput, error) {
	role := r.Secret.Path
	if a, err := arn.Parse(role); err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "role/") {
		return nil, fmt.Errorf("%w: path %q must be the ARN of a role, like arn:aws:iam::123456789012:role/deploy", secret.ErrRefused, role)
	}
	session := sessionName(r.Job)
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: &session}
	want := defaultDuration
	for _, line := range r.Secret.Parameters {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "duration":
			d, err := time.ParseDuration(value)
			if err != nil || d < minDuration || d > maxDuration {
				return nil, fmt.Errorf("%w: parameter duration must be from 15m to 12h, like 2h", secret.ErrRefused)
			}
			want = d
		case "policy":
			if !json.Valid([]byte(value)) || in.Policy != nil {
				return nil, fmt.Errorf("%w: parameter policy must be one policy document, in JSON", secret.ErrRefused)
			}
			in.Policy = &value
		case "policy_arn":
			if _, err := arn.Parse(value); err != nil || len(in.PolicyArns) == maxPolicies {
				return nil, fmt.Errorf("%w: parameter policy_arn must be the ARN of a policy, and given %d times at most", secret.ErrRefused, maxPolicies)
			}
			in.PolicyArns = append(in.PolicyArns, types.PolicyDescriptorType{Arn: &value})
		default:
			return nil, fmt.Errorf("%w: parameter %q is not known: use duration, policy or policy_arn", secret.ErrRefused, key)
		}
	}
	left := r.Until.Sub(now)
	if left <= 0 {
		return nil, fmt.Errorf("%w: the job's time is over", secret.ErrRefused)
	}
	seconds := int32(max(min(want, left), minDuration) / time.Second)
	in.DurationSeconds = &seconds
	return in, nil
}

// sessionName is PROJECT-JOB in the characters that a session's name may have,
// [\w+=,.@-]. Of a long project its end is kept, which tells most.
func sessionName(j secret.Job) string {
	project := []byte(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_+=,.@-", r) {
			return r
		}
		return '-'
	}, j.Project))
	id := "-" + strconv.FormatInt(j.ID, 10)
	return string(project[max(0, len(project)-(maxSession-len(id))):]) + id
}
