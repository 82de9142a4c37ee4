package register

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

func options() Options {
	return Options{Command: "/usr/bin/cleanroom", BuildsDir: "/builds", CacheDir: "/cache", StageGrace: 10 * time.Second}
}

const custom = `config_exec = "/usr/bin/cleanroom"
config_args = ["config"]
config_exec_timeout = 60
prepare_exec = "/usr/bin/cleanroom"
prepare_args = ["prepare"]
prepare_exec_timeout = 3600
run_exec = "/usr/bin/cleanroom"
run_args = ["run"]
cleanup_exec = "/usr/bin/cleanroom"
cleanup_args = ["cleanup"]
cleanup_exec_timeout = 600
graceful_kill_timeout = 60
force_kill_timeout = 10
`

func indented(indent, text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(indent + line)
	}
	return b.String()
}

const usual = `# written by hand
concurrent = 4   # four
check_interval = 0

[session_server]
  session_timeout = 1800

[[runners]]
  name = "one" # the first
  url = "https://gitlab.example.com"
  token = "glrt-first-secret"
  executor = "docker"
  [runners.docker]
    image = "alpine:3"
    # keep this
    volumes = [
      "/cache", # a comment with ] in it
    ]

# about the second
[[runners]]
  name = "two"
  url = "https://gitlab.example.com"
  token = "glrt-second-secret"
  executor = "shell"
`

