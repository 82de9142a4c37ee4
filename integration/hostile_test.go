package integration

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// What the hostile job has: two secrets, and a masked variable.
const (
	hostileKey    = `aab4c/Zq+9"w$T'kaab4c/Zq+9"w$U'k` // with a repeated beginning, and all that anybody quotes
	hostilePEM    = "first line of it 5xV\nand the second one pQ8\nthe third and last 7Lm"
	hostileMasked = "masked-Value.0815_4711"
)

// way is one in which a job lets out what it knows.
type way struct {
	name  string
	lines []string
	limit string // it cannot be caught: words of the README that say so
}

func py(program string) string {
	return "python3 -uc 'import base64, html, json, os, sys, time, urllib.parse as u; k = os.environ[\"API_KEY\"]; " + program + "'"
}

var ways = []way{
	{name: "as it is", lines: []string{`echo "plain $API_KEY."`}},
	{name: "a byte at a time", lines: []string{`for i in $(seq 0 $((${#API_KEY} - 1))); do printf %s "${API_KEY:$i:1}"; sleep 0.03; done; echo`}},
	{name: "in two, with a pause", lines: []string{`printf %s "${API_KEY:0:9}"; sleep 0.5; echo "${API_KEY:9}"`}},
	{name: "by turns on two streams", lines: []string{py(`[(sys.stderr, sys.stdout)[i % 2].write(c) for i, c in enumerate(k)]`)}},
	{name: "half on each stream", lines: []string{`printf %s "${API_KEY:0:16}"; printf '%s\n' "${API_KEY:16}" >&2`}},
	{name: "after its own beginning", lines: []string{`echo "${API_KEY:0:9}$API_KEY"`}},
	{name: "from its file", lines: []string{`cat "$API_KEY_FILE"; cat -v "$API_KEY_FILE"; echo`}},
	{name: "with the environment", lines: []string{`env | grep API_KEY; export -p | grep API_KEY; declare -p API_KEY`}},
	{name: "by a process behind", lines: []string{`(sleep 0.3; echo "$API_KEY") & wait`}},
	{name: "to a terminal", lines: []string{`script -qec 'echo "$API_KEY"; echo "$PEM"' /dev/null`}},
	{name: "by set -x", lines: []string{`set -x; : "$API_KEY" "$PEM"; set +x`}},
	{name: "by printf %q", lines: []string{`printf '%q\n' "$API_KEY" "$PEM"`}},
	{name: "in a traceback", lines: []string{py(`raise ValueError(k)`) + " || true"}},
	{name: "in a progress bar", lines: []string{py(`[(print(f"\rhttps://ci:{k}@pypi.test/simple {i * 20}%", end=""), time.sleep(0.05)) for i in range(6)]; print()`)}},
	{name: "base64", lines: []string{`printf %s "$API_KEY" | base64; printf 'x%s' "$API_KEY" | base64; printf 'xy%s' "$API_KEY" | base64`}},
	{name: "base64 over lines", lines: []string{`printf %s "$API_KEY" | base64 -w 20`}},
	{name: "base64 for URLs", lines: []string{py(`print(base64.urlsafe_b64encode(k.encode()).decode().rstrip("="))`)}},
	{name: "base64 of base64", lines: []string{`printf %s "$API_KEY" | base64 | base64`}},
	{name: "hex", lines: []string{`printf %s "$API_KEY" | od -An -v -tx1`, py(`print(k.encode().hex().upper())`)}},
	{name: "in a URL", lines: []string{py(`print(u.quote(k), u.quote(k, safe=""), u.quote_plus(k).replace("%2B", "%2b"), repr(k))`)}},
	{name: "in JSON", lines: []string{py(`print(json.dumps(k), json.dumps(json.dumps({"a": k})))`)}},
	{name: "in HTML", lines: []string{py(`print(html.escape(k))`)}},
	{name: "reversed", lines: []string{`printf %s "$API_KEY" | rev; echo`}},
	{name: "as UTF-16", lines: []string{py(`sys.stdout.buffer.write(k.encode("utf-16-le") + b"\n")`)}},
	{name: "with zero bytes", lines: []string{py(`print("\0".join(k))`)}},
	{name: "coloured", lines: []string{`printf '\033[31m%s\033[0m\033[1m%s\033[0m\n' "${API_KEY:0:9}" "${API_KEY:9}"`}},
	{name: "with blanks", lines: []string{py(`print(" ".join(k))`)}},
	{name: "wrapped", lines: []string{`printf %s "$API_KEY" | fold -w 7; echo`}},
	{name: "of several lines", lines: []string{`echo "$PEM"; echo $PEM; printf %s "$PEM" | sed -n 2p; printf '%s\n' "$PEM" | sed 's/$/\r/'`}},
	{name: "a masked variable", lines: []string{`echo "$MASKED"; printf %s "$MASKED" | base64`}},
	{name: "the tokens of the job", lines: []string{`echo "$CI_JOB_TOKEN"; echo "$CI_REPOSITORY_URL"; echo "$SOME_ID_TOKEN"; printf %s "$CI_JOB_TOKEN" | base64 -w 0; echo`}},
	{name: "what it masked itself", lines: []string{
		`minted=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'); cleanroom-mask "$minted"; echo "minted $minted"; echo "$minted" >/builds/minted`,
		`piped=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'); echo "$piped" | cleanroom-mask; echo "piped $piped"`,
		`added=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'); echo "::add-mask::$added"; echo "added $added"`,
		`echo "$minted$piped$added" | fold -w 24 >/builds/three`,
	}},

	{name: "encrypted", limit: "encrypted", lines: []string{py(`print(bytes(b ^ 0x2a for b in k.encode()).hex())`)}},
	{name: "compressed", limit: "compressed", lines: []string{`printf %s "$API_KEY" | gzip | base64 -w 0; echo`}},
	{name: "base32", limit: "base32", lines: []string{`printf %s "$API_KEY" | base32`}},
	{name: "decimal", limit: "decimal", lines: []string{`printf %s "$API_KEY" | od -An -v -tu1 -w100`}},
	{name: "a hex dump with addresses", limit: "a hex dump with addresses", lines: []string{`printf %s "$API_KEY" | od -v -tx1 -w4`}},
	{name: "with words between", limit: "with other text", lines: []string{`echo "${API_KEY:0:7} and ${API_KEY:7:7} and ${API_KEY:14:7} and ${API_KEY:21}"`}},
	{name: "in changed case", limit: "in changed case", lines: []string{py(`print(k.swapcase())`)}},
}

