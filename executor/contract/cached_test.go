package contract

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// quoted as the runner does (ShellEscape in its helpers).
func quoted(text string) string {
	return "$'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\t", `\t`).Replace(text) + "'"
}

// outer is what a runner's script is around what it evaluates, by version.
var outer = map[string]string{
	"19":            "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\ncase \"$(set -o)\" in *\"pipefail\"*) set -o pipefail;; esac; set -o errexit\nset +o noclobber\n(trap 'exit 1' TERM; eval %s) < /dev/null\nexit 0\n",
	"17":            "#!/usr/bin/env bash\n\nif set -o | grep pipefail > /dev/null; then set -o pipefail; fi; set -o errexit\nset +o noclobber\n: | eval %s\nexit 0\n",
	"17 bash check": "set -o errexit\neval %s\nexit 0\n",
}

// extracts is how the runner restores a cache: each fallback in the branch of
// failure of what comes before it.
func extracts(more string, files ...string) string {
	if len(files) == 0 {
		return ""
	}
	return "  if gitlab-runner cache-extractor --file " + files[0] + " --timeout 10 " + more + " ; then\n    echo $'\\x1b[32;1mok'\n  else\n    echo failed\n" +
		extracts(more, files[1:]...) + "  fi\n"
}

func guardedBy(commands string) string {
	return "export A=$'it\\'s $(cache-extractor --file x) \\n'\ncd /builds/garden/shed\nif gitlab-runner --version >/dev/null 2>&1 ; then\n" + commands + "else\n  echo missing\nfi\n"
}

func archives(rest string) string {
	return "  cat << EOF > /builds/x.tmp/env\nCACHE_METADATA=\"{}\"\nEOF\n\n  if gitlab-runner cache-archiver " + rest + " ; then\n    echo ok\n  else\n    echo failed\n  fi\n  rm \"-f\" \"/builds/x.tmp/env\"\n"
}

