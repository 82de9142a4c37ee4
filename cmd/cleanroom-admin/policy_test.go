package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/cmd/internal/stages"
	"cleanroom/executor/identity/idptest"
)

// calls runs a command in this process: the identity provider is in it, too.
func calls(args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	c := root("/usr/bin/cleanroom")
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetArgs(args)
	err = c.Execute()
	return out.String(), errs.String(), err
}

// A token gives facts to explain with as it does in a job: verified, and meant
// for us.
func TestPolicyExplainToken(t *testing.T) {
	idp := idptest.New(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cfg := write("config.toml", fmt.Sprintf(`
[[identity.issuer]]
url = %q
audience = "cleanroom"
ca_file = %q
[[policy.rule]]
name = "only"
when = "job_id == 4711 && environment == ''"
images = ["**"]
`, idp.URL, write("ca.pem", string(idp.CA()))))

	claims := idptest.JobClaims(4711, 12, "cleanroom")
	delete(claims, "environment")
	good := idp.Sign(claims)
	for _, test := range []struct{ name, raw, stdout, fails string }{
		{"good", good, "granted by rule only", ""},
		{"other", idp.Sign(idptest.JobClaims(4711, 12, "vault")), "", `token other: audience is ["vault"], facts come from tokens for "cleanroom"`},
		{"forged", idp.Sign(claims, idptest.WrongKey()), "", "token forged: "},
		{"none", idp.Sign(claims, idptest.None()), "", "token none: "},
	} {
		stdout, stderr, err := calls("policy", "explain", "--config", cfg, "--token", write(test.name, test.raw+"\n"), "--image", "alpine")
		if test.fails == "" {
			if err != nil || !strings.Contains(stdout, test.stdout) || !strings.Contains(stdout, "ID token good ("+idp.URL+")") {
				t.Errorf("%s: %v\n%s", test.name, err, stdout)
			}
		} else if exit := (stages.Exit{}); !errors.As(err, &exit) || exit.Code != 2 || !strings.Contains(err.Error(), test.fails) || stdout != "" {
			t.Errorf("%s: %v; want %q", test.name, err, test.fails)
		}
		if strings.Contains(stdout+stderr+fmt.Sprint(err), test.raw) {
			t.Errorf("%s: the token is printed", test.name)
		}
	}

	// A job's own, too: from its variables, and not from their names.
	job := write("job.json", fmt.Sprintf(`{"id": 4711, "job_info": {"project_id": 12}, "image": {"name": "alpine"},
		"variables": [{"key": "ID_TOKEN", "value": %q}, {"key": "environment", "value": "x"}]}`, good))
	stdout, stderr, err := calls("policy", "explain", "--config", cfg, "--job", job)
	if err != nil || stderr != "" || !strings.Contains(stdout, "ID token ID_TOKEN (") || !strings.Contains(stdout, "granted by rule only") {
		t.Errorf("%v\n%s%s", err, stdout, stderr)
	}
}