// windows are the parts of a text that are long enough to be told by.
func windows(text string, size int) []string {
	var all []string
	for i := 0; i+size <= len(text); i++ {
		all = append(all, text[i:i+size])
	}
	return all
}

// telltales are parts of forms of a value, of which no log may show any.
func telltales(value string) []string {
	reversed := []byte(value)
	slices.Reverse(reversed)
	all := slices.Concat(windows(value, 10), windows(string(reversed), 10), windows(hex.EncodeToString([]byte(value)), 16))
	for _, before := range []string{"", "x", "xy"} {
		code := base64.StdEncoding.EncodeToString([]byte(before + value))
		all = append(all, windows(code[4:len(code)-4], 12)...)
	}
	return all
}

// hostileConfig gives the job its secrets.
const hostileConfig = `
[[provider]]
name = "store"
kind = "store"
[[secret]]
name = "API_KEY"
provider = "store"
[[secret.deliver]]
variable = "API_KEY"
[[secret.deliver]]
as = "file"
variable = "API_KEY_FILE"
[[secret]]
name = "PEM"
provider = "store"
[[policy.rule]]
name = "all"
when = "true"
secrets = ["*"]
[[policy.rule]]
name = "fixtures"
when = 'job_name == "waived"'
warn = ["fixtures/**"]
`

func installHostile(t *testing.T) *site {
	t.Helper()
	s := install(t, rig.RunnerOptions{Config: hostileConfig, Concurrent: 3})
	for name, value := range map[string]string{"API_KEY": hostileKey, "PEM": hostilePEM} {
		file := filepath.Join(t.TempDir(), "value")
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		s.cleanroom("secret", "set", name, "--from-file", file)
	}
	return s
}

func hostile(j gitlab.JobSpec) gitlab.JobSpec {
	j.Variables = asking("API_KEY,PEM", gitlab.Variable{Key: "MASKED", Value: hostileMasked, Masked: true})
	return j
}

