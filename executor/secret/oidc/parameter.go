package oidc

import (
	"fmt"
	"net/url"
	"strings"

	"cleanroom/config"
	"cleanroom/executor/secret"
)

// Names of RFC 8693, sections 2.1 and 3.
const (
	grantExchange = "urn:ietf:params:oauth:grant-type:token-exchange"
	typePrefix    = "urn:ietf:params:oauth:token-type:"
)

// wanted is what a secret asks of the token endpoint.
type wanted struct {
	form url.Values
	auth string // basic, post, or empty
}

// parse reads a secret's path and parameters. Errors wrap secret.ErrRefused:
// the configuration has to change.
func parse(grant string, s config.Secret) (wanted, error) {
	w := wanted{form: url.Values{}}
	exchange := grant == "token_exchange"
	if exchange {
		w.form.Set("grant_type", grantExchange)
		w.form.Set("subject_token_type", typePrefix+"jwt")
	} else {
		w.form.Set("grant_type", "client_credentials")
	}
	if s.Path != "" && s.Path != s.Name {
		w.form.Add("audience", s.Path)
	}
	var scopes []string
	for _, line := range s.Parameters {
		key, value, _ := strings.Cut(line, "=")
		if value == "" {
			return wanted{}, fmt.Errorf("%w: parameter %q has no value: write KEY=VALUE", secret.ErrRefused, key)
		}
		known := true
		switch key {
		case "audience", "resource":
			w.form.Add(key, value)
		case "scope":
			scopes = append(scopes, strings.Fields(value)...)
		case "auth":
			w.auth, known = value, value == "basic" || value == "post"
		case "requested_token_type":
			w.form.Set(key, tokenType(value))
			known = exchange
		case "subject_token_type":
			w.form.Set(key, tokenType(value))
			known = exchange
		default:
			known = false
		}
		if !known {
			return wanted{}, fmt.Errorf("%w: parameter %q is not known with %s: use audience, resource, scope, auth (basic or post) or, with token_exchange, requested_token_type and subject_token_type",
				secret.ErrRefused, key, grant)
		}
	}
	if len(scopes) > 0 {
		w.form.Set("scope", strings.Join(scopes, " "))
	}
	return w, nil
}

// tokenType lets the standard's own types go by their last word.
func tokenType(s string) string {
	if !strings.Contains(s, ":") {
		return typePrefix + s
	}
	return s
}
