package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"cleanroom/cmd/internal/stages"
	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity"
	"cleanroom/executor/plain"
)

// factSource is where `policy explain` takes facts from.
type factSource struct {
	job, token string // paths, - is standard input
	unverified bool
}

// read gives the facts, and the job where they are of one.
func (s factSource) read(c *cobra.Command, cfg config.Config) (identity.Facts, *contract.Job, error) {
	// No folder: keys that were read here are not left for jobs.
	v, err := identity.NewVerifier(cfg.Identity, "")
	if err != nil {
		return nil, nil, err
	}
	if s.token != "" {
		facts, err := s.ofToken(c, cfg, v)
		return facts, nil, err
	}
	text, err := readBounded(s.job, c.InOrStdin(), contract.MaxResponse)
	if err != nil {
		return nil, nil, err
	}
	job, err := contract.ParseJob(text)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.job, err)
	}
	if s.unverified {
		facts, err := claimedFacts(c.ErrOrStderr(), cfg, job)
		return facts, job, err
	}
	who, err := identity.Establish(c.Context(), job, v)
	if err != nil && !errors.Is(err, identity.ErrExpired) && !errors.Is(err, identity.ErrIssuer) {
		return nil, nil, stages.Exit{Code: 1, Err: err} // prepare refuses such a job
	}
	if err != nil { // a recorded job's tokens have expired
		fmt.Fprintf(c.ErrOrStderr(), "warning: the job's ID tokens give no facts: %v (--unverified believes them)\n", err)
		return identity.FromJob(job), job, nil
	}
	return who.Facts, job, nil
}

func (s factSource) ofToken(c *cobra.Command, cfg config.Config, v *identity.Verifier) (identity.Facts, error) {
	text, err := readBounded(s.token, c.InOrStdin(), identity.MaxToken)
	if err != nil {
		return nil, err
	}
	name, raw := filepath.Base(s.token), strings.TrimSpace(string(text))
	if s.unverified {
		claims, ok := claimsOf(raw)
		if !ok {
			return nil, fmt.Errorf("%s is no ID token: it is not shaped like a JWT", s.token)
		}
		warnUnverified(c.ErrOrStderr())
		return claims.facts(name)
	}
	return verifiedFacts(c.Context(), cfg, v, name, raw)
}

// verifiedFacts are those of a token that would give facts in a job, too.
func verifiedFacts(ctx context.Context, cfg config.Config, v *identity.Verifier, name, raw string) (identity.Facts, error) {
	t, err := v.Verify(ctx, name, raw)
	if err != nil {
		return nil, fmt.Errorf("%w (--unverified explains it all the same)", err)
	}
	for _, issuer := range cfg.Identity.Issuers {
		if issuer.URL == t.Issuer && (issuer.Audience == "" || !slices.Contains(t.Audience, issuer.Audience)) {
			return nil, fmt.Errorf("token %s: audience is %q, facts come from tokens for %q (identity.issuer's audience) only", name, t.Audience, issuer.Audience)
		}
	}
	return t.Facts()
}

func warnUnverified(w io.Writer) {
	fmt.Fprintln(w, "WARNING: tokens are NOT VERIFIED (--unverified): anybody can write one that says this")
}

// claimedFacts are the job's, with those of its tokens that are meant for us,
// as they say of themselves.
func claimedFacts(warnings io.Writer, cfg config.Config, job *contract.Job) (identity.Facts, error) {
	warnUnverified(warnings)
	facts := identity.FromJob(job)
	for _, variable := range job.Variables {
		claims, ok := claimsOf(variable.Value)
		if !ok || variable.Value == job.Token || !claims.meant(cfg.Identity.Issuers) {
			continue
		}
		more, err := claims.facts(variable.Key)
		if err != nil {
			return nil, err
		}
		for _, name := range more.Known() {
			known, ok := facts[name]
			if ok && known.Value != more[name].Value && name != "ref" { // a merge request's differ there
				return nil, fmt.Errorf("token %s: claim %s is not what the %s says: the job would be refused", plain.Word(variable.Key), name, known.Source)
			}
			if !ok {
				facts[name] = more[name]
			}
		}
	}
	return facts, nil
}

// claims of a token that nobody verified.
type claims map[string]any

// claimsOf reads the payload of what is shaped like a JWT (RFC 7515, compact).
func claimsOf(raw string) (claims, bool) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 || len(raw) > identity.MaxToken {
		return nil, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, false
	}
	var c claims
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	return c, d.Decode(&c) == nil && c != nil
}

// meant says whether a token would give facts, were it verified.
func (c claims) meant(issuers []config.Issuer) bool {
	audience, list := c["aud"].([]any)
	if !list {
		audience = []any{c["aud"]}
	}
	return slices.ContainsFunc(issuers, func(i config.Issuer) bool {
		return i.Audience != "" && c["iss"] == i.URL && slices.Contains(audience, any(i.Audience))
	})
}

// facts are read as those of a verified token: ids and truth values may be
// text, and where there is no environment GitLab leaves its claims out.
func (c claims) facts(variable string) (identity.Facts, error) {
	source := "ID token " + plain.Word(variable) + ", NOT VERIFIED"
	facts := identity.Facts{
		"environment": {Value: "", Source: source}, "deployment_tier": {Value: "", Source: source},
		"environment_protected": {Value: false, Source: source},
	}
	for name, kind := range identity.Names {
		if name == "job_name" || c[name] == nil || c[name] == "" {
			continue
		}
		text, value, err := fmt.Sprint(c[name]), any(nil), error(nil)
		switch kind {
		case identity.String:
			value = text
		case identity.Bool:
			value, err = strconv.ParseBool(text)
		case identity.Int:
			value, err = strconv.ParseInt(text, 10, 64)
		}
		if err != nil {
			return nil, fmt.Errorf("token %s: claim %s cannot be read: it is not what GitLab writes there", plain.Word(variable), name)
		}
		facts[name] = identity.Fact{Value: value, Source: source}
	}
	return facts, nil
}

// readBounded reads a file, or standard input for -.
func readBounded(path string, stdin io.Reader, most int64) ([]byte, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		stdin = f
	}
	text, err := io.ReadAll(io.LimitReader(stdin, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(text)) > most:
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, errors.New(path + " is empty")
	}
	return text, nil
}
