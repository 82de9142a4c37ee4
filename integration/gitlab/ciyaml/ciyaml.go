// Package ciyaml reads the part of .gitlab-ci.yml that real projects use most, and turns it into jobs. It promises that a
// keyword it does not understand is an error with the keyword's name and place, never something silently left out: a
// pipeline that parses here means the same on GitLab.
package ciyaml

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/gitlab/wire"
)

// Context is what the pipeline already knows when the file is read.
type Context struct {
	// Variables are those that rules may ask for, besides the file's own.
	Variables map[string]string
	// Protected tells whether the ref is; caches of protected refs are kept apart.
	Protected bool
	// Blob returns the object id of a file of the commit, for cache:key:files.
	Blob func(path string) (id string, ok bool)
}

// mapping is a decoded YAML mapping.
type mapping = map[string]any

// jobKeys are the keywords a job may have; defaultKeys those that default: and the top level may have.
var (
	defaultKeys = strings.Fields(`image services before_script after_script artifacts cache tags timeout retry hooks id_tokens`)
	jobKeys     = append(strings.Fields(`stage variables script needs dependencies allow_failure rules extends when`),
		defaultKeys...)
	globalKeys = []string{"image", "services", "before_script", "after_script", "cache"}
)

// file is a .gitlab-ci.yml, read but for the jobs.
type file struct {
	ctx       Context
	stages    []string
	defaults  mapping
	variables mapping
	jobs      map[string]mapping // hidden ones too
	order     []string           // of those that run
}

// Parse returns the jobs of a pipeline in the order of the file.
func Parse(data []byte, ctx Context) ([]job.Planned, error) {
	f, err := read(data)
	if err != nil {
		return nil, err
	}
	f.ctx = ctx
	var planned []job.Planned
	stageOf := map[string]int{}
	optional := map[string][]string{}
	for _, name := range f.order {
		p, opt, err := f.job(name)
		if err != nil {
			return nil, fmt.Errorf("job %q: %w", name, err)
		}
		if p.When == "never" {
			continue
		}
		planned = append(planned, p)
		stageOf[name], optional[name] = p.Stage, opt
	}
	if len(planned) == 0 {
		return nil, fmt.Errorf("no job would run: every job is hidden or excluded by its rules")
	}
	for i := range planned {
		if err := settle(&planned[i], stageOf, optional); err != nil {
			return nil, fmt.Errorf("job %q: %w", planned[i].Spec.Name, err)
		}
	}
	return planned, nil
}

// settle checks the jobs that one job names, and drops those it can do without.
func settle(p *job.Planned, stageOf map[string]int, optional map[string][]string) error {
	keep := func(list []string) ([]string, error) {
		kept := []string{}
		for _, n := range list {
			at, ok := stageOf[n]
			switch {
			case !ok && slices.Contains(optional[p.Spec.Name], n):
				continue
			case !ok:
				return nil, fmt.Errorf("needs or depends on %q, which is not in the pipeline", n)
			case n == p.Spec.Name || at > p.Stage:
				return nil, fmt.Errorf("needs or depends on %q, which comes no earlier", n)
			}
			kept = append(kept, n)
		}
		return kept, nil
	}
	var err error
	if p.Needs, err = keep(p.Needs); err != nil {
		return err
	}
	p.From, err = keep(p.From)
	return err
}

func read(data []byte) (*file, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("the file is no mapping of jobs")
	}
	if err := refuseTags(&doc); err != nil {
		return nil, err
	}
	f := &file{stages: []string{"build", "test", "deploy"}, jobs: map[string]mapping{}, defaults: mapping{}}
	root := doc.Content[0]
	for i := 0; i < len(root.Content); i += 2 {
		key, node := root.Content[i].Value, root.Content[i+1]
		if err := f.top(key, node); err != nil {
			return nil, fmt.Errorf("line %d: %s: %w", root.Content[i].Line, key, err)
		}
	}
	f.stages = slices.Concat([]string{".pre"}, f.stages, []string{".post"})
	return f, nil
}

