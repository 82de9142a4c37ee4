package aws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

const (
	idToken = "eyJhbGciOiJSUzI1NiJ9.canary-id-token.c2ln"
	role    = "arn:aws:iam::123456789012:role/team/deploy"
)

// good is an answer as the API reference of STS has it.
func good(expires time.Time) string {
	return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <SubjectFromWebIdentityToken>project_path:shop/items</SubjectFromWebIdentityToken>
    <Audience>https://aws.example.com</Audience>
    <AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/deploy/shop-items-4711</Arn><AssumedRoleId>AROACLKWSDQRAOEXAMPLE:shop-items-4711</AssumedRoleId></AssumedRoleUser>
    <Credentials>
      <SessionToken>canary-session-token</SessionToken>
      <SecretAccessKey>canary-secret-access-key</SecretAccessKey>
      <Expiration>` + expires.UTC().Format(time.RFC3339) + `</Expiration>
      <AccessKeyId>ASgeIAIOSFODNN7EXAMPLE</AccessKeyId>
    </Credentials>
    <Provider>https://gitlab.example.com</Provider>
  </AssumeRoleWithWebIdentityResult>
  <ResponseMetadata><RequestId>ad4156e9-bce1-11e2-82e6-6b6efEXAMPLE</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>`
}

func bad(code, message string) string {
	return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code +
		`</Code><Message>` + message + `</Message></Error><RequestId>ad4156e9</RequestId></ErrorResponse>`
}

// standIn is an STS that answers what a test tells it to, in turn (the last
// one again and again), and keeps what it was asked.
type standIn struct {
	*httptest.Server
	asked []*http.Request
}

type reply struct {
	status int
	body   string
}

func serve(t *testing.T, replies ...reply) *standIn {
	t.Helper()
	s := &standIn{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		s.asked = append(s.asked, r) // requests come one after the other
		now := replies[min(len(s.asked), len(replies))-1]
		w.Header().Set("Content-Type", "text/xml")
		if now.status >= 300 && now.status < 400 {
			w.Header().Set("Location", "https://elsewhere.invalid/")
		}
		w.WriteHeader(now.status)
		fmt.Fprint(w, now.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func open(t *testing.T, endpoint string) *Provider {
	t.Helper()
	p, err := New(config.Provider{Name: "cloud", Timeout: time.Minute, AWS: config.AWS{Region: "eu-central-1", Endpoint: endpoint, Token: "AWS_ID_TOKEN"}})
	if err != nil {
		t.Fatal(err)
	}
	p.maxPause = time.Millisecond
	return p
}

func request(t *testing.T, until time.Duration, parameters ...string) secret.Request {
	return secret.Request{
		Secret: config.Secret{Name: "AWS", Path: role, Parameters: parameters},
		Job:    secret.Job{ID: 4711, Project: "shop/items", Room: "r"},
		Until:  time.Now().Add(until),
		Token: func(_ context.Context, variable string) (string, error) {
			if variable != "AWS_ID_TOKEN" {
				t.Errorf("asked for %s", variable)
			}
			return idToken, nil
		},
		Journal: func(l secret.Lease) error { t.Errorf("a lease: %+v", l); return nil },
	}
}

func TestNew(t *testing.T) {
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(noPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		aws  config.AWS
		want string
	}{
		{config.AWS{Region: "eu-central-1", Token: "T"}, ""},
		{config.AWS{Region: "us-gov-west-1", Token: "T", Endpoint: "https://vpce-1.sts.us-gov-west-1.vpce.amazonaws.com"}, ""},
		{config.AWS{Token: "T"}, "aws.region"},
		{config.AWS{Region: "eu-central-1.evil.com/", Token: "T"}, "aws.region"},
		{config.AWS{Region: "eu-central-1"}, "aws.token"},
		{config.AWS{Region: "eu-central-1", Token: "T", Endpoint: "http://sts.example.com"}, "must be an https URL"},
		{config.AWS{Region: "eu-central-1", Token: "T", Endpoint: "sts.example.com"}, "must be a URL"},
		{config.AWS{Region: "eu-central-1", Token: "T", CAFile: "/nowhere/ca.pem"}, "aws.ca_file"},
		{config.AWS{Region: "eu-central-1", Token: "T", CAFile: noPEM}, "no PEM certificate"},
	} {
		p, err := New(config.Provider{Name: "cloud", AWS: test.aws})
		if (err == nil) != (test.want == "") || (p == nil) != (err != nil) || err != nil && (!errors.Is(err, config.ErrConfig) || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v", test.aws, err)
		}
	}
}

// The request, to the letter, and what comes of the answer. The settings of
// this host's AWS tools, all of which lead elsewhere, change nothing.
func TestFetch(t *testing.T) {
	elsewhere := serve(t, reply{500, ""})
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": elsewhere.URL, "AWS_ENDPOINT_URL_STS": elsewhere.URL, "AWS_REGION": "us-west-2", "AWS_DEFAULT_REGION": "us-west-2",
		"AWS_ACCESS_KEY_ID": "AKIAHOST", "AWS_SECRET_ACCESS_KEY": "host", "AWS_SESSION_TOKEN": "host", "AWS_PROFILE": "host",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT": elsewhere.URL, "AWS_CONTAINER_CREDENTIALS_FULL_URI": elsewhere.URL,
		"AWS_CONFIG_FILE": "/nowhere", "AWS_CA_BUNDLE": "/nowhere",
	} {
		t.Setenv(name, value)
	}
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	s := serve(t, reply{200, good(expires)})
	before := time.Now()
	var p secret.Provider = open(t, s.URL)
	got, err := p.Fetch(t.Context(), request(t, 3*time.Hour, "duration=2h", `policy={"Version": "2012-10-17"}`, "policy_arn=arn:aws:iam::aws:policy/ReadOnlyAccess", "policy_arn=arn:aws:iam::123456789012:policy/own"))
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got.Fields, map[string]string{
		"access_key_id": "ASgeIAIOSFODNN7EXAMPLE", "secret_access_key": "canary-secret-access-key", "session_token": "canary-session-token", "region": "eu-central-1",
	}) || !got.Expires.Equal(expires) || got.Rotated.Before(before) || got.Version != "" {
		t.Errorf("%+v", got)
	}
	want := url.Values{
		"Action": {"AssumeRoleWithWebIdentity"}, "Version": {"2011-06-15"}, "RoleArn": {role}, "RoleSessionName": {"shop-items-4711"},
		"WebIdentityToken": {idToken}, "DurationSeconds": {"7200"}, "Policy": {`{"Version": "2012-10-17"}`},
		"PolicyArns.member.1.arn": {"arn:aws:iam::aws:policy/ReadOnlyAccess"}, "PolicyArns.member.2.arn": {"arn:aws:iam::123456789012:policy/own"},
	}
	r := s.asked[0]
	if r.Method != http.MethodPost || r.URL.RawQuery != "" || r.PostForm.Encode() != want.Encode() {
		t.Errorf("%s ?%s\n%s, want\n%s", r.Method, r.URL.RawQuery, r.PostForm.Encode(), want.Encode())
	}
	if r.Header.Get("Authorization") != "" || r.Header.Get("X-Amz-Security-Token") != "" {
		t.Errorf("signed: %v", r.Header)
	}
	if len(s.asked) != 1 || len(elsewhere.asked) != 0 {
		t.Errorf("%d requests, %d elsewhere", len(s.asked), len(elsewhere.asked))
	}
}

func TestDuration(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		left       time.Duration
		parameters []string
		want       int32 // seconds
	}{
		{3 * time.Hour, nil, 3600},
		{30 * time.Minute, nil, 1800},
		{30 * time.Minute, []string{"duration=2h"}, 1800},
		{3 * time.Hour, []string{"duration=2h"}, 7200},
		{24 * time.Hour, []string{"duration=12h"}, 43200},
		{time.Minute, nil, 900}, // AWS gives none for less
		{time.Minute, []string{"duration=15m"}, 900},
		{3 * time.Hour, []string{"duration=20m"}, 1200},
	} {
		r := request(t, 0, test.parameters...)
		r.Until = now.Add(test.left)
		in, err := input(r, now)
		if err != nil || *in.DurationSeconds != test.want {
			t.Errorf("%s %v: %+v %v", test.left, test.parameters, in, err)
		}
	}
}

func TestInputRefused(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		path, parameter string
		left            time.Duration
		want            string
	}{
		{"deploy", "", time.Hour, "must be the ARN of a role"},
		{"arn:aws:s3:::bucket", "", time.Hour, "must be the ARN of a role"},
		{"arn:aws:iam::123456789012:user/x", "", time.Hour, "must be the ARN of a role"},
		{role, "duration=5m", time.Hour, "from 15m to 12h"},
		{role, "duration=13h", time.Hour, "from 15m to 12h"},
		{role, "duration=3600", time.Hour, "from 15m to 12h"},
		{role, "policy={", time.Hour, "in JSON"},
		{role, "policy_arn=ReadOnlyAccess", time.Hour, "the ARN of a policy"},
		{role, "external_id=x", time.Hour, `parameter "external_id" is not known`},
		{role, "duration=1h", -time.Second, "time is over"},
	} {
		r := request(t, 0, test.parameter)
		r.Secret.Path, r.Until = test.path, now.Add(test.left)
		if test.parameter == "" {
			r.Secret.Parameters = nil
		}
		if in, err := input(r, now); in != nil || !errors.Is(err, secret.ErrRefused) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v", test.path, test.parameter, err)
		}
	}
	r := request(t, time.Hour)
	for range maxPolicies + 1 {
		r.Secret.Parameters = append(r.Secret.Parameters, "policy_arn=arn:aws:iam::aws:policy/x")
	}
	if _, err := input(r, now); !errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
	r.Secret.Parameters = []string{"policy={}", "policy={}"}
	if _, err := input(r, now); !errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
}

func TestSessionName(t *testing.T) {
	allowed := regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	for _, test := range []struct {
		job  secret.Job
		want string
	}{
		{secret.Job{ID: 4711, Project: "shop/items"}, "shop-items-4711"},
		{secret.Job{ID: 4711, Project: "42"}, "42-4711"},
		{secret.Job{ID: 1, Project: "a b/ü:c\n"}, "a-b---c--1"},
		{secret.Job{ID: 7}, "-7"},
		{secret.Job{ID: 9223372036854775807, Project: strings.Repeat("group/", 20) + "app"}, "roup-group-group-group-group-group-group-app-9223372036854775807"},
	} {
		got := sessionName(test.job)
		if got != test.want || !allowed.MatchString(got) {
			t.Errorf("%+v: %q (%d), want %q", test.job, got, len(got), test.want)
		}
	}
}

// Whatever STS answers: one line with AWS's own reason, and no credential.
func TestErrors(t *testing.T) {
	now := time.Now()
	const none = `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
	for _, test := range []struct {
		name     string
		reply    reply
		want     string
		refused  bool
		requests int
	}{
		{"denied", reply{403, bad("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")}, "STS says AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity", true, 1},
		{"token", reply{400, bad("InvalidIdentityToken", "Incorrect token audience")}, "InvalidIdentityToken: Incorrect token audience", true, 1},
		{"expired", reply{400, bad("ExpiredTokenException", "Token expired: current date/time 1 must be before 0")}, "ExpiredTokenException: Token expired", true, 1},
		{"claim", reply{403, bad("IDPRejectedClaim", "no")}, "IDPRejectedClaim: no", true, 1},
		{"policy", reply{400, bad("PackedPolicyTooLarge", "too large")}, "PackedPolicyTooLarge", true, 1},
		{"validation", reply{400, bad("ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")}, "exceeds the MaxSessionDuration", true, 1},
		{"echo", reply{400, bad("InvalidIdentityToken", "bad token "+idToken)}, "bad token [hidden]", true, 1},
		{"echo of its half", reply{400, bad("InvalidIdentityToken", "bad token "+idToken[:30]+"...")}, "bad token [hidden]...", true, 1},
		{"lines", reply{400, bad("InvalidIdentityToken", "one\n two&#x202e;\tthree")}, "one two three", true, 1},
		{"long", reply{400, bad("InvalidIdentityToken", strings.Repeat("x", 5000))}, "xxx", true, 1},
		{"issuer not reached", reply{400, bad("IDPCommunicationError", "try again")}, "IDPCommunicationError", false, attempts},
		{"throttled", reply{400, bad("Throttling", "Rate exceeded")}, "Throttling: Rate exceeded", false, attempts},
		{"broken", reply{503, "<html>canary-page"}, "STS", false, attempts},
		{"no code", reply{502, ""}, "STS answers 502 Bad Gateway", false, attempts},
		{"not an STS", reply{404, ""}, "STS answers 404", false, 1},
		{"redirect", reply{307, ""}, "STS redirects (307)", true, 1},
		{"empty", reply{200, ""}, "holds no credentials", false, 1},
		{"no XML", reply{200, `{"SecretAccessKey": "canary"}`}, "aws.endpoint", false, 1},
		{"no credentials", reply{200, none}, "holds no credentials", false, 1},
		{"bad time", reply{200, strings.Replace(good(now), "<Expiration>", "<Expiration>canary", 1)}, "cannot be read", false, 1},
		{"no key", reply{200, strings.Replace(good(now), "canary-secret-access-key", " ", 1)}, "holds no credentials", false, 1},
		{"much", reply{200, strings.Repeat(" ", maxBody) + good(now)}, "more than 1048576 bytes", false, 1},
		{"much of an error", reply{400, strings.Repeat(" ", maxBody) + bad("AccessDenied", "x")}, "more than 1048576 bytes", false, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := serve(t, test.reply)
			got, err := open(t, s.URL).Fetch(t.Context(), request(t, time.Hour))
			if err == nil || got.Fields != nil {
				t.Fatalf("%+v %v", got, err)
			}
			text := err.Error()
			if !strings.Contains(text, test.want) || errors.Is(err, secret.ErrRefused) != test.refused || len(s.asked) != test.requests {
				t.Errorf("%d requests: %v, want %q", len(s.asked), text, test.want)
			}
			if strings.Contains(text, "canary") || strings.ContainsAny(text, "\n\t") || len(text) > 600 {
				t.Errorf("%d bytes: %q", len(text), text)
			}
		})
	}
}

