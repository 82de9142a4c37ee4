package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"cleanroom/cmd/internal/clitest"
	"cleanroom/executor/identity/idptest"
)

// The scripts find an issuer ($ISSUER) that runs, its CA (ca.pem), and tokens
// and job responses in files.
func TestIdentityScripts(t *testing.T) {
	idp, other := idptest.New(t), idptest.New(t)
	token := func(changes map[string]any, options ...idptest.Option) string {
		c := idptest.JobClaims(4711, 12, "https://api.example.com")
		c["environment"], c["exp"] = "production", time.Now().Add(24*time.Hour)
		maps.Copy(c, changes)
		return idp.Sign(c, options...)
	}
	facts := token(map[string]any{"aud": "https://cleanroom.test"})
	files := map[string]string{
		"ca.pem":      string(idp.CA()),
		"good.jwt":    token(nil) + "\n",
		"facts.jwt":   facts,
		"staging.jwt": token(map[string]any{"aud": "staging", "environment": "staging"}),
		"expired.jwt": token(map[string]any{"exp": time.Now().Add(-90 * time.Minute)}),
		"forged.jwt":  token(nil, idptest.WrongKey()),
		"foreign.jwt": other.Sign(idptest.JobClaims(4711, 12, "https://api.example.com")),
		"job.json":    jobResponse(t, map[string]string{"CLEANROOM_ID_TOKEN": facts, "API_ID_TOKEN": token(nil), "CI_PROJECT_PATH": "bank/vault"}),
		"stolen.json": jobResponse(t, map[string]string{"ID": token(map[string]any{"aud": "https://cleanroom.test", "job_id": "1"})}),
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/identity", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("ISSUER", idp.URL)
			for name, text := range files {
				if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(text), 0o600); err != nil {
					return err
				}
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": clitest.Exits, "lines": clitest.Lines, "expand": expand},
	})
}

// expand FILE replaces $VARIABLES in a file.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// jobResponse is one of GitLab Runner 17, with these variables.
func jobResponse(t *testing.T, variables map[string]string) string {
	t.Helper()
	var list []map[string]any
	for key, value := range variables {
		list = append(list, map[string]any{"key": key, "value": value})
	}
	data, err := json.Marshal(map[string]any{
		"id": 4711, "job_info": map[string]any{"name": "dig", "project_id": 12}, "git_info": map[string]any{"ref": "main", "ref_type": "branch"},
		"variables": list,
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
