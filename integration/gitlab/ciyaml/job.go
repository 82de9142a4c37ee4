package ciyaml

import (
	"cmp"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

// job reads one job. A job that its rules exclude has When "never".
func (f *file) job(name string) (p job.Planned, optional []string, err error) {
	m, err := f.extended(name, nil)
	if err != nil {
		return p, nil, err
	}
	if err := known(m, jobKeys); err != nil {
		return p, nil, err
	}
	for k, v := range f.defaults {
		if _, has := m[k]; !has {
			m[k] = v
		}
	}
	s := &p.Spec
	s.Name, s.Stage = name, "test"
	if st, ok := m["stage"].(string); ok {
		s.Stage = st
	}
	if p.Stage = slices.Index(f.stages, s.Stage); p.Stage < 0 {
		return p, nil, fmt.Errorf("stage %q is not one of %s", s.Stage, strings.Join(f.stages, ", "))
	}
	if s.Variables, err = f.variablesOf(m); err != nil {
		return p, nil, err
	}
	p.When = cmp.Or(text(m["when"]), "on_success")
	steps := []struct {
		key string
		err func(v any) error
	}{
		{"image", func(v any) error { s.Image, err = image(v, "image"); return err }},
		{"services", func(v any) error { s.Services, err = services(v); return err }},
		{"before_script", func(v any) error { s.BeforeScript, err = texts(v); return err }},
		{"script", func(v any) error { s.Script, err = texts(v); return err }},
		{"after_script", func(v any) error { s.AfterScript, err = texts(v); return err }},
		{"artifacts", func(v any) error { s.Artifacts, err = artifacts(v); return err }},
		{"cache", func(v any) error { s.Cache, err = f.caches(v); return err }},
		{"timeout", func(v any) error { s.Timeout, err = duration(text(v)); return err }},
		{"hooks", func(v any) error { s.Hooks, err = hooks(v); return err }},
		{"id_tokens", func(v any) error { s.IDTokens, err = idTokens(v); return err }},
		{"allow_failure", func(v any) error { s.AllowFailure, err = allowFailure(v); return err }},
		{"needs", func(v any) error { optional, err = needs(&p, v); return err }},
		{"dependencies", func(v any) error { p.AllBefore = false; p.From, err = texts(v); return err }},
		{"rules", func(v any) error { return f.rules(&p, v) }},
	}
	p.AllBefore = true
	for _, step := range steps {
		v, has := m[step.key]
		if !has || v == nil {
			continue
		}
		if err := step.err(v); err != nil {
			return p, nil, fmt.Errorf("%s: %w", step.key, err)
		}
	}
	if len(s.Script) == 0 {
		return p, nil, fmt.Errorf("script is missing")
	}
	if !slices.Contains([]string{"on_success", "on_failure", "always", "never"}, p.When) {
		return p, nil, fmt.Errorf("when: %q is not supported by the stand-in", p.When)
	}
	return p, optional, nil
}

func (f *file) variablesOf(m mapping) ([]wire.Variable, error) {
	global, err := variables(mappingOrNil(f.variables))
	if err != nil {
		return nil, err
	}
	own, err := variables(m["variables"])
	return overlay(global, own), err
}

// mappingOrNil keeps a nil mapping from becoming a value that is not nil.
func mappingOrNil(m mapping) any {
	if m == nil {
		return nil
	}
	return m
}

func text(v any) string {
	s, _ := scalar(v)
	return s
}

func image(v any, kind string) (*wire.Image, error) {
	if s, ok := v.(string); ok {
		return &wire.Image{Name: s, Ports: []wire.Port{}}, nil
	}
	m, ok := v.(mapping)
	if !ok {
		return nil, fmt.Errorf("must be a name or a mapping")
	}
	keys := []string{"name", "entrypoint", "pull_policy", "docker"}
	if kind == "services" {
		keys = append(keys, "alias", "command", "variables")
	}
	if err := known(m, keys); err != nil {
		return nil, err
	}
	img := &wire.Image{Name: text(m["name"]), Alias: text(m["alias"]), Ports: []wire.Port{}}
	if img.Name == "" {
		return nil, fmt.Errorf("name is missing")
	}
	var err error
	if img.Entrypoint, err = texts(m["entrypoint"]); err != nil {
		return nil, fmt.Errorf("entrypoint: %w", err)
	}
	if img.Command, err = texts(m["command"]); err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	if img.PullPolicy, err = texts(m["pull_policy"]); err != nil {
		return nil, fmt.Errorf("pull_policy: %w", err)
	}
	if img.Variables, err = variables(m["variables"]); err != nil {
		return nil, err
	}
	if docker, ok := m["docker"].(mapping); ok {
		if err := known(docker, []string{"user", "platform"}); err != nil {
			return nil, fmt.Errorf("docker: %w", err)
		}
		img.ExecutorOpts.Docker = &wire.DockerOpts{User: text(docker["user"]), Platform: text(docker["platform"])}
	}
	return img, nil
}

func services(v any) (list []wire.Image, err error) {
	all, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("must be a list")
	}
	for _, e := range all {
		img, err := image(e, "services")
		if err != nil {
			return nil, err
		}
		list = append(list, *img)
	}
	return list, nil
}