func TestRegister(t *testing.T) {
	inline := "[[runners]]\nname='x'\ncustom = {run_exec='/old/cleanroom', foreign=1} # c\n"
	for name, test := range map[string]struct {
		in   string
		opts func(*Options)
		want string
	}{
		"first of two": {
			in: usual, opts: func(o *Options) { o.Name = "one" },
			want: strings.Replace(strings.Replace(usual, `executor = "docker"`+"\n",
				"executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n", 1),
				"in it\n    ]\n", "in it\n    ]\n  [runners.custom]\n"+indented("    ", custom), 1),
		},
		"second of two, at the end": {
			in: usual, opts: func(o *Options) { o.TokenPrefix = "glrt-second" },
			want: strings.Replace(usual, "executor = \"shell\"\n",
				"executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n  [runners.custom]\n"+indented("    ", custom), 1),
		},
		"no newline at the end": {
			in:   "[[runners]]\nname = \"x\"",
			want: "[[runners]]\nname = \"x\"\nexecutor = \"custom\"\nbuilds_dir = \"/builds\"\ncache_dir = \"/cache\"\n[runners.custom]\n" + indented("  ", custom),
		},
		"only a header": {
			in:   "[[runners]]",
			want: "[[runners]]\n  executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n  [runners.custom]\n" + indented("    ", custom),
		},
		"an older one of ours": {
			in: "[[runners]]\nexecutor='custom'\nbuilds_dir='/b'\ncache_dir='/c'\n[runners.cache]\nType='s3'\n\n" +
				"[ runners . \"custom\" ]\nrun_exec = '/opt/cleanroom'   # here\n'run_args' = [ \"run\",\n \"--old\" ]\nforeign = true\nprepare_exec_timeout = 7200\n\n[other]\nx = 1\n",
			want: "[[runners]]\nexecutor='custom'\nbuilds_dir='/b'\ncache_dir='/c'\n[runners.cache]\nType='s3'\n\n" +
				"[ runners . \"custom\" ]\nrun_exec = \"/usr/bin/cleanroom\"   # here\n'run_args' = [\"run\"]\nforeign = true\nprepare_exec_timeout = 7200\n" +
				without(custom, "run_exec", "run_args", "prepare_exec_timeout") + "\n[other]\nx = 1\n",
		},
		"in braces": {
			in: inline,
			want: "[[runners]]\nname='x'\ncustom = {run_exec=\"/usr/bin/cleanroom\", foreign=1, " +
				strings.ReplaceAll(strings.TrimSuffix(without(custom, "run_exec"), "\n"), "\n", ", ") + "} # c\n" +
				"executor = \"custom\"\nbuilds_dir = \"/builds\"\ncache_dir = \"/cache\"\n",
		},
		"in empty braces": {
			in: "[[runners]]\ncustom = {}\n",
			want: "[[runners]]\ncustom = { " + strings.ReplaceAll(strings.TrimSuffix(custom, "\n"), "\n", ", ") + " }\n" +
				"executor = \"custom\"\nbuilds_dir = \"/builds\"\ncache_dir = \"/cache\"\n",
		},
		"dotted": {
			in: "[[runners]]\n custom.run_exec = '/x/cleanroom'\n custom.\"foreign\" = 1\n name = 'x'\n",
			want: "[[runners]]\n custom.run_exec = \"/usr/bin/cleanroom\"\n custom.\"foreign\" = 1\n" + indented(" custom.", without(custom, "run_exec")) +
				" name = 'x'\n executor = \"custom\"\n builds_dir = \"/builds\"\n cache_dir = \"/cache\"\n",
		},
		"tables of the runner behind another one": {
			in: "[[runners]]\nname = 'x'\n[log]\na = 1\n[runners.docker]\nb = 2\n\n# end\n",
			want: "[[runners]]\nname = 'x'\nexecutor = \"custom\"\nbuilds_dir = \"/builds\"\ncache_dir = \"/cache\"\n[log]\na = 1\n[runners.docker]\nb = 2\n[runners.custom]\n" +
				indented("  ", custom) + "\n# end\n",
		},
		"its own configuration, a long grace": {
			in: "[[runners]]\n", opts: func(o *Options) { o.Config, o.StageGrace = `/etc/clean "room".toml`, 90*time.Second },
			want: "[[runners]]\n  executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n  [runners.custom]\n" +
				indented("    ", strings.ReplaceAll(strings.Replace(custom, "graceful_kill_timeout = 60", "graceful_kill_timeout = 120", 1),
					"args = [", `args = ["--config", "/etc/clean \"room\".toml", `)),
		},
		"a new file": {
			opts: newRunner,
			want: "concurrent = 1\n\n[[runners]]\n  name = \"new\"\n  url = \"https://gitlab.example.com\"\n  token = \"glrt-new-secret\"\n" +
				"  executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n\n  [runners.custom]\n" + indented("    ", custom),
		},
		"a new runner beside others": {
			in: usual, opts: newRunner,
			want: usual + "\n[[runners]]\n  name = \"new\"\n  url = \"https://gitlab.example.com\"\n  token = \"glrt-new-secret\"\n" +
				"  executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n\n  [runners.custom]\n" + indented("    ", custom),
		},
		"another driver, by order": {
			in: "[[runners]]\n[runners.custom]\nrun_exec='/opt/other.sh'\n", opts: func(o *Options) { o.Replace = true },
			want: "[[runners]]\n  executor = \"custom\"\n  builds_dir = \"/builds\"\n  cache_dir = \"/cache\"\n[runners.custom]\nrun_exec=\"/usr/bin/cleanroom\"\n" + without(custom, "run_exec"),
		},
	} {
		for _, newline := range []string{"\n", "\r\n"} {
			opts := options()
			if test.opts != nil {
				test.opts(&opts)
			}
			if newline == "\r\n" && !strings.Contains(test.in, "\n") {
				continue // no line ends to follow
			}
			in, want := strings.ReplaceAll(test.in, "\n", newline), strings.ReplaceAll(test.want, "\n", newline)
			out, changes, err := Register([]byte(in), opts)
			if err != nil || string(out) != want || len(changes) == 0 {
				t.Errorf("%s: %v\ngot:\n%s\nwant:\n%s", name, err, out, want)
				continue
			}
			if strings.Contains(strings.Join(changes, "\n"), "secret") {
				t.Errorf("%s: a token is shown: %q", name, changes)
			}
			again, changes, err := Register(out, opts)
			if err != nil || len(changes) != 0 || string(again) != string(out) {
				t.Errorf("%s, again: %q, %v", name, changes, err)
			}
		}
	}
}

func newRunner(o *Options) {
	o.Name, o.URL, o.Token = "new", "https://gitlab.example.com", "glrt-new-secret"
}