// Who is busy once is asked again.
func TestRetry(t *testing.T) {
	s := serve(t, reply{503, bad("ServiceUnavailable", "x")}, reply{200, good(time.Now().Add(time.Hour))})
	if _, err := open(t, s.URL).Fetch(t.Context(), request(t, time.Hour)); err != nil || len(s.asked) != 2 {
		t.Errorf("%d requests: %v", len(s.asked), err)
	}
}

func TestNoAnswer(t *testing.T) {
	over := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	defer slow.Close()
	defer close(over)
	p := open(t, slow.URL)
	p.http.(*http.Client).Timeout = 20 * time.Millisecond
	if _, err := p.Fetch(t.Context(), request(t, time.Hour)); err == nil || !strings.Contains(err.Error(), "no answer of STS in time") || errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := open(t, slow.URL).Fetch(ctx, request(t, time.Hour)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	gone := httptest.NewServer(nil)
	gone.Close()
	if _, err := open(t, gone.URL).Fetch(t.Context(), request(t, time.Hour)); err == nil || !strings.Contains(err.Error(), "STS does not answer") || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
}

func TestNoToken(t *testing.T) {
	s := serve(t, reply{500, ""})
	r := request(t, time.Hour)
	missing := fmt.Errorf("%w: the job has no AWS_ID_TOKEN", secret.ErrRefused)
	r.Token = func(context.Context, string) (string, error) { return "", missing }
	if _, err := open(t, s.URL).Fetch(t.Context(), r); !errors.Is(err, missing) || len(s.asked) != 0 {
		t.Error(err)
	}
}

func TestNoLease(t *testing.T) {
	p := open(t, "")
	if err := p.Revoke(t.Context(), secret.Lease{}); !errors.Is(err, secret.ErrNotRevocable) {
		t.Error(err)
	}
	if _, err := p.Renew(t.Context(), secret.Lease{}, time.Time{}); !errors.Is(err, secret.ErrRefused) {
		t.Error(err)
	}
}
