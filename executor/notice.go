package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"cleanroom/config"
	"cleanroom/executor/audit/queue"
	"cleanroom/executor/audit/record"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/secret/hostkey/durable"
	"cleanroom/sandbox/fault"
)

// seen is the configuration and the rules of the newest records of them, as
// far as hashes go.
type seen struct {
	Sections map[string]string `json:"sections"`
	Policy   string            `json:"policy"`
	Rules    []seenRule        `json:"rules"`
	// Untold are records of what changed, from before this was written until the
	// log, or its queue, has them.
	Untold []queue.Entry `json:"untold,omitempty"`
}

type seenRule struct{ Name, Hash string }

func seenPath(c config.Config) string { return filepath.Join(c.DataDir, "audit", "seen.json") }

// maxSeen bounds the file, in bytes, and noticeTime the wait for another
// process that has it.
const (
	maxSeen    = 1 << 20
	noticeTime = 10 * time.Second
)

// Notice puts a record into the log when the configuration or the rules are
// others than in the last such record. There is no moment at which they change:
// every prepare looks.
func (a *Audit) Notice(ctx context.Context, command string, c config.Config, rules verdict.Policy) error {
	if a == nil {
		return nil
	}
	now, err := seeing(c, rules)
	if err != nil {
		return err
	}
	path := seenPath(c)
	if before, err := readSeen(path); err == nil && reflect.DeepEqual(before, now) {
		return nil // nearly always
	}
	if err := durable.Folder(filepath.Dir(path)); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, noticeTime)
	defer cancel()
	lock, err := durable.Lock(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer lock.Unlock()
	before, err := readSeen(path)
	if err != nil {
		return err
	}
	if before, err = a.tell(path, before); err != nil { // what a process left that was killed
		return err
	}
	if now.Untold, err = a.changes(command, before, now); err != nil {
		return err
	}
	if err := now.write(path); err != nil {
		return err
	}
	if err := fault.At("notice.seen"); err != nil {
		return err
	}
	_, err = a.tell(path, now)
	return err
}

// changes are records of what is not as it was.
func (a *Audit) changes(command string, before, now seen) (all []queue.Entry, err error) {
	add := func(kind record.Kind, fill func(*record.Record)) {
		r := a.head(kind, command)
		fill(r)
		identify(r)
		e, wrong := a.entry(r)
		all, err = append(all, e), errors.Join(err, wrong)
	}
	if change := configChange(before, now); change != nil {
		add(record.OfConfig, func(r *record.Record) { r.Config = change })
	}
	if change := policyChange(before, now); change != nil {
		add(record.OfPolicy, func(r *record.Record) { r.Policy = change })
	}
	return all, err
}

// tell has the log know of what it was not told yet.
func (a *Audit) tell(path string, s seen) (seen, error) {
	if len(s.Untold) == 0 {
		return s, nil
	}
	for _, e := range s.Untold {
		if err := a.keep(e); err != nil {
			return s, err
		}
	}
	if err := fault.At("notice.told"); err != nil {
		return s, err
	}
	s.Untold = nil
	return s, s.write(path)
}

func (s seen) write(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Write(path, text)
}

// readSeen is nothing where there is nothing, or nothing that can be read: then
// all is new.
func readSeen(path string) (s seen, err error) {
	text, err := durable.Read(path, maxSeen)
	if errors.Is(err, fs.ErrNotExist) {
		return seen{}, nil
	}
	if err != nil {
		return seen{}, fmt.Errorf("audit: %w", err)
	}
	if json.Unmarshal(text, &s) != nil {
		return seen{}, nil
	}
	return s, nil
}

// seeing hashes each part of a configuration, but for its rules, and each rule.
func seeing(c config.Config, rules verdict.Policy) (seen, error) {
	s := seen{Sections: map[string]string{}, Policy: rules.Version(), Rules: []seenRule{}}
	v := reflect.ValueOf(withoutPasswords(c))
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("mapstructure")
		hash, err := hashOf(v.Field(i).Interface())
		if err != nil {
			return seen{}, fmt.Errorf("audit: %s: %w", name, err)
		}
		s.Sections[name] = hash
	}
	for _, rule := range rules.Rules() {
		hash, err := hashOf(rule)
		if err != nil {
			return seen{}, fmt.Errorf("audit: rule %s: %w", rule.Name, err)
		}
		s.Rules = append(s.Rules, seenRule{rule.Name, hash})
	}
	return s, nil
}