// TestAHostileJobPrintsItsSecret in every way that we know of. What is caught
// shows in no log; what cannot be caught is a limit that the README names.
func TestAHostileJobPrintsItsSecret(t *testing.T) {
	s := installHostile(t)
	var script []string
	for _, w := range ways {
		script = append(append(script, "echo '=== "+w.name+"'"), w.lines...)
	}
	script = append(script, "echo '=== the end'", `printf 'progress 10%%\rprogress 100%%\r\n\001\377 ok\n'`)
	r := s.run(hostile(gitlab.JobSpec{
		IDTokens: map[string][]string{"SOME_ID_TOKEN": {"https://api.test"}}, Script: script,
		AfterScript: []string{`echo "after $API_KEY."; cat /builds/minted /builds/three`},
	}))
	r.is(t, job.Success, "", 0)
	r.says(t, "plain [cleanroom: API_KEY].", "after [cleanroom: API_KEY].", "minted [cleanroom: cleanroom-mask]", "piped [cleanroom: cleanroom-mask]",
		"added [cleanroom: add-mask]", "progress 100%", " ok")
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := sections(r.log)
	tells := slices.Concat(telltales(hostileKey), telltales(hostileMasked), windows(hostilePEM, 12))
	for _, w := range ways {
		part, ok := parts[w.name]
		switch {
		case !ok:
			t.Errorf("%s: its part of the log is missing", w.name)
		case w.limit != "":
			if strings.Contains(part, "[cleanroom: ") {
				t.Errorf("%s: it was caught: it is no limit any more\n%s", w.name, part)
			}
			if !strings.Contains(string(readme), w.limit) {
				t.Errorf("%s: README.md does not name the limit %q", w.name, w.limit)
			}
		default:
			if !strings.Contains(part, "[cleanroom: ") {
				t.Errorf("%s: nothing was hidden\n%s", w.name, part)
			}
			dense := strings.Map(func(r rune) rune {
				if r <= ' ' || r == 0x7f {
					return -1
				}
				return r
			}, part)
			for _, tell := range tells {
				if strings.Contains(part, tell) || strings.Contains(dense, tell) || strings.Contains(strings.ToLower(dense), tell) {
					t.Errorf("%s: shows %q\n%s", w.name, tell, part)
					break
				}
			}
		}
	}
	if after := r.log[strings.LastIndex(r.log, "after [cleanroom"):]; strings.Count(after, "-mask]") < 4 {
		t.Errorf("what the script masked is not hidden in after_script:\n%s", after)
	}
}

// sections are the parts of a log behind the lines that name them.
func sections(log string) map[string]string {
	parts := map[string]string{}
	for _, part := range strings.Split(log, "\n=== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		parts[strings.TrimRight(name, "\r")] = text
	}
	return parts
}

// store is one way in which a job stores its secret.
type store struct {
	name  string
	lines []string
	spec  gitlab.JobSpec
	says  []string // empty: it is stored
	quiet bool     // the job fails for another reason already
}

func artifact(kind string, paths ...string) gitlab.JobSpec {
	format := map[string]string{"archive": "zip"}[kind]
	if format == "" {
		format = "gzip"
	}
	return gitlab.JobSpec{Artifacts: []gitlab.Artifact{{Type: kind, Format: format, Paths: paths, When: "always"}}}
}

