// Package register writes cleanroom into a GitLab Runner config.toml: the
// executor, the folders and the [runners.custom] part of one runner.
//
// What it promises: text is put in or replaced in place, so that comments,
// order, foreign keys and other runners stay as they are; the result is read
// again and must hold exactly what was there plus what was meant, or nothing
// is written. A second run changes nothing. No error and no line of a change
// ever shows a token.
package register

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// Errors of this package.
var (
	// ErrOptions is a call that cannot be served.
	ErrOptions = errors.New("cannot register")
	// ErrSyntax is a config.toml that does not parse or has an unusual form.
	ErrSyntax = errors.New("cannot read the runner's configuration")
	// ErrRunner means that none, or more than one, of the runners is meant.
	ErrRunner = errors.New("which runner?")
	// ErrForeign is a runner whose custom executor is another driver.
	ErrForeign = errors.New("another driver is registered")
	// ErrVerify means that the edited text would not say what was meant.
	ErrVerify = errors.New("the edited configuration would not be right, nothing is written")
	// ErrChanged means that someone else wrote the file meanwhile.
	ErrChanged = errors.New("the runner's configuration was changed meanwhile: try again")
)

// Options say which runner is meant, and what to write.
type Options struct {
	// Name, URL and TokenPrefix pick a runner; those that are given must all
	// fit. None are needed when there is only one.
	Name, URL, TokenPrefix string
	// Token adds a runner that is not there yet; it needs Name and URL, too.
	// It comes from ReadToken, never from an argument.
	Token string
	// Replace allows to take the place of another custom driver.
	Replace bool

	// Command is the absolute path of the cleanroom binary; Config the
	// configuration it is to read, empty for its default.
	Command, Config string
	// BuildsDir and CacheDir inside the room, written where the runner has
	// none of its own.
	BuildsDir, CacheDir string
	// StageGrace is how long a cancelled stage may take to end.
	StageGrace time.Duration
}

// ReadToken reads a runner's token from a file or stdin.
func ReadToken(r io.Reader) (string, error) {
	const most = 4096
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return "", fmt.Errorf("%w: reading the token: %w", ErrOptions, err)
	}
	token := strings.TrimSpace(string(text))
	if token == "" || len(text) > most || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: the token must be one line of printable characters", ErrOptions)
	}
	return token, nil
}

// setting is one key below [[runners]] and what it should be.
type setting struct {
	path  []string
	value any   // string, int64 or []any of strings
	keep  bool  // what is there already holds: an admin may have tuned it
	least int64 // below which a number that is there does not hold
}

// holds says whether what is there stays. The runner takes its own default,
// which is long, in the place of a time-out of 0 or less.
func (s setting) holds(old any) bool {
	number, ok := old.(int64)
	return reflect.DeepEqual(old, s.value) || s.keep && (!ok || number <= 0 || number >= s.least)
}

// toTell is how many seconds the driver may need, when a cancelled stage has
// had its grace, to end it and to tell of it.
const toTell = 10

// settings are all that we write, in the order in which they are written.
// Time-outs are whole seconds (CustomConfig in the runner's common/config.go).
func (o Options) settings() []setting {
	custom := func(key string, value any, keep bool) setting {
		return setting{path: []string{"custom", key}, value: value, keep: keep}
	}
	args := func(command string) []any {
		if o.Config == "" {
			return []any{command}
		}
		return []any{"--config", o.Config, command}
	}
	// The driver needs the stage's grace, and some seconds to tell of it.
	grace := int64((o.StageGrace + time.Second - 1) / time.Second)
	graceful := custom("graceful_kill_timeout", max(60, grace+30), true)
	graceful.least = grace + toTell
	return []setting{
		{path: []string{"executor"}, value: "custom"},
		{path: []string{"builds_dir"}, value: o.BuildsDir, keep: true},
		{path: []string{"cache_dir"}, value: o.CacheDir, keep: true},
		custom("config_exec", o.Command, false),
		custom("config_args", args("config"), false),
		custom("config_exec_timeout", int64(60), true),
		custom("prepare_exec", o.Command, false),
		custom("prepare_args", args("prepare"), false),
		custom("prepare_exec_timeout", int64(3600), true),
		custom("run_exec", o.Command, false),
		custom("run_args", args("run"), false),
		custom("cleanup_exec", o.Command, false),
		custom("cleanup_args", args("cleanup"), false),
		custom("cleanup_exec_timeout", int64(600), true),
		graceful,
		custom("force_kill_timeout", int64(10), true),
	}
}

