package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/pelletier/go-toml/v2"
)

// ErrConfig is a configuration that cannot be used. Every error is one line
// that names the key, the value and what is allowed.
var ErrConfig = errors.New("bad configuration")

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

const envPrefix = "CLEANROOM_"

// reserved are CLEANROOM_ variables that are no keys: what the config stage
// hands to later ones, and the path of the file.
var reserved = []string{"CLEANROOM_ROOM", "CLEANROOM_KEY", "CLEANROOM_RUNNER", "CLEANROOM_CONFIG"}

// Load reads the file at path over the defaults, the CLEANROOM_ variables of
// environ over both (CLEANROOM_ROOM_SIZE is room.size; a list is written with
// commas), and validates the whole. No path means DefaultPath, which need not
// exist. What is unknown is an error: a misspelt key must not leave a default
// in the place of what an admin meant.
//
// When only Validate fails the configuration comes with the error, so that
// cleaning up can go on with it.
func Load(path string, environ []string) (Config, error) {
	text, err := readFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	c, err := Parse(text, environ)
	if err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

func readFile(path string) ([]byte, error) {
	optional := path == ""
	if optional {
		path = DefaultPath
	}
	f, err := os.Open(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no plain file", path)
	case info.Mode().Perm()&0o002 != 0:
		return nil, fmt.Errorf("%s may be written by everyone; chmod o-w it", path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	return text, err
}

// Parse reads a TOML text and variables over the defaults, as Load does, but
// does not validate.
func Parse(text []byte, environ []string) (Config, error) {
	c, err := parse(text, environ)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return c, nil
}

func parse(text []byte, environ []string) (Config, error) {
	tree := map[string]any{}
	if err := toml.Unmarshal(text, &tree); err != nil {
		var where *toml.DecodeError
		if errors.As(err, &where) {
			row, _ := where.Position()
			return Config{}, fmt.Errorf("line %d: %s", row, oneLine(strings.TrimPrefix(err.Error(), "toml: ")))
		}
		return Config{}, errors.New(oneLine(err.Error()))
	}
	known := keys()
	if err := checkTree("", tree, known); err != nil {
		return Config{}, err
	}

	if err := overrides(tree, environ, known); err != nil {
		return Config{}, err
	}
	c := Default()
	if err := decode(tree, &c); err != nil {
		return Config{}, errors.New(oneLine(err.Error()))
	}
	for _, list := range []*[]string{
		&c.Images.Allowed, &c.Images.AllowedServices, &c.Images.PullPolicies, &c.Images.AllowedPullPolicies,
		&c.Network.ExtraHosts, &c.Network.DNS, &c.Network.DNSSearch, &c.Audit.SignCommand, &c.Pool.Images,
	} {
		if len(*list) == 0 {
			*list = nil
		}
	}
	c.fill()
	return c, nil
}

// decode puts what a tree has over c. (The library is the one by which viper
// decodes; viper itself, of which no more was used, took a tenth of a start.)
func decode(tree map[string]any, c *Config) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: c, ErrorUnused: true, ZeroFields: true, DecodeHook: mapstructure.StringToTimeDurationHookFunc(),
	})
	if err != nil {
		return err
	}
	return d.Decode(tree)
}

// set gives a key a value.
func set(tree map[string]any, name string, value any) {
	for {
		table, rest, more := strings.Cut(name, ".")
		if !more {
			tree[table] = value
			return
		}
		sub, ok := tree[table].(map[string]any)
		if !ok {
			sub = map[string]any{}
			tree[table] = sub
		}
		tree, name = sub, rest
	}
}

// key is one leaf of Config, by its dotted name, with its default.
type key struct {
	name  string
	value reflect.Value
}

// tables says that a key is a list of tables, written [[key]].
func (k key) tables() bool {
	t := k.value.Type()
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Struct
}

// env is the variable that overrides a key.
func (k key) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// keys are all leaves, in the order of the struct.
func keys() []key { return leaves("", reflect.ValueOf(Default())) }

func leaves(prefix string, v reflect.Value) (all []key) {
	for i := range v.NumField() {
		name := prefix + v.Type().Field(i).Tag.Get("mapstructure")
		if v.Field(i).Kind() == reflect.Struct {
			all = append(all, leaves(name+".", v.Field(i))...)
		} else {
			all = append(all, key{name, v.Field(i)})
		}
	}
	return all
}