// artifacts makes one archive and one artifact for each report, as GitLab does.
func artifacts(v any) (list []wire.Artifact, err error) {
	m, ok := v.(mapping)
	if !ok {
		return nil, fmt.Errorf("must be a mapping")
	}
	if err := known(m, strings.Fields("paths exclude untracked name when expire_in reports")); err != nil {
		return nil, err
	}
	a := wire.Artifact{Name: text(m["name"]), Untracked: m["untracked"] == true, Type: "archive", Format: "zip",
		When: cmp.Or(text(m["when"]), "on_success"), ExpireIn: text(m["expire_in"])}
	if a.Paths, err = texts(m["paths"]); err != nil {
		return nil, fmt.Errorf("paths: %w", err)
	}
	if a.Exclude, err = texts(m["exclude"]); err != nil {
		return nil, fmt.Errorf("exclude: %w", err)
	}
	if len(a.Paths) > 0 || a.Untracked {
		list = append(list, a)
	}
	reports, _ := m["reports"].(mapping)
	if err := known(reports, []string{"junit", "dotenv"}); err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	for _, kind := range slices.Sorted(maps.Keys(reports)) {
		format, name, _ := wire.ReportFormat(kind)
		r := wire.Artifact{Name: name, Type: kind, Format: format, When: "always", ExpireIn: a.ExpireIn}
		if r.Paths, err = texts(reports[kind]); err != nil {
			return nil, fmt.Errorf("reports: %s: %w", kind, err)
		}
		list = append(list, r)
	}
	return list, nil
}

func (f *file) caches(v any) (list []wire.Cache, err error) {
	all, ok := v.([]any)
	if !ok {
		all = []any{v}
	}
	for _, e := range all {
		m, ok := e.(mapping)
		if !ok {
			return nil, fmt.Errorf("must be a mapping or a list of mappings")
		}
		if len(m) == 0 {
			continue // cache: {} turns the default off
		}
		if err := known(m, strings.Fields("key paths untracked policy when unprotect fallback_keys")); err != nil {
			return nil, err
		}
		c := wire.Cache{Untracked: m["untracked"] == true, Policy: cmp.Or(text(m["policy"]), "pull-push"),
			When: cmp.Or(text(m["when"]), "on_success"), FallbackKeys: []string{}}
		if c.Paths, err = texts(m["paths"]); err != nil {
			return nil, fmt.Errorf("paths: %w", err)
		}
		if c.FallbackKeys, err = texts(m["fallback_keys"]); err != nil {
			return nil, fmt.Errorf("fallback_keys: %w", err)
		}
		if c.Key, err = f.cacheKey(m["key"]); err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		// GitLab keeps the caches of protected refs apart, so that nobody else can poison them.
		if f.ctx.Protected && m["unprotect"] != true {
			c.Key += "-protected"
		} else {
			c.Key += "-non_protected"
		}
		list = append(list, c)
	}
	return list, nil
}

