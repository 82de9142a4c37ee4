package identity

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/contract"
	"cleanroom/executor/identity/idptest"
)

const (
	audience = "https://cleanroom.test"
	jobID    = 4711
	project  = 12
)

// rig is an issuer and how we are configured to believe it.
type rig struct {
	idp   *idptest.Provider
	cfg   config.Identity
	cache string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	idp := idptest.New(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, idp.CA(), 0o600); err != nil {
		t.Fatal(err)
	}
	return &rig{idp: idp, cache: t.TempDir(), cfg: config.Identity{Issuers: []config.Issuer{{
		URL: idp.URL, Audience: audience, CAFile: ca, Skew: 30 * time.Second, KeysMaxAge: time.Hour,
	}}}}
}

// verifier is a new one, as the next process would have.
func (r *rig) verifier(t *testing.T) *Verifier {
	t.Helper()
	v, err := NewVerifier(r.cfg, r.cache)
	if err != nil {
		t.Fatal(err)
	}
	if v.Timeout != 5*time.Second {
		t.Errorf("the timeout is %s", v.Timeout)
	}
	v.Timeout = time.Minute // a loaded machine
	return v
}

// claims of the job's token, with changes.
func claims(changes map[string]any) map[string]any {
	c := idptest.JobClaims(jobID, project, audience)
	maps.Copy(c, changes)
	return c
}

// job is a job response as a runner of 19 hands it on, with these variables.
func job(variables ...contract.Variable) *contract.Job {
	protected := true
	return &contract.Job{
		ID: jobID, Token: "made-up-job-token",
		JobInfo: contract.JobInfo{Name: "dig", Stage: "morning", PipelineID: 88, ProjectID: project, ProjectName: "shed",
			ProjectFullPath: "garden/shed", NamespaceID: 3, UserID: 9},
		GitInfo:   contract.GitInfo{Ref: "main", SHA: strings.Repeat("a", 40), RefType: "branch", Protected: &protected},
		Variables: variables,
	}
}

func variable(key, value string) contract.Variable { return contract.Variable{Key: key, Value: value} }

// refused fails unless err is of that kind and says so, in one line and
// without anything of the token.
func refused(t *testing.T, err, kind error, line, raw string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Errorf("%v is no %v", err, kind)
	}
	for _, other := range []error{ErrToken, ErrDisagree, ErrIssuer} {
		if other != kind && errors.Is(err, other) {
			t.Errorf("%v is %v, too", err, other)
		}
	}
	if err == nil {
		return
	}
	if !strings.Contains(err.Error(), line) {
		t.Errorf("error is\n%s\nwant\n%s", err, line)
	}
	clean(t, err.Error(), raw)
}

// clean fails when a text is not one line, or holds a part of a token.
func clean(t *testing.T, text, raw string) {
	t.Helper()
	if strings.ContainsAny(text, "\n\r\x1b") {
		t.Errorf("%q is not one line", text)
	}
	for _, part := range strings.Split(raw, ".") {
		if len(part) >= 16 && strings.Contains(text, part[:16]) {
			t.Errorf("%q holds a part of the token", text)
		}
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }
