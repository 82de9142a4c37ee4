// Package exec gets secrets from a program of the admin's choice: whatever can
// print JSON can be a provider.
//
// What it promises: the program is run without a shell, with the arguments
// and the environment that the configuration lists and nothing else of this
// host's; no secret is in either; it is killed, with the processes it started,
// when it takes longer than the provider's timeout or prints more than 1 MiB;
// and of what it prints only its standard error reaches an error, as one line
// in which the values that it printed are hidden.
//
// # The program
//
// It finds in its environment PATH, what exec.env lists, and CLEANROOM_SECRET
// (the secret's name), CLEANROOM_JOB_ID, CLEANROOM_PROJECT, CLEANROOM_ROOM and
// CLEANROOM_LEASE, a random label of this one request. On its standard input it
// gets the same and more:
//
//	{"secret": "DB", "path": "db/shop", "parameters": {"role": "app"},
//	 "job": {"id": 4711, "project": "shop/items", "room": "..."},
//	 "until": "2026-11-23T10:00:00Z", "lease": "..."}
//
// Until (RFC 3339) is when what it gives should end. It answers with an object
//
//	{"value": "..."}  or  {"fields": {"username": "...", "password": "..."}}
//
// to which it may add version (a text or number), expires and rotated (RFC
// 3339; Expiration is another name of expires) and revoke_token. The output of
// an AWS credential_process and a kubectl ExecCredential are taken, too.
//
// Exit status 0 is success, 77 (EX_NOPERM of sysexits.h) a no that another try
// would not change, any other a failure.
//
// # Revoking
//
// With exec.revoke set a lease is journalled before the program runs: a kill
// at any instant leaves its label. A revoke_token is journalled as a second
// lease of the same label. So the revoking program may be called twice for one
// label, first with the token and then without; for a label whose request
// failed or never ended; and for one that is revoked already. It runs in the
// same environment, with the lease's label, the revoke_token if there is one,
// secret, path, parameters and job on its standard input. Exit status 0 says
// that nothing of this label is good any more.
package exec

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// defaultTimeout bounds a run where the configuration does not.
const defaultTimeout = 10 * time.Second

// revokeGrace is how long what cannot be kept may take to be revoked, when the
// context of its job is over.
const revokeGrace = 10 * time.Second

var variableRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`) })

// Provider is one program, and perhaps another that revokes.
type Provider struct {
	name    string
	exec    config.Exec
	timeout time.Duration
	now     func() time.Time
}

// New makes the provider of a configuration's table; it runs nothing.
func New(p config.Provider) (*Provider, error) {
	fail := func(key, what string) (*Provider, error) {
		return nil, fmt.Errorf("%w: exec.%s: %s", config.ErrConfig, key, what)
	}
	for key, argv := range map[string][]string{"command": p.Exec.Command, "revoke": p.Exec.Revoke} {
		if len(argv) == 0 {
			if key == "command" {
				return fail(key, "set the program and its arguments")
			}
			continue
		}
		if !path.IsAbs(argv[0]) || path.Clean(argv[0]) != argv[0] {
			return fail(key, fmt.Sprintf("%q must be the absolute, clean path of a program", argv[0]))
		}
		if strings.ContainsRune(strings.Join(argv, ""), 0) {
			return fail(key, "an argument holds a zero byte")
		}
	}
	seen := map[string]bool{}
	for i, line := range p.Exec.Env {
		key, _, ok := strings.Cut(line, "=")
		switch at := fmt.Sprintf("env[%d]", i); {
		case !ok || !variableRE().MatchString(key) || strings.ContainsRune(line, 0):
			return fail(at, "must be written KEY=VALUE") // which may be private
		case strings.HasPrefix(key, "CLEANROOM_"):
			return fail(at, key+" is one of ours: choose another name")
		case seen[key]:
			return fail(at, key+" is set twice")
		}
		seen[key] = true
	}
	if p.Timeout <= 0 {
		p.Timeout = defaultTimeout
	}
	return &Provider{p.Name, p.Exec, p.Timeout, time.Now}, nil
}

// facts are what a program is told on its standard input.
type facts struct {
	Secret      string            `json:"secret"`
	Path        string            `json:"path"`
	Parameters  map[string]string `json:"parameters"`
	Job         job               `json:"job"`
	Until       time.Time         `json:"until,omitzero"`
	Lease       string            `json:"lease"`
	RevokeToken string            `json:"revoke_token,omitempty"`
}

type job struct {
	ID      int64  `json:"id"`
	Project string `json:"project"`
	Room    string `json:"room"`
}

// Fetch runs the program.
func (p *Provider) Fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	issued, err := p.fetch(ctx, r)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("provider %s: %w", p.name, err)
	}
	return issued, nil
}

func (p *Provider) fetch(ctx context.Context, r secret.Request) (secret.Issued, error) {
	f := facts{
		Secret: r.Secret.Name, Path: r.Secret.Path, Parameters: map[string]string{},
		Job:   job{r.Job.ID, r.Job.Project, r.Job.Room},
		Until: r.Until.UTC().Truncate(time.Second), Lease: rand.Text(),
	}
	for _, line := range r.Secret.Parameters {
		key, value, ok := strings.Cut(line, "=")
		if _, twice := f.Parameters[key]; !ok || key == "" || twice {
			return secret.Issued{}, fmt.Errorf("%w: parameter %q must be written KEY=VALUE, and once", secret.ErrRefused, key)
		}
		f.Parameters[key] = value
	}
	if err := p.journal(r, f, time.Time{}); err != nil {
		return secret.Issued{}, err
	}
	out, err := p.run(ctx, p.exec.Command, f, r.Hold)
	if err != nil {
		return secret.Issued{}, err
	}
	a, err := parse(out)
	if err != nil {
		return secret.Issued{}, fmt.Errorf("%s: %w", p.exec.Command[0], err)
	}
	if f.RevokeToken = a.revokeToken; f.RevokeToken != "" {
		if err := p.journal(r, f, a.expires); err != nil {
			return secret.Issued{}, p.giveBack(ctx, f, err)
		}
	}
	if !a.expires.IsZero() && !a.expires.After(p.now()) {
		return secret.Issued{}, fmt.Errorf("%s gave what expired at %s already: see why it gives old values", p.exec.Command[0], a.expires.Format(time.RFC3339))
	}
	return secret.Issued{Fields: a.fields, Version: a.version, Rotated: a.rotated, Expires: a.expires, Revocable: len(p.exec.Revoke) > 0}, nil
}

// journal writes down what the revoking program will be told. Without one
// there is nothing that could be done.
func (p *Provider) journal(r secret.Request, f facts, expires time.Time) error {
	if len(p.exec.Revoke) == 0 {
		return nil
	}
	f.Until = time.Time{}
	credential, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return r.Journal(secret.Lease{ID: f.Lease, Credential: credential, Expires: expires})
}

// giveBack revokes at once what could not be written down.
func (p *Provider) giveBack(ctx context.Context, f facts, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeGrace)
	defer cancel()
	f.Until = time.Time{}
	if _, err := p.run(ctx, p.exec.Revoke, f, nil); err != nil {
		return fmt.Errorf("%w, and it could not be revoked: %w", why, err)
	}
	return why
}

// Renew refuses: the convention has no such thing.
func (p *Provider) Renew(context.Context, secret.Lease, time.Time) (time.Time, error) {
	return time.Time{}, fmt.Errorf("%w: what a program gave cannot be renewed: let it give what lasts until the job's time is over", secret.ErrRefused)
}

// Revoke runs the revoking program.
func (p *Provider) Revoke(ctx context.Context, l secret.Lease) error {
	if len(p.exec.Revoke) == 0 {
		return fmt.Errorf("what its program gave %w: set exec.revoke", secret.ErrNotRevocable)
	}
	var f facts
	if err := json.Unmarshal(l.Credential, &f); err != nil || f.Lease != l.ID {
		return fmt.Errorf("the lease %s does not hold what revoking needs: revoke it at its source", l.ID)
	}
	_, err := p.run(ctx, p.exec.Revoke, f, nil)
	return err
}