func (f *file) cacheKey(v any) (string, error) {
	m, ok := v.(mapping)
	if !ok {
		key, err := scalar(v)
		return cmp.Or(key, "default"), err
	}
	if err := known(m, []string{"files", "prefix"}); err != nil {
		return "", err
	}
	files, err := texts(m["files"])
	if err != nil || len(files) == 0 || len(files) > 2 {
		return "", fmt.Errorf("files: must be a list of one or two paths")
	}
	sum, found := sha1.New(), false
	for _, file := range files {
		if id, ok := f.ctx.Blob(file); ok {
			found = true
			sum.Write([]byte(id))
		}
	}
	key := "default"
	if found {
		key = hex.EncodeToString(sum.Sum(nil))
	}
	if prefix := text(m["prefix"]); prefix != "" {
		key = prefix + "-" + key
	}
	return key, nil
}

// needs reads `needs:`; artifacts come from the same jobs, but for those with artifacts: false.
func needs(p *job.Planned, v any) (optional []string, err error) {
	all, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("must be a list")
	}
	p.ByNeeds, p.AllBefore = true, false
	for _, e := range all {
		name, artifacts := text(e), true
		if m, ok := e.(mapping); ok {
			if err := known(m, []string{"job", "artifacts", "optional"}); err != nil {
				return nil, err
			}
			name, artifacts = text(m["job"]), m["artifacts"] != false
			if m["optional"] == true {
				optional = append(optional, name)
			}
		}
		p.Needs = append(p.Needs, name)
		if artifacts {
			p.From = append(p.From, name)
		}
	}
	return optional, nil
}

func hooks(v any) (list []wire.Hook, err error) {
	m, ok := v.(mapping)
	if !ok {
		return nil, fmt.Errorf("must be a mapping")
	}
	if err := known(m, []string{"pre_get_sources_script"}); err != nil {
		return nil, err
	}
	script, err := texts(m["pre_get_sources_script"])
	return []wire.Hook{{Name: "pre_get_sources_script", Script: script}}, err
}

func idTokens(v any) (map[string][]string, error) {
	m, ok := v.(mapping)
	if !ok {
		return nil, fmt.Errorf("must be a mapping")
	}
	tokens := map[string][]string{}
	for name, one := range m {
		full, _ := one.(mapping)
		aud, err := texts(full["aud"])
		if err != nil || len(aud) == 0 {
			return nil, fmt.Errorf("%s: aud must be a string or a list of strings", name)
		}
		tokens[name] = aud
	}
	return tokens, nil
}

func allowFailure(v any) (a job.AllowFailure, err error) {
	switch v := v.(type) {
	case bool:
		a.Always = v
		return a, nil
	case mapping:
		if err := known(v, []string{"exit_codes"}); err != nil {
			return a, err
		}
		codes, ok := v["exit_codes"].([]any)
		if !ok {
			codes = []any{v["exit_codes"]}
		}
		for _, c := range codes {
			n, ok := c.(int)
			if !ok {
				return a, fmt.Errorf("exit_codes: %v is no number", c)
			}
			a.ExitCodes = append(a.ExitCodes, n)
		}
		return a, nil
	}
	return a, fmt.Errorf("must be true, false or exit_codes")
}

var units = map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}

// duration reads "3600", "90 minutes", "1h 30m".
func duration(s string) (total time.Duration, err error) {
	rest := strings.TrimSpace(strings.ToLower(strings.ReplaceAll(s, "and", " ")))
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		n, err := strconv.Atoi(rest[:digits])
		if err != nil {
			return 0, fmt.Errorf("%q is no duration such as \"1h 30m\"", s)
		}
		rest = strings.TrimLeft(rest[digits:], " ")
		letters := len(rest) - len(strings.TrimLeft(rest, "abcdefghijklmnopqrstuvwxyz"))
		unit := time.Second
		if letters > 0 {
			var ok bool
			if unit, ok = units[rest[0]]; !ok || strings.HasPrefix(rest, "mo") {
				return 0, fmt.Errorf("%q: unit %q", s, rest[:letters])
			}
		}
		total += time.Duration(n) * unit
		rest = strings.TrimSpace(rest[letters:])
	}
	if total <= 0 {
		return 0, fmt.Errorf("%q is no duration such as \"1h 30m\"", s)
	}
	return total, nil
}
