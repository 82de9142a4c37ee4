package policy

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cleanroom/config"
)

const rulesFile = `
# who may deploy
[[rule]]
name = "a"
when = '''
ref_protected && # no comment of CEL's
ref == "main"
'''
`

const goodFile = `
# who may deploy
[[rule]]
name = "a"
when = '''
ref_protected && // a comment
ref == "main"
'''
hint = "ask"
secrets = ["SHOP_DB", "SHOP_KEY"]
stages = ["script"]
identity = ["production"]

[[rule]]
name = "b"
when = "true"
images = ["x"]
services = ["y"]
profiles = ["compatible"]
`

func written(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // past the umask
		t.Fatal(err)
	}
	return path
}

// Rules mean the same wherever they stand.
func TestFile(t *testing.T) {
	path := written(t, goodFile, 0o644)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	inline := compile(t, config.Rule{
		Name: "a", When: `ref_protected && ref == "main"`, Hint: "ask", Secrets: []string{"SHOP_DB", "SHOP_KEY"},
		Stages: []string{"script"}, Identity: []string{"production"},
	}, config.Rule{Name: "b", When: "true", Images: []string{"x"}, Services: []string{"y"}, Profiles: []string{"compatible"}})
	for _, file := range []string{path, link} {
		p, err := Compile(config.Policy{File: file}, profiles, secretNames)
		if err != nil {
			t.Fatal(err)
		}
		if p.Version() != inline.Version() || !reflect.DeepEqual(p.Rules(), inline.Rules()) {
			t.Errorf("%+v\n%+v", p.Rules(), inline.Rules())
		}
	}
	if p, err := Compile(config.Policy{File: written(t, "# none yet\n", 0o600)}, nil, nil); err != nil || p.Version() != compile(t).Version() {
		t.Error(err)
	}
}

func TestBadFiles(t *testing.T) {
	for want, text := range map[string]string{
		`line 3: unknown key "wehn"; did you mean when?`: "[[rule]]\nname = 'a'\nwehn = 'true'\n",
		`line 1: unknown key "rules`:                     "[[rules]]\nname = 'a'\n",
		`line 2: unknown key "file"`:                     "\nfile = 'x'\n",
		`line 2: a TOML integer does not fit here`:       "[[rule]]\nname = 7\n",
		`line 3: a TOML string does not fit here`:        "[[rule]]\nname = 'a'\nsecrets = 'x'\n",
		`line 4: unexpected character`:                   "[[rule]]\n\n\nname = \n",
		`policy.toml has more than 1048576 bytes`:        strings.Repeat("#", maxFile+1),
		`rule a: when: line 1, column 18: syntax error`:  rulesFile + "secrets = ['SHOP_DB']\n",
		`rule a: when: it is empty`:                      "[[rule]]\nname = 'a'\nsecrets = ['*']\n",
	} {
		_, err := Compile(config.Policy{File: written(t, text, 0o600)}, profiles, secretNames)
		if !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), ": toml:") {
			t.Errorf("%v; want %q", err, want)
		}
	}
	for mode, loose := range map[os.FileMode]bool{0o600: false, 0o644: false, 0o664: true, 0o646: true} {
		if _, err := Compile(config.Policy{File: written(t, goodFile, mode)}, profiles, secretNames); (err != nil) != loose || err != nil && !strings.HasSuffix(err.Error(), "chmod go-w it") {
			t.Errorf("%#o: %v", mode, err)
		}
	}
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "no such file", dir: "is no plain file", pipe: "is no plain file",
	} {
		if _, err := Compile(config.Policy{File: path}, nil, nil); !errors.Is(err, ErrPolicy) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Compile(config.Policy{File: written(t, goodFile, 0o600), Rules: twenty}, nil, nil); err == nil || !strings.Contains(err.Error(), "keep one of both") {
		t.Error(err)
	}
}

// The file is decoded by the names of fields: they must be the keys.
func TestKeys(t *testing.T) {
	var keys []string
	for i := range reflect.TypeFor[config.Rule]().NumField() {
		field := reflect.TypeFor[config.Rule]().Field(i)
		if tag := field.Tag.Get("mapstructure"); tag != strings.ToLower(field.Name) {
			t.Errorf("%s is the key %s", field.Name, tag)
		}
		keys = append(keys, strings.ToLower(field.Name))
	}
	slices.Sort(keys)
	if want := slices.Sorted(slices.Values(ruleKeys)); !slices.Equal(keys, want) {
		t.Errorf("keys %v, ruleKeys %v", keys, want)
	}
}