// withoutPasswords is a configuration without the texts in which one may
// stand: a hash of one that is short can be turned back.
func withoutPasswords(c config.Config) config.Config {
	c.Policy.Rules = nil
	c.Images.AuthConfig = ""
	c.Audit.SignCommand = first(c.Audit.SignCommand)
	for _, proxy := range []*string{&c.Network.HTTPProxy, &c.Network.HTTPSProxy, &c.Engine.Host} {
		*proxy = withoutUser(*proxy)
	}
	c.Providers = slices.Clone(c.Providers)
	for i := range c.Providers {
		p := &c.Providers[i]
		p.Exec.Env, p.Exec.Command, p.Exec.Revoke = nil, first(p.Exec.Command), first(p.Exec.Revoke)
		p.Vault.Address, p.OIDC.Issuer = withoutUser(p.Vault.Address), withoutUser(p.OIDC.Issuer)
		p.OIDC.TokenURL, p.OIDC.RevokeURL = withoutUser(p.OIDC.TokenURL), withoutUser(p.OIDC.RevokeURL)
	}
	c.Secrets = slices.Clone(c.Secrets)
	for i := range c.Secrets {
		s := &c.Secrets[i]
		s.Parameters, s.Deliver = slices.Clone(s.Parameters), slices.Clone(s.Deliver)
		for k := range s.Parameters {
			s.Parameters[k], _, _ = strings.Cut(s.Parameters[k], "=")
		}
		for k := range s.Deliver {
			s.Deliver[k].Value = strings.Join(actions().FindAllString(s.Deliver[k].Value, -1), "")
		}
	}
	c.Identity.Issuers = slices.Clone(c.Identity.Issuers)
	for i := range c.Identity.Issuers {
		c.Identity.Issuers[i].JWKSURL = withoutUser(c.Identity.Issuers[i].JWKSURL)
	}
	return c
}

// actions are what a template says, without what stands around it.
var actions = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{\{[^}]*\}\}`) })

// first is a command without its arguments.
func first(command []string) []string { return command[:min(1, len(command))] }

// withoutUser is a URL without a login; what is no URL is left out whole.
func withoutUser(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

func hashOf(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// whole is one hash of all parts; none where nothing is known.
func (s seen) whole() string {
	if len(s.Sections) == 0 {
		return ""
	}
	hash, _ := hashOf(s.Sections) // a map of texts; JSON sorts its keys
	return hash
}

// configChange is nil where there is none.
func configChange(before, now seen) *record.Config {
	c := &record.Config{Before: before.whole(), After: now.whole()}
	if c.Before == c.After {
		return nil
	}
	all := maps.Clone(now.Sections)
	maps.Copy(all, before.Sections)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if before.Sections[name] != now.Sections[name] {
			c.Sections = append(c.Sections, name)
		}
	}
	return c
}

// policyChange is nil where there is none.
func policyChange(before, now seen) *record.Policy {
	c := &record.Policy{Before: before.Policy, After: now.Policy}
	if c.Before == c.After {
		return nil
	}
	hash := func(rules []seenRule) map[string]string {
		m := map[string]string{}
		for _, r := range rules {
			m[r.Name] = r.Hash
		}
		return m
	}
	was, is := hash(before.Rules), hash(now.Rules)
	for _, r := range now.Rules {
		switch old, ok := was[r.Name]; {
		case !ok:
			c.Added = append(c.Added, r.Name)
		case old != r.Hash:
			c.Changed = append(c.Changed, r.Name)
		}
	}
	for _, r := range before.Rules {
		if _, ok := is[r.Name]; !ok {
			c.Removed = append(c.Removed, r.Name)
		}
	}
	stay := func(rules []seenRule, in map[string]string) (names []string) {
		for _, r := range rules {
			if _, ok := in[r.Name]; ok {
				names = append(names, r.Name)
			}
		}
		return names
	}
	c.Moved = !slices.Equal(stay(before.Rules, is), stay(now.Rules, was))
	return c
}
