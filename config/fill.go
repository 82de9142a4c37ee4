package config

import (
	"strings"
	"time"
)

// fill puts defaults where a table of a list leaves a key out: mapstructure knows
// no defaults inside lists.
func (c *Config) fill() {
	for i := range c.Identity.Issuers {
		is := &c.Identity.Issuers[i]
		if len(is.Algorithms) == 0 {
			is.Algorithms = []string{"RS256"} // GitLab's
		}
		orDuration(&is.Skew, 30*time.Second)
		orDuration(&is.KeysMaxAge, time.Hour)
	}
	for i := range c.Providers {
		c.Providers[i].fill()
	}
	for i := range c.Secrets {
		c.Secrets[i].fill()
	}
	for i := range c.Audit.Forward {
		orDuration(&c.Audit.Forward[i].Timeout, 10*time.Second)
	}
}

func (p *Provider) fill() {
	orDuration(&p.Timeout, 10*time.Second)
	switch p.Kind {
	case "vault":
		orText(&p.Vault.Auth, "jwt")
		switch p.Vault.Auth {
		case "jwt", "approle": // mounted by their names, if nobody says otherwise
			orText(&p.Vault.Mount, p.Vault.Auth)
		}
	case "oidc":
		orText(&p.OIDC.Grant, "token_exchange")
	}
}

func (s *Secret) fill() {
	orText(&s.Path, s.Name)
	if len(s.Deliver) == 0 {
		s.Deliver = []Deliver{{}}
	}
	for i := range s.Deliver {
		d := &s.Deliver[i]
		orText(&d.As, "env")
		orText(&d.Variable, s.Name)
		if d.As == "file" {
			orText(&d.File, strings.ToLower(d.Variable))
		}
	}
}

func orText(s *string, unset string) {
	if *s == "" {
		*s = unset
	}
}

func orDuration(d *time.Duration, unset time.Duration) {
	if *d == 0 {
		*d = unset
	}
}
