package integration

import (
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

// TestAJobThatPrintsItsSecret in many ways shows it in none of them, and all
// else to the byte.
func TestAJobThatPrintsItsSecret(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: `
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
[[policy.rule]]
name = "all"
when = "true"
secrets = ["API_KEY"]
`})
	const value = `aab4c/Zq+9"w$T'kaab4c/Zq+9"w$U'k` // with a repeated beginning
	file := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cleanroom("secret", "set", "API_KEY", "--from-file", file)
	r := s.run(gitlab.JobSpec{
		Variables: asking("API_KEY"),
		Script: []string{
			"exec 2>&1", // one stream: two keep no order between them, and one may come in the middle of the other's value
			`echo "plain $API_KEY."`, `cat $API_KEY_FILE; echo " file"`,
			`for i in $(seq 0 $((${#API_KEY} - 1))); do printf %s "${API_KEY:$i:1}"; sleep 0.03; done; echo " slowly"`,
			`echo "repeated ${API_KEY:0:16}$API_KEY."`,
			`printf %s "$API_KEY" >&2; echo " by stderr"`,
			`printf %s "$API_KEY" | base64; printf 'x%s' "$API_KEY" | base64 -w 10; printf %s "$API_KEY" | base64 | base64`,
			`printf %s "$API_KEY" | od -An -tx1 -w100; printf %s "$API_KEY" | rev; echo`,
			`printf '\033[31m%s\033[0m%s\n' "${API_KEY:0:9}" "${API_KEY:9}"`,
			`python3 -c 'import json, os, urllib.parse as u; k = os.environ["API_KEY"]; print(repr(k), json.dumps(k), u.quote(k), u.quote_plus(k), k.encode(), f"{k:>60}")'`,
			`python3 -c 'import os; raise ValueError(os.environ["API_KEY"])' || true`,
			`set -x; : "$API_KEY"; set +x`,
			`printf 'progress 10%%\rprogress 100%%\r\n\001\377 ok\n'`, `echo "the end"`,
		},
		AfterScript: []string{`echo "after $API_KEY."`},
	})
	r.is(t, job.Success, "", 0)
	r.says(t, "plain [cleanroom: API_KEY].", "[cleanroom: API_KEY] file", "[cleanroom: API_KEY] slowly", "after [cleanroom: API_KEY].", "progress 100%", "the end")
	plain := base64.StdEncoding.EncodeToString([]byte(value))
	for name, form := range map[string]string{ // the first half is printed by itself, too, which is no secret
		"the value": value, "its second half": value[16:], "base64": plain[:24], "hex": hex.EncodeToString([]byte(value))[:24],
	} {
		if strings.Contains(strings.NewReplacer(" ", "", "\n", "").Replace(r.log), form) {
			t.Errorf("%s is in the log:\n%s", name, r.log)
		}
	}
}