// checkTree refuses unknown keys and wrong types of a parsed file.
func checkTree(prefix string, tree map[string]any, known []key) error {
	names := make([]string, 0, len(tree))
	for name := range tree {
		names = append(names, name)
	}
	slices.Sort(names) // the same error each time
	for _, name := range names {
		value, full := tree[name], prefix+name
		if strings.Contains(name, ".") {
			return fmt.Errorf("unknown key %q: write it without quotes", full)
		}
		i := slices.IndexFunc(known, func(k key) bool { return k.name == full })
		table := slices.ContainsFunc(known, func(k key) bool { return strings.HasPrefix(k.name, full+".") })
		sub, isTable := value.(map[string]any)
		switch {
		case i >= 0 && known[i].tables():
			if err := checkTables(known[i], value); err != nil {
				return err
			}
		case i >= 0:
			if want := known[i].mismatch(value); want != "" {
				return fmt.Errorf("%s: %s must be %s", full, shown(full, value), want)
			}
		case table && isTable:
			if err := checkTree(full+".", sub, known); err != nil {
				return err
			}
		case table:
			return fmt.Errorf("%s: %s must be a table, written [%s]", full, shown(full, value), full)
		default:
			return fmt.Errorf("unknown key %q%s", full, suggest(full, known))
		}
	}
	return nil
}

// checkTables refuses unknown keys and wrong types in a list of tables.
func checkTables(k key, value any) error {
	list, ok := value.([]any)
	for i, one := range list {
		table, isTable := one.(map[string]any)
		if ok = ok && isTable; !ok {
			break
		}
		prefix := fmt.Sprintf("%s[%d].", k.name, i)
		if err := checkTree(prefix, table, leaves(prefix, reflect.Zero(k.value.Type().Elem()))); err != nil {
			return err
		}
	}
	if !ok {
		return fmt.Errorf("%s must be a list of tables, written [[%s]]", k.name, k.name)
	}
	return nil
}

// mismatch is empty when a TOML value fits a key, else what would.
func (k key) mismatch(value any) string {
	switch k.value.Interface().(type) {
	case string:
		if _, ok := value.(string); !ok {
			return `a string, in quotes`
		}
	case bool:
		if _, ok := value.(bool); !ok {
			return "true or false"
		}
	case int, int64:
		if _, ok := value.(int64); !ok {
			return "a whole number"
		}
	case float64:
		switch value.(type) {
		case int64, float64:
		default:
			return "a number"
		}
	case time.Duration:
		s, ok := value.(string)
		if _, err := time.ParseDuration(s); !ok || err != nil {
			return `a duration with its unit, like "30s" or "15m"`
		}
	case []string:
		list, ok := value.([]any)
		for _, one := range list {
			_, isString := one.(string)
			ok = ok && isString
		}
		if !ok {
			return `a list of strings, like ["a", "b"]`
		}
	}
	return ""
}

// overrides sets what CLEANROOM_ variables say.
func overrides(tree map[string]any, environ []string, known []key) error {
	for _, line := range environ {
		name, text, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(reserved, name) {
			continue
		}
		i := slices.IndexFunc(known, func(k key) bool { return k.env() == name })
		if i < 0 {
			near := nearest(name, known, key.env)
			return fmt.Errorf("unknown variable %s%s", name, didYouMean(near))
		}
		k := known[i]
		if k.tables() {
			return fmt.Errorf("%s cannot be set by a variable: write [[%s]] in the configuration file", name, k.name)
		}
		value, err := k.fromText(text)
		if err == nil {
			if want := k.mismatch(value); want != "" {
				err = errors.New(want)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %s must be %s", name, shown(k.name, text), strings.ReplaceAll(err.Error(), ", in quotes", ""))
		}
		set(tree, k.name, value)
	}
	return nil
}

// fromText reads a variable's text as the TOML value that fits the key.
func (k key) fromText(text string) (any, error) {
	switch k.value.Interface().(type) {
	case bool:
		if b, err := strconv.ParseBool(text); err == nil {
			return b, nil
		}
	case int, int64:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n, nil
		}
	case float64:
		if n, err := strconv.ParseFloat(text, 64); err == nil {
			return n, nil
		}
	case []string:
		list := []any{}
		for _, one := range strings.Split(text, ",") {
			if one = strings.TrimSpace(one); one != "" {
				list = append(list, one)
			}
		}
		return list, nil
	}
	return text, nil // mismatch says what is wrong with it
}

// secretKeys may hold credentials; errors never quote them.
var secretKeys = []string{"images.auth_config", "network.http_proxy", "network.https_proxy"}

// shown is a value as an error may quote it.
func shown(name string, value any) string {
	if slices.Contains(secretKeys, name) {
		return "the value"
	}
	text := fmt.Sprint(value)
	if s, ok := value.(string); ok {
		text = strconv.Quote(s)
	}
	if text = oneLine(text); len(text) > 80 {
		text = strings.ToValidUTF8(text[:80], "") + "..."
	}
	return text
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
