// Package aws gets temporary credentials of an AWS role for the job's own ID
// token: AssumeRoleWithWebIdentity of AWS's security token service (STS).
//
// What it promises: nothing of this host's AWS settings is read (no
// environment, no ~/.aws, no instance metadata, no proxy): region and endpoint
// are the configuration's, and the job's token is all that vouches. The
// session is named after project and job, so that CloudTrail tells whose it
// was, and ends with the job or soon after: such credentials cannot be
// revoked, and AWS gives none for less than 15 minutes.
//
// A secret's path is the role's ARN. Its parameters are duration (like 2h; an
// hour if left out, the longest that every role allows), policy (a session
// policy, JSON) and policy_arn (up to ten times). Fields: access_key_id,
// secret_access_key, session_token and region.
package aws

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"cleanroom/config"
	"cleanroom/executor/https"
	"cleanroom/executor/secret"
)

const (
	// defaultTimeout bounds a request where the configuration does not.
	defaultTimeout = 10 * time.Second
	// attempts are how often a request is made, when AWS is busy or not there.
	attempts = 3
	// maxPause is the longest pause between two attempts.
	maxPause = 2 * time.Second
)

var regionRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]{2,}(-[a-z0-9]+)+$`) })

// Provider asks one region's STS.
type Provider struct {
	name     string
	aws      config.AWS
	maxPause time.Duration
	http     sts.HTTPClient
	now      func() time.Time
}

// New makes the provider of a configuration's table. It reads the CA file and
// asks nobody.
func New(p config.Provider) (*Provider, error) {
	fail := func(key, what string) (*Provider, error) {
		return nil, fmt.Errorf("%w: aws.%s: %s", config.ErrConfig, key, what)
	}
	if !regionRE().MatchString(p.AWS.Region) {
		return fail("region", fmt.Sprintf("%q must be a region, like eu-central-1", p.AWS.Region))
	}
	if p.AWS.Endpoint != "" {
		if err := https.CheckURL(p.AWS.Endpoint); err != nil {
			return fail("endpoint", err.Error())
		}
	}
	if p.AWS.Token == "" {
		return fail("token", "set the name of the variable that holds the job's ID token")
	}
	if p.Timeout <= 0 {
		p.Timeout = defaultTimeout
	}
	client, err := newClient(p.AWS.CAFile, p.Timeout)
	if err != nil {
		return fail("ca_file", err.Error())
	}
	return &Provider{name: p.Name, aws: p.AWS, maxPause: maxPause, http: client, now: time.Now}, nil
}

// Fetch assumes the role. There is no lease: what STS gave ends at
// Issued.Expires only.
func (p *Provider) Fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	issued, err := p.fetch(ctx, r)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("provider %s: %w", p.name, err)
	}
	return issued, nil
}

func (p *Provider) fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	in, err := input(r, p.now())
	if err != nil {
		return secret.Issued{}, err
	}
	token, err := r.Token(ctx, p.aws.Token)
	if err != nil {
		return secret.Issued{}, err
	}
	in.WebIdentityToken = &token
	// Each attempt is bounded by the client, the pauses by maxPause.
	asked := p.now()
	out, err := p.client().AssumeRoleWithWebIdentity(ctx, in)
	if err != nil {
		return secret.Issued{}, explain(ctx, err, token)
	}
	c := out.Credentials
	if c == nil || empty(c.AccessKeyId) || empty(c.SecretAccessKey) || empty(c.SessionToken) || c.Expiration == nil {
		return secret.Issued{}, fmt.Errorf("the answer of STS holds no credentials: see whether aws.endpoint is an STS")
	}
	return secret.Issued{
		Fields: map[string]string{
			"access_key_id": *c.AccessKeyId, "secret_access_key": *c.SecretAccessKey, "session_token": *c.SessionToken,
			"region": p.aws.Region,
		},
		Rotated: asked,
		Expires: *c.Expiration,
	}, nil
}

func empty(s *string) bool { return s == nil || strings.TrimSpace(*s) == "" }

// client is made by sts.New and not NewFromConfig, which looks for endpoints
// in the environment.
func (p *Provider) client() *sts.Client {
	o := sts.Options{
		Region:      p.aws.Region,
		Credentials: awssdk.AnonymousCredentials{},
		HTTPClient:  p.http,
		Retryer: retry.NewStandard(func(s *retry.StandardOptions) {
			s.MaxAttempts, s.MaxBackoff = attempts, p.maxPause
			s.Backoff = retry.NewExponentialJitterBackoff(p.maxPause)
		}),
	}
	if p.aws.Endpoint != "" {
		o.BaseEndpoint = &p.aws.Endpoint
	}
	return sts.New(o)
}

// Renew refuses: AWS prolongs no session.
func (p *Provider) Renew(context.Context, secret.Lease, time.Time) (time.Time, error) {
	return time.Time{}, fmt.Errorf("%w: AWS prolongs no session: ask for a longer one with the parameter duration", secret.ErrRefused)
}

// Revoke says ErrNotRevocable.
func (p *Provider) Revoke(context.Context, secret.Lease) error {
	return fmt.Errorf("a session of AWS %w: it ends at its expiry", secret.ErrNotRevocable)
}