var stores = []store{
	{name: "clean", lines: []string{"mkdir out; echo nothing >out/a"}, spec: artifact("archive", "out/")},
	{name: "plain", lines: []string{`mkdir out; echo "key: $API_KEY" >out/settings.env`}, spec: artifact("archive", "out/"),
		says: []string{"out/settings.env, byte 5: secret API_KEY"}},
	{name: "base64", lines: []string{`printf %s "$API_KEY" | base64 >code`}, spec: artifact("archive", "*"), says: []string{"code, byte 0: secret API_KEY"}},
	{name: "report", lines: []string{`echo "<testcase name='t'><failure>$MASKED</failure></testcase>" >report.xml`}, spec: artifact("junit", "report.xml"),
		says: []string{"report.xml, byte 28: secret MASKED"}},
	{name: "dotenv", lines: []string{`echo "TOKEN=$MASKED" >.env`}, spec: artifact("dotenv", ".env"), says: []string{".env, byte 6: secret MASKED"}},
	{name: "nested", lines: []string{
		`mkdir -p in/conf dist; echo "$API_KEY" >in/conf/a; tar -czf dist/in.tar.gz -C in .; rm -r in`,
		`python3 -m zipfile -c dist/all.zip dist/in.tar.gz; rm dist/in.tar.gz`,
	}, spec: artifact("archive", "dist/"), says: []string{"dist/all.zip, member ", "conf/a, byte 0: secret API_KEY"}},
	{name: "wheel", lines: []string{`mkdir pkg; echo "K = 'x'; P = '''$PEM'''" >pkg/__init__.py; python3 -m zipfile -c items-1.0-py3-none-any.whl pkg/`},
		spec: artifact("archive", "*.whl"), says: []string{"items-1.0-py3-none-any.whl, member pkg/__init__.py, byte ", ": secret PEM"}},
	{name: "name", lines: []string{`mkdir out; touch "out/$MASKED"; ln -s "$MASKED" out/link`}, spec: artifact("archive", "out"),
		says: []string{"out/[cleanroom: MASKED]", "out/link"}},
	{name: "raw link", lines: []string{`echo "$API_KEY" >../hidden; ln -s ../hidden gl-sast.json`},
		spec: gitlab.JobSpec{Artifacts: []gitlab.Artifact{{Type: "sast", Format: "raw", Paths: []string{"gl-sast.json"}}}}, says: []string{"gl-sast.json: not searched: it is a link"}},
	{name: "named after it", lines: []string{"touch a"},
		spec: gitlab.JobSpec{Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Name: "build-$MASKED", Paths: []string{"a"}}}}, says: []string{"the name of the artifact, byte 6: secret MASKED"}},
	{name: "chosen while it runs", lines: []string{`mkdir dirty; echo "$API_KEY" >dirty/a; echo OUT=dirty >>"$GITLAB_ENV"`},
		spec: gitlab.JobSpec{Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"$OUT/"}}}}, says: []string{"dirty/a, byte 0: secret API_KEY"}},
	{name: "cache", lines: []string{`mkdir lib; echo "$API_KEY" >lib/conf`},
		spec: gitlab.JobSpec{Cache: []gitlab.Cache{{Key: "k", Paths: []string{"lib/"}, Policy: "pull-push", When: "on_success"}}}, says: []string{"lib/conf, byte 0: secret API_KEY"}},
	{name: "untracked", lines: []string{`echo "$API_KEY" >new-file`},
		spec: gitlab.JobSpec{Project: project, Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Untracked: true}}}, says: []string{"new-file, byte 0: secret API_KEY"}},
	{name: "excluded", lines: []string{`mkdir out; echo "$API_KEY" >out/a.log; echo b >out/b`},
		spec: gitlab.JobSpec{Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"out/"}, Exclude: []string{"out/*.log"}}}}},
	{name: "after a failure", lines: []string{`echo "$API_KEY" >core; exit 3`}, spec: artifact("archive", "core"), says: []string{"core, byte 0: secret API_KEY"}, quiet: true},
	{name: "masked by itself", lines: []string{`minted=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n'); cleanroom-mask "$minted"; echo "$minted" >minted`},
		spec: artifact("archive", "minted"), says: []string{"minted, byte 0: secret cleanroom-mask"}},
	{name: "waived", lines: []string{`mkdir fixtures; echo "$API_KEY" >fixtures/a`}, spec: artifact("archive", "fixtures")},
}

// TestAHostileJobStoresItsSecret in artifacts, reports and caches: nothing of
// the stage is stored, and the job's log says where the secret is.
func TestAHostileJobStoresItsSecret(t *testing.T) {
	s := installHostile(t)
	ids := map[string]int64{}
	for _, w := range stores {
		spec := hostile(w.spec)
		spec.Name, spec.Script = w.name, w.lines
		ids[w.name] = s.submit(spec)
	}
	for _, w := range stores {
		r := s.wait(ids[w.name])
		r.hides(t, hostileKey, hostileMasked, hostilePEM)
		switch {
		case len(w.says) == 0:
			r.is(t, job.Success, "", 0)
			if len(r.Artifacts) != 1 {
				t.Errorf("%s: stored are %v\n%s", w.name, r.Artifacts, r.log)
			}
			if w.name == "waived" {
				r.says(t, "Warning: fixtures/a, byte 0: secret API_KEY (rule fixtures lets it be stored)")
			} else {
				r.says(t, "Guard: no secret in ")
			}
			continue
		case w.quiet:
			r.is(t, job.Failed, "script_failure", 3)
		default:
			r.is(t, job.Failed, "script_failure", 1)
		}
		r.says(t, append(w.says, "nothing is stored")...)
		if len(r.Artifacts) > 0 || strings.Contains(r.log, "Created cache") {
			t.Errorf("%s: stored are %v\n%s", w.name, r.Artifacts, r.log)
		}
		if len(w.lines) == 0 {
			t.Error(fmt.Sprint("nothing was tried: ", w.name))
		}
	}
}