func (o Options) validate() error {
	clean := func(s string) bool {
		return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
	}
	for name, path := range map[string]string{"command": o.Command, "config": o.Config, "builds_dir": o.BuildsDir, "cache_dir": o.CacheDir} {
		if !(name == "config" && path == "") && (!filepath.IsAbs(path) || !clean(path)) {
			return fmt.Errorf("%w: %s must be an absolute path, not %q", ErrOptions, name, path)
		}
	}
	if o.Token == "" {
		return nil
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || !clean(o.URL) {
		return fmt.Errorf("%w: a new runner needs --url, where its GitLab is, like https://gitlab.example.com", ErrOptions)
	}
	if o.Name == "" || !clean(o.Name) {
		return fmt.Errorf("%w: a new runner needs --name", ErrOptions)
	}
	return nil
}

// Register puts cleanroom into the text of a config.toml (empty for a new
// one). It gives the new text and a line for each change; no changes mean that
// out is in.
func Register(in []byte, opts Options) (out []byte, changes []string, err error) {
	text, marked := bytes.CutPrefix(in, []byte(mark))
	out, changes, err = register(text, opts)
	if marked && err == nil {
		out = append([]byte(mark), out...)
	}
	return out, changes, err
}

// mark is UTF-8's byte order mark. The runner reads over it, so it stays.
const mark = "\xef\xbb\xbf"

func register(in []byte, opts Options) (out []byte, changes []string, err error) {
	if err := opts.validate(); err != nil {
		return nil, nil, err
	}
	before, err := decode(in)
	if err != nil {
		return nil, nil, err
	}
	runners, err := runnersOf(before)
	if err != nil {
		return nil, nil, err
	}
	chosen, err := choose(runners, opts)
	if err != nil {
		return nil, nil, err
	}

	d := &document{text: in}
	var want map[string]any // of the whole document
	if want, err = decode(in); err != nil {
		return nil, nil, err
	}
	if chosen < 0 {
		changes = d.addRunner(opts, len(before) == 0, want)
	} else {
		if err := d.scan(); err != nil {
			return nil, nil, err
		}
		if chosen >= len(d.runners) {
			return nil, nil, fmt.Errorf("%w: write each runner as a [[runners]] table", ErrSyntax)
		}
		wanted, _ := runnersOf(want)
		if changes, err = d.change(d.runners[chosen], runners[chosen], wanted[chosen], opts); err != nil {
			return nil, nil, err
		}
	}
	if len(changes) == 0 {
		return in, nil, nil
	}
	out = d.apply()
	after, err := decode(out)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrVerify, err)
	}
	if !reflect.DeepEqual(after, want) {
		return nil, nil, ErrVerify
	}
	return out, changes, nil
}

// decode reads TOML; errors give the line and never its text.
func decode(text []byte) (map[string]any, error) {
	tree := map[string]any{}
	if err := toml.Unmarshal(text, &tree); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			row, column := where.Position()
			return nil, fmt.Errorf("%w: no TOML at line %d, column %d", ErrSyntax, row, column)
		}
		return nil, fmt.Errorf("%w: no TOML", ErrSyntax)
	}
	return tree, nil
}

// runnersOf are the tables of the runners.
func runnersOf(tree map[string]any) ([]map[string]any, error) {
	value, ok := tree["runners"]
	if !ok {
		return nil, nil
	}
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("%w: runners is no list; write each as a [[runners]] table", ErrSyntax)
	}
	runners := make([]map[string]any, len(list))
	for i, one := range list {
		if runners[i], ok = one.(map[string]any); !ok {
			return nil, fmt.Errorf("%w: runner %d is no table", ErrSyntax, i+1)
		}
	}
	return runners, nil
}