// without leaves out the lines of some keys.
func without(text string, keys ...string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if key, _, _ := strings.Cut(line, " "); !slices.Contains(keys, key) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func TestRegisterErrors(t *testing.T) {
	for _, test := range []struct {
		in   string
		opts func(*Options)
		err  error
		want string
	}{
		{in: usual, err: ErrRunner, want: `2 of "one", "two" fit; pick one with --name, --url or --token-prefix`},
		{in: usual, opts: func(o *Options) { o.Name = "three" }, err: ErrRunner, want: `none of "one", "two" fits; pick one with --name`},
		{in: usual, opts: func(o *Options) { o.URL = "https://gitlab.example.com/" }, err: ErrRunner, want: "2 of"},
		{in: "", err: ErrRunner, want: "add one with --name, --url and --token-file"},
		{in: usual, opts: func(o *Options) { newRunner(o); o.Name = "one" }, err: ErrRunner, want: "with another token; leave out --token-file"},
		{in: "[[runners]]\ntoken = \"glrt-secret\n", err: ErrSyntax, want: "no TOML at line 2"},
		{in: "[[runners]]\na = 1\na = 2\n", err: ErrSyntax, want: "no TOML"},
		{in: "runners = [{name = 'x'}]\n", err: ErrSyntax, want: "write each as a [[runners]] table"},
		{in: "[runners]\nname = 'x'\n", err: ErrSyntax, want: "write each as a [[runners]] table"},
		{in: "runners = [1]\n", err: ErrSyntax, want: "runner 1 is no table"},
		{in: "[[runners]]\ncustom = 1\n", err: ErrSyntax, want: "no table"},
		{in: "[[runners]]\n[runners.custom]\nrun_exec='/opt/other.sh'\n", err: ErrForeign, want: `run_exec is "/opt/other.sh"; take its place with --replace, or pick another runner with --name`},
		{in: "[[runners]]\n[runners.custom]\nconfig_exec='/opt/other.sh'\n", err: ErrForeign, want: `config_exec is "/opt/other.sh"`},
		{in: "[[runners]]\n[runners.custom]\nprepare_exec='/opt/other.sh'\n", err: ErrForeign, want: `prepare_exec is`},
		{in: "[[runners]]\n[runners.custom]\nrun_exec='/x/cleanroom'\ncleanup_exec='/opt/other.sh'\n", err: ErrForeign, want: `cleanup_exec is`},
		{in: "[[runners]]\nname='x'\nshell='pwsh'\n", err: ErrOptions, want: `runner "x" has shell = "pwsh", and a room runs scripts for bash or sh`},
		{in: "[[runners]]\nshell='powershell'\n", opts: func(o *Options) { o.Replace = true }, err: ErrOptions, want: `bash or sh`},
		{in: "[[runners]]\nshell='cmd'\n", err: ErrOptions, want: `bash or sh`},
		{opts: func(o *Options) { o.Command = "cleanroom" }, err: ErrOptions, want: "command must be an absolute path"},
		{opts: func(o *Options) { o.Config = "/a\nb" }, err: ErrOptions, want: "config must be"},
		{opts: func(o *Options) { newRunner(o); o.URL = "gitlab" }, err: ErrOptions, want: "needs --url, where its GitLab is"},
		{opts: func(o *Options) { newRunner(o); o.Name = "" }, err: ErrOptions, want: "needs --name"},
	} {
		opts := options()
		if test.opts != nil {
			test.opts(&opts)
		}
		out, _, err := Register([]byte(test.in), opts)
		if !errors.Is(err, test.err) || !strings.Contains(err.Error(), test.want) || out != nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %q", test.in, err, test.want)
		}
	}
}

// What an admin tuned stays, unless a cancelled stage could not end in it.
func TestTimeouts(t *testing.T) {
	for value, want := range map[string]string{"5": "60", "19": "60", "20": "20", "0": "0", "300": "300"} {
		in := "[[runners]]\n[runners.custom]\ngraceful_kill_timeout = " + value + " # mine\nforce_kill_timeout = 1\ncleanup_exec_timeout = 2\n"
		out, changes, err := Register([]byte(in), options())
		if err != nil || !strings.Contains(string(out), "graceful_kill_timeout = "+want+" # mine\nforce_kill_timeout = 1\ncleanup_exec_timeout = 2\n") {
			t.Errorf("%s: %v\n%s", value, err, out)
		}
		said := strings.Contains(strings.Join(changes, "\n"), "custom.graceful_kill_timeout = 60 (was "+value+": room.stage_grace needs at least 20)")
		if said != (value != want) {
			t.Errorf("%s: %q", value, changes)
		}
	}
}

// The runner reads over a byte order mark, so it stays.
func TestByteOrderMark(t *testing.T) {
	opts := options()
	opts.Name = "one"
	out, changes, err := Register([]byte(mark+usual), opts)
	if err != nil || len(changes) == 0 || !strings.HasPrefix(string(out), mark+"# written") || strings.Count(string(out), mark) != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	again, changes, err := Register(out, opts)
	if err != nil || len(changes) != 0 || string(again) != string(out) {
		t.Errorf("again: %q, %v", changes, err)
	}
}

