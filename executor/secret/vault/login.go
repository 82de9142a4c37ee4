package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"cleanroom/executor/secret"
	"cleanroom/executor/secret/file"
)

// login is the job's token.
type login struct {
	token   string
	expires time.Time // zero: never
}

// session logs in for a job, the first time, and journals the token.
func (v *Vault) session(ctx context.Context, r secret.Request) (login, error) {
	if v.login != nil {
		return *v.login, nil
	}
	asked := time.Now() // durations count from later: what we believe ends first
	answer, err := v.authenticate(ctx, r)
	if err != nil {
		return login{}, err
	}
	a := answer.Auth
	// A token that fails here is not used and not journalled: it dies unseen
	// when its time is over.
	switch {
	case a == nil || a.ClientToken == "" && a.MFARequirement == nil:
		return login{}, errors.New("the login gave no token: see whether vault.mount is an auth method")
	case a.MFARequirement != nil:
		return login{}, fmt.Errorf("%w: the login asks for a second factor, which no job has: exempt %s from it", secret.ErrRefused, v.who())
	case a.Accessor == "":
		return login{}, fmt.Errorf("%w: %s gets batch tokens, which cannot be revoked: set token_type=service there", secret.ErrRefused, v.who())
	case !slices.Contains(a.Policies, "default") && !slices.Contains(a.Policies, "root"):
		return login{}, fmt.Errorf("%w: %s gets tokens without Vault's default policy, which cannot be seen to be gone: leave token_no_default_policy unset", secret.ErrRefused, v.who())
	}
	l := secret.Lease{
		ID: a.Accessor, Credential: []byte(a.ClientToken),
		Expires: ends(asked, a.LeaseDuration), Renewable: a.Renewable,
	}
	if l, err = v.keep(ctx, r, l, time.Time{}); err != nil {
		return login{}, err
	}
	v.login = &login{a.ClientToken, l.Expires}
	return *v.login, nil
}

// who is how Vault's admin knows us.
func (v *Vault) who() string {
	switch v.config.Auth {
	case "jwt":
		return fmt.Sprintf("role %q", v.config.Role)
	case "approle":
		return "the AppRole of vault.role_id"
	}
	return "the token of vault.token_file"
}

func (v *Vault) authenticate(ctx context.Context, r secret.Request) (*api.Secret, error) {
	mount := func(usual string) string {
		if v.config.Mount != "" {
			return v.config.Mount
		}
		return usual
	}
	switch v.config.Auth {
	case "jwt":
		token, err := r.Token(ctx, v.config.Token)
		if err != nil {
			return nil, err
		}
		answer, err := v.call(ctx, "", "auth/"+mount("jwt")+"/login", map[string]any{"role": v.config.Role, "jwt": token}, token)
		if err != nil {
			return nil, fmt.Errorf("login with ID token %s: %w", v.config.Token,
				refused(err, fmt.Sprintf("compare the token's audience and claims with %s, or ask who runs Vault", v.who())))
		}
		return answer, nil
	case "approle":
		id, err := file.ReadPrivate(v.config.SecretIDFile)
		if err != nil {
			return nil, fmt.Errorf("vault.secret_id_file: %w", err)
		}
		answer, err := v.call(ctx, "", "auth/"+mount("approle")+"/login", map[string]any{"role_id": v.config.RoleID, "secret_id": id}, id)
		if err != nil {
			return nil, fmt.Errorf("login by AppRole: %w", refused(err, "check vault.role_id, and write a valid secret id to vault.secret_id_file"))
		}
		return answer, nil
	}
	admin, err := file.ReadPrivate(v.config.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("vault.token_file: %w", err)
	}
	child := map[string]any{
		"display_name": "cleanroom-job-" + strconv.FormatInt(r.Job.ID, 10),
		"meta":         map[string]string{"job": strconv.FormatInt(r.Job.ID, 10), "project": r.Job.Project, "room": r.Job.Room},
		"type":         "service",
	}
	if seconds := secondsUntil(r.Until); !r.Until.IsZero() {
		child["ttl"], child["explicit_max_ttl"] = seconds, seconds
	}
	answer, err := v.call(ctx, admin, "auth/"+mount("token")+"/create", child)
	if err != nil {
		return nil, fmt.Errorf("child of the token in vault.token_file: %w",
			refused(err, "write a valid token there, whose policy has update on auth/token/create"))
	}
	return answer, nil
}