// choose is the index of the runner that is meant, -1 for a new one.
func choose(runners []map[string]any, opts Options) (int, error) {
	text := func(runner map[string]any, key string) string { s, _ := runner[key].(string); return s }
	if opts.Token != "" {
		for i, r := range runners {
			if text(r, "token") == opts.Token {
				return i, nil
			}
			if text(r, "name") == opts.Name && text(r, "url") == opts.URL {
				return 0, fmt.Errorf("%w: a runner %q is there with another token; leave out --token-file to change it, or give another --name to add one", ErrRunner, opts.Name)
			}
		}
		return -1, nil
	}
	var found []int
	for i, r := range runners {
		if (opts.Name == "" || text(r, "name") == opts.Name) && (opts.URL == "" || sameURL(text(r, "url"), opts.URL)) &&
			strings.HasPrefix(text(r, "token"), opts.TokenPrefix) {
			found = append(found, i)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	var names []string
	for _, r := range runners {
		names = append(names, fmt.Sprintf("%q", text(r, "name")))
	}
	switch {
	case len(runners) == 0:
		return 0, fmt.Errorf("%w: none is there yet; add one with --name, --url and --token-file", ErrRunner)
	case len(found) == 0:
		return 0, fmt.Errorf("%w: none of %s fits; pick one with --name, --url or --token-prefix, or add one with --name, --url and --token-file", ErrRunner, strings.Join(names, ", "))
	default:
		return 0, fmt.Errorf("%w: %d of %s fit; pick one with --name, --url or --token-prefix", ErrRunner, len(found), strings.Join(names, ", "))
	}
}

func sameURL(a, b string) bool { return strings.TrimRight(a, "/") == strings.TrimRight(b, "/") }

// change plans the edits of one runner, and makes them in want.
func (d *document) change(r *runner, have, want map[string]any, opts Options) ([]string, error) {
	custom, _ := have["custom"].(map[string]any)
	if value, ok := have["custom"]; ok && custom == nil {
		return nil, fmt.Errorf("%w: custom is a %T and no table", ErrSyntax, value)
	}
	name, _ := have["name"].(string)
	for _, key := range []string{"run_exec", "config_exec", "prepare_exec", "cleanup_exec"} {
		if driver, _ := custom[key].(string); driver != "" && !opts.Replace && filepath.Base(driver) != filepath.Base(opts.Command) {
			return nil, fmt.Errorf("%w: %s is %q; take its place with --replace, or pick another runner with --name, --url or --token-prefix", ErrForeign, key, driver)
		}
	}
	if shell, _ := have["shell"].(string); slices.Contains([]string{"pwsh", "powershell", "cmd"}, shell) {
		return nil, fmt.Errorf("%w: runner %q has shell = %q, and a room runs scripts for bash or sh: remove that line, or pick another runner with --name", ErrOptions, name, shell)
	}
	var changes []string
	var missing []setting
	for _, s := range opts.settings() {
		table, target := have, want
		if len(s.path) == 2 {
			table = custom
			if want["custom"] == nil {
				want["custom"] = map[string]any{}
			}
			target = want["custom"].(map[string]any)
		}
		key := s.path[len(s.path)-1]
		old, ok := table[key]
		if ok && s.holds(old) {
			continue
		}
		target[key] = s.value
		line := fmt.Sprintf("runner %q: %s = %s", name, strings.Join(s.path, "."), literal(s.value))
		switch {
		case key == "executor" && ok:
			line += fmt.Sprintf(" (was %v)", old)
		case s.keep && ok:
			line += fmt.Sprintf(" (was %v: room.stage_grace needs at least %d)", old, s.least)
		}
		changes = append(changes, line)
		if ok {
			if !d.replace(r, s) {
				return nil, fmt.Errorf("%w: %s of runner %q is written in a way we cannot change; write it as a line of its own", ErrSyntax, strings.Join(s.path, "."), name)
			}
			continue
		}
		missing = append(missing, s)
	}
	d.insert(r, missing)
	return changes, nil
}

// addRunner plans a new runner at the end of the text.
func (d *document) addRunner(opts Options, whole bool, want map[string]any) []string {
	var b strings.Builder
	if whole {
		want["concurrent"] = int64(1)
		b.WriteString("concurrent = 1\n")
	}
	table := map[string]any{"name": opts.Name, "url": opts.URL, "token": opts.Token}
	b.WriteString("\n[[runners]]\n")
	for _, key := range []string{"name", "url", "token"} {
		fmt.Fprintf(&b, "  %s = %s\n", key, literal(table[key]))
	}
	custom := map[string]any{}
	for _, s := range opts.settings() {
		if len(s.path) == 1 {
			table[s.path[0]] = s.value
			fmt.Fprintf(&b, "  %s = %s\n", s.path[0], literal(s.value))
			continue
		}
		if len(custom) == 0 {
			b.WriteString("\n  [runners.custom]\n")
		}
		custom[s.path[1]] = s.value
		fmt.Fprintf(&b, "    %s = %s\n", s.path[1], literal(s.value))
	}
	table["custom"] = custom
	list, _ := want["runners"].([]any)
	want["runners"] = append(slices.Clip(list), table)
	d.edits = append(d.edits, edit{span{len(d.text), len(d.text)}, b.String(), true})
	return []string{fmt.Sprintf("runner %q is new, for %s", opts.Name, opts.URL)}
}