func (f *file) top(key string, node *yaml.Node) error {
	var v any
	if err := node.Decode(&v); err != nil {
		return err
	}
	m, isMap := v.(mapping)
	switch {
	case key == "stages":
		list, err := texts(v)
		f.stages = list
		return err
	case key == "default":
		if !isMap {
			return fmt.Errorf("must be a mapping")
		}
		maps.Copy(f.defaults, m)
		return known(m, defaultKeys)
	case key == "variables":
		f.variables = m
		if !isMap {
			return fmt.Errorf("must be a mapping")
		}
		return nil
	case slices.Contains(globalKeys, key):
		f.defaults[key] = v
		return nil
	case !isMap && strings.HasPrefix(key, "."):
		return nil // only an anchor for others
	case !isMap || slices.Contains([]string{"include", "workflow", "spec", "pages"}, key):
		return fmt.Errorf("keyword is not supported by the stand-in")
	}
	f.jobs[key] = m
	if !strings.HasPrefix(key, ".") {
		f.order = append(f.order, key)
	}
	return nil
}

// refuseTags finds !reference and its kind, which decoding would take for plain lists.
func refuseTags(n *yaml.Node) error {
	if strings.HasPrefix(n.Tag, "!") && !strings.HasPrefix(n.Tag, "!!") {
		return fmt.Errorf("line %d: %s is not supported by the stand-in", n.Line, n.Tag)
	}
	for _, c := range n.Content {
		if err := refuseTags(c); err != nil {
			return err
		}
	}
	return nil
}

// known refuses keys outside of a list.
func known(m mapping, keys []string) error {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		if !slices.Contains(keys, k) {
			return fmt.Errorf("keyword %q is not supported by the stand-in", k)
		}
	}
	return nil
}

// extended is a job with all that it extends, and the defaults, filled in.
func (f *file) extended(name string, seen []string) (mapping, error) {
	if slices.Contains(seen, name) {
		return nil, fmt.Errorf("extends itself by way of %s", strings.Join(seen, ", "))
	}
	own, ok := f.jobs[name]
	if !ok {
		return nil, fmt.Errorf("extends %q, which does not exist", name)
	}
	parents, err := texts(own["extends"])
	if err != nil {
		return nil, fmt.Errorf("extends: %w", err)
	}
	merged := mapping{}
	for _, p := range parents {
		m, err := f.extended(p, append(seen, name))
		if err != nil {
			return nil, err
		}
		merged = merge(merged, m)
	}
	return merge(merged, own), nil
}

// merge lays over on top of under: mappings are merged key by key, everything else is replaced.
func merge(under, over mapping) mapping {
	out := maps.Clone(under)
	for k, v := range over {
		a, okA := out[k].(mapping)
		b, okB := v.(mapping)
		if okA && okB {
			v = merge(a, b)
		}
		out[k] = v
	}
	return out
}

// variables reads a variables: mapping, in the order of the names since YAML has none.
func variables(v any) (vars []wire.Variable, err error) {
	if v == nil {
		return nil, nil
	}
	m, ok := v.(mapping)
	if !ok {
		return nil, fmt.Errorf("variables: must be a mapping")
	}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		one := wire.Variable{Key: k, Public: true}
		value := m[k]
		if full, ok := value.(mapping); ok {
			if err := known(full, []string{"value", "expand", "description", "options"}); err != nil {
				return nil, fmt.Errorf("variables: %s: %w", k, err)
			}
			value = full["value"]
			one.Raw = full["expand"] == false
		}
		if one.Value, err = scalar(value); err != nil {
			return nil, fmt.Errorf("variables: %s: %w", k, err)
		}
		vars = append(vars, one)
	}
	return vars, nil
}

// overlay puts variables on top of others, by name.
func overlay(under, over []wire.Variable) []wire.Variable {
	out := slices.DeleteFunc(slices.Clone(under), func(u wire.Variable) bool {
		return slices.ContainsFunc(over, func(o wire.Variable) bool { return o.Key == u.Key })
	})
	return append(out, over...)
}

func scalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case mapping, []any:
		return "", fmt.Errorf("must be a single value")
	default:
		return fmt.Sprint(v), nil
	}
}

// texts reads one string or a list of them, nested lists too; nothing is an empty list.
func texts(v any) (list []string, err error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case []any:
		for _, e := range v {
			more, err := texts(e)
			if err != nil {
				return nil, err
			}
			list = append(list, more...)
		}
		return list, nil
	default:
		return nil, fmt.Errorf("%v: must be a string or a list of strings (quote it, if it holds a colon)", v)
	}
}
