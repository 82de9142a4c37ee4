package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/pelletier/go-toml/v2"

	"cleanroom/config"
)

// maxFile bounds a file of rules, in bytes.
const maxFile = 1 << 20

// ruleKeys are what a [[rule]] may have: the names of config.Rule's fields.
var ruleKeys = []string{"name", "when", "hint", "secrets", "images", "services", "profiles", "caches", "warn", "stages", "identity"}

// readFile reads rules from a file that nobody but its owner can change. It
// may be reached by a symbolic link, as config management makes them.
func readFile(path string) ([]config.Rule, error) {
	// A pipe that nobody writes to would keep us waiting.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
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
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s may be written by others (mode %#o): chmod go-w it", path, info.Mode().Perm())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s belongs to uid %d, who could change it: chown it to root", path, st.Uid)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	rules, err := parseRules(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return rules, nil
}

// parseRules reads [[rule]] tables, whose keys are those of the
// configuration.
func parseRules(text []byte) ([]config.Rule, error) {
	var file struct {
		Rule []config.Rule `toml:"rule"`
	}
	d := toml.NewDecoder(strings.NewReader(string(text))).DisallowUnknownFields()
	err := d.Decode(&file)
	var strict *toml.StrictMissingError
	var where *toml.DecodeError
	switch {
	case err == nil:
		return file.Rule, nil
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		first := strict.Errors[0]
		row, _ := first.Position()
		key := first.Key()
		if len(key) < 2 {
			return nil, fmt.Errorf("line %d: unknown key %s; rules are tables called [[rule]]", row, shortQuote(strings.Join(key, ".")))
		}
		last := key[len(key)-1]
		return nil, fmt.Errorf("line %d: unknown key %s%s", row, shortQuote(last), didYouMean(last, ruleKeys))
	case errors.As(err, &where):
		row, _ := where.Position()
		return nil, fmt.Errorf("line %d: %s", row, said(err))
	default:
		return nil, errors.New(said(err))
	}
}

// goType is how the decoder says that a value does not fit.
var goType = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^cannot decode (TOML [a-z ]+) into .*$`) })

// said is what the TOML decoder says, in our form.
func said(err error) string {
	text := strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "toml: ")), " ")
	return short(goType().ReplaceAllString(text, "a $1 does not fit here"), 2*maxQuote)
}