func TestReadToken(t *testing.T) {
	if token, err := ReadToken(strings.NewReader(" glrt-x\r\n")); err != nil || token != "glrt-x" {
		t.Errorf("%q, %v", token, err)
	}
	for _, bad := range []string{"", "\n", "two words", "two\nlines", "\x00", strings.Repeat("x", 5000)} {
		if _, err := ReadToken(strings.NewReader(bad)); !errors.Is(err, ErrOptions) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path, link := filepath.Join(dir, "config.toml"), filepath.Join(dir, "link.toml")
	opts := options()
	if _, err := File(path, opts); !errors.Is(err, ErrRunner) {
		t.Errorf("nothing to register: %v", err)
	}
	newRunner(&opts)
	if _, err := File(filepath.Join(dir, "none", "config.toml"), opts); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "none is missing: make it") {
		t.Errorf("a folder that is missing: %v", err)
	}
	if changes, err := File(path, opts); err != nil || len(changes) != 1 {
		t.Fatalf("%q, %v", changes, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file: %v, %v", info.Mode(), err)
	}

	err := errors.Join(os.WriteFile(path, []byte(usual), 0o640), os.Chmod(path, 0o640), os.Symlink(path, link))
	if os.Geteuid() == 0 {
		err = errors.Join(err, os.Chown(path, 12, 34))
	}
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(path)
	opts = options()
	opts.Name = "one"
	if changes, err := File(link, opts); err != nil || len(changes) == 0 {
		t.Fatalf("%q, %v", changes, err)
	}
	for _, p := range []string{path, path + ".bak"} {
		after, err := os.Stat(p)
		if err != nil || after.Mode() != before.Mode() || !sameOwner(before, after) {
			t.Errorf("%s: mode %v, %v", p, after.Mode(), err)
		}
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link is gone")
	}
	if text, err := os.ReadFile(path + ".bak"); err != nil || string(text) != usual {
		t.Errorf("the copy: %s, %v", text, err)
	}

	if err := os.Remove(path + ".bak"); err != nil {
		t.Fatal(err)
	}
	if changes, err := File(path, opts); err != nil || len(changes) != 0 {
		t.Errorf("again: %q, %v", changes, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left in the folder: %v, %v", entries, err)
	}

	broken := filepath.Join(dir, "broken.toml")
	if err := os.WriteFile(broken, []byte("[[runners]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := File(broken, options()); !errors.Is(err, ErrSyntax) {
		t.Error(err)
	}
	if text, err := os.ReadFile(broken); err != nil || string(text) != "[[runners]\n" {
		t.Errorf("a broken file was touched: %q, %v", text, err)
	}
	if _, err := File(dir, options()); !errors.Is(err, ErrSyntax) {
		t.Errorf("a folder: %v", err)
	}
}

func sameOwner(a, b os.FileInfo) bool {
	owner := func(i os.FileInfo) [2]uint64 {
		v := reflect.ValueOf(i.Sys()).Elem()
		return [2]uint64{v.FieldByName("Uid").Uint(), v.FieldByName("Gid").Uint()}
	}
	return owner(a) == owner(b)
}

// Whatever the text: an error, or a result that a second run leaves alone and
// that differs from the text only below runners.
func FuzzRegister(f *testing.F) {
	f.Add(usual, "one")
	f.Add("", "")
	f.Add(mark+"[[runners]]\nname = 'x'", "x")
	f.Add("[[runners]]\ncustom = {run_exec = '''/x/cleanroom''', a = [{b = 1}]}\n[runners.docker]\nx.y.z = 1", "")
	f.Add("[[runners]]\ncustom.x = 1\r\n[[runners]]\r\nname = \"\"\"a\nb\"\"\" # c", "a\nb")
	f.Add("[[runners]]\n[[runners.custom.x]]\ny = 2020-01-01\n[runners.z]", "")
	f.Fuzz(func(t *testing.T, text, name string) {
		opts := options()
		opts.Name = name
		out, changes, err := Register([]byte(text), opts)
		if errors.Is(err, ErrVerify) && !strings.Contains(text, "nan") {
			t.Fatalf("the edit went wrong: %v", err)
		}
		if err != nil {
			return
		}
		var before, after map[string]any
		if toml.Unmarshal([]byte(strings.TrimPrefix(text, mark)), &before) != nil || toml.Unmarshal(bytes.TrimPrefix(out, []byte(mark)), &after) != nil {
			t.Fatal("no TOML")
		}
		delete(before, "runners")
		delete(after, "runners")
		if len(before)+len(after) > 0 && !reflect.DeepEqual(before, after) && !strings.Contains(text, "nan") {
			t.Errorf("changed %v to %v", before, after)
		}
		opts.Name = ""
		if _, again, err := Register(out, options()); err == nil && len(again) != 0 && len(changes) != 0 {
			t.Errorf("a second run changes %q", again)
		}
	})
}