func TestCacheFiles(t *testing.T) {
	c := &Call{Variables: map[string]string{tempProjectDir: "/builds/garden/shed.tmp"}}
	const up = "../../../cache/garden/shed/"
	for name, test := range map[string]struct {
		script string
		want   CacheFiles
	}{
		"one": {guardedBy(extracts("", up+"tools/cache.zip")), CacheFiles{Restored: [][]string{{"/cache/garden/shed/tools/cache.zip"}}}},
		"two, with fallbacks": {guardedBy(extracts("", up+"a/cache.zip", up+"b/cache.zip", up+"c/cache.zip")) + guardedBy(extracts("", up+"d/cache.zip")),
			CacheFiles{Restored: [][]string{{"/cache/garden/shed/a/cache.zip", "/cache/garden/shed/b/cache.zip", "/cache/garden/shed/c/cache.zip"}, {"/cache/garden/shed/d/cache.zip"}}}},
		"two in one": {guardedBy(extracts("", up+"a/cache.zip") + extracts("", up+"b/cache.zip")),
			CacheFiles{Restored: [][]string{{"/cache/garden/shed/a/cache.zip"}, {"/cache/garden/shed/b/cache.zip"}}}},
		"odd keys": {guardedBy(extracts("", quoted(up+"it's a $KEY\n*/cache.zip"), `$'`+up+`d\xc3\xa9p\303\264t/cache.zip'`, `"`+up+`a b/cache.zip"`)),
			CacheFiles{Restored: [][]string{{"/cache/garden/shed/it's a $KEY\n*/cache.zip", "/cache/garden/shed/dépôt/cache.zip", "/cache/garden/shed/a b/cache.zip"}}}},
		"absolute": {guardedBy(extracts("", "/cache/garden/shed/a/cache.zip")), CacheFiles{Restored: [][]string{{"/cache/garden/shed/a/cache.zip"}}}},
		"archived": {guardedBy(archives("--file " + up + "tools/cache.zip --alternate-file " + up + "0123/cache.zip --timeout 10 --path lib/ --path " + quoted("--url") + " --env-file /x")),
			CacheFiles{Archived: []string{"/cache/garden/shed/tools/cache.zip"}}},
		"the runner's own S3":   {guardedBy(archives("--file " + up + "tools/cache.zip --timeout 10 --path lib/ --url " + quoted("https://s3.test/x?y=z"))), CacheFiles{}},
		"its restoring":         {guardedBy(extracts("--url "+quoted("https://s3.test/x?y=z"), up+"tools/cache.zip", up+"other/cache.zip")), CacheFiles{}},
		"its GCS":               {guardedBy(archives("--file " + up + "tools/cache.zip --gocloud-url " + quoted("gs://x/y"))), CacheFiles{}},
		"nothing":               {guardedBy("  echo\n"), CacheFiles{}},
		"a value that looks so": {"export X=" + quoted("gitlab-runner cache-extractor --file ../x") + "\n", CacheFiles{}},
	} {
		for version, outer := range outer {
			got, err := c.CacheFiles(fmt.Appendf(nil, outer, quoted(test.script)))
			if err != nil || !reflect.DeepEqual(got, test.want) {
				t.Errorf("%s of %s: %v, %v; want %v", name, version, got, err, test.want)
			}
		}
	}
	for name, script := range map[string]string{
		"no bash":               "if",
		"nothing evaluated":     "echo",
		"evaluated at run time": `eval "$SCRIPT"`,
		"not bash in it":        "eval " + quoted("if"),
		"a file by variable":    "eval " + quoted("gitlab-runner cache-archiver --file $X"),
		"a file by command":     "eval " + quoted("gitlab-runner cache-archiver --file $(pwd)"),
		"a pattern":             "eval " + quoted("gitlab-runner cache-archiver --file ../*"),
		"no file":               "eval " + quoted("gitlab-runner cache-extractor --timeout 10"),
	} {
		if got, err := c.CacheFiles([]byte(script)); !errors.Is(err, ErrScript) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := (&Call{}).CacheFiles([]byte("eval ''")); !errors.Is(err, ErrScript) {
		t.Error(err)
	}
}

func TestCacheKeys(t *testing.T) {
	c := callWith(t, map[string]string{"CI_COMMIT_REF_SLUG": "spring", "CACHE_FALLBACK_KEY": "last/", "A_FILE": "content"}, `,
		"git_info": {"repo_url": "https://gitlab-ci-token:x@gitlab.test/garden/shed.git", "ref": "spring"},
		"cache": [{"key": "deps-$CI_COMMIT_REF_SLUG-non_protected", "fallback_keys": ["deps-main-non_protected", "../up"]}, {"paths": ["x"]}]`)
	if got, want := c.cacheKeys(), []string{"../up", "deps-main-non_protected", "deps-spring-non_protected", "last", "last/", "spring", "up"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	path := func(key string) string { return "garden/shed/" + key + "/cache.zip" }
	for file, want := range map[string][2]string{
		path("deps-spring-non_protected"):               {"deps-spring-non_protected", path("deps-spring-protected")},
		path(hashed("deps-spring-non_protected")):       {"deps-spring-non_protected", path(hashed("deps-spring-protected"))},
		path(hashed("deps-main-non_protected")):         {"deps-main-non_protected", path(hashed("deps-main-protected"))},
		path(hashed("unknown-non_protected")):           {hashed("unknown-non_protected"), ""},
		path("unknown-non_protected"):                   {"unknown-non_protected", path("unknown-protected")},
		path("a/b-non_protected"):                       {"a/b-non_protected", path("a/b-protected")},
		path("plain"):                                   {"plain", ""},
		path("deps-protected"):                          {"deps-protected", ""},
		"garden/shed-empty/plain/cache.zip":             {"plain", ""},
		"elsewhere/deps-spring-non_protected/cache.zip": {"elsewhere/deps-spring-non_protected", "elsewhere/deps-spring-protected/cache.zip"},
		"garden/shedx/plain/cache.zip":                  {"garden/shedx/plain", ""},
		"odd":                                           {"odd", ""},
	} {
		if got := c.CacheKey(file); got != want[0] {
			t.Errorf("%s: key %q, want %q", file, got, want[0])
		}
		if got, ok := c.ProtectedFile(file); got != want[1] || ok != (want[1] != "") {
			t.Errorf("%s: %q, %t; want %q", file, got, ok, want[1])
		}
	}
	none := callWith(t, map[string]string{"CACHE_FALLBACK_KEY": "x"}, "")
	if got := none.cacheKeys(); len(got) > 0 {
		t.Errorf("%q of a job without caches", got)
	}
	if got := none.CacheKey("project-2/k/cache.zip"); got != "k" {
		t.Error(got)
	}
}

// FuzzCacheFiles has arbitrary text as the runner's script, and as what it
// evaluates: nothing but plain files come out, or an error in one line.
func FuzzCacheFiles(f *testing.F) {
	for _, outer := range outer {
		f.Add(fmt.Sprintf(outer, quoted(guardedBy(extracts("", "../a/cache.zip", "'../b c'")))))
	}
	f.Add(guardedBy(archives("--file $'\\x2e./x' --alternate-file y")))
	f.Add("(eval \"a\\\"b\")")
	f.Fuzz(func(t *testing.T, script string) {
		c := &Call{Variables: map[string]string{tempProjectDir: "/builds/garden/shed.tmp"}}
		for _, text := range []string{script, "eval " + quoted(script)} {
			files, err := c.CacheFiles([]byte(text))
			if err != nil {
				if !errors.Is(err, ErrScript) || strings.ContainsAny(err.Error(), "\n\x1b") {
					t.Fatalf("%q", err)
				}
				continue
			}
			for _, file := range slices.Concat(append(files.Restored, files.Archived)...) {
				if !strings.HasPrefix(file, "/") || strings.Contains(file, "/../") || strings.HasSuffix(file, "/..") {
					t.Fatalf("%q", file)
				}
			}
		}
	})
}
