package provenance

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	intoto "github.com/in-toto/in-toto-golang/in_toto"

	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/provenance/slsa"
	"cleanroom/executor/identity"
)

// envelope is the provenance of n files, each of which has its path for its
// content, and the statement in it.
func envelope(t *testing.T, private ed25519.PrivateKey, n int) (line, statement []byte) {
	t.Helper()
	job := provenance.Job{
		Facts:      identity.Facts{"job_id": {Value: int64(7), Source: "job response (id)"}, "sha": {Value: strings.Repeat("a1", 20), Source: "job response (git_info.sha)"}},
		Repository: "https://gitlab-ci-token:token@gitlab.example.com/shop/items.git",
		Images:     []provenance.Image{{Role: "job", Digest: "docker.io/library/python@sha256:" + strings.Repeat("0c", 32)}, {Role: "helper", ID: "sha256:" + strings.Repeat("0d", 32)}},
		Artifacts:  []provenance.Artifact{{Type: "artifact"}},
		Stage:      "upload_artifacts_on_success", Profile: "hardened", Builder: "https://ci.example.com/cleanroom", Version: "0.5.0",
		Started: time.Unix(1_790_000_000, 0), Finished: time.Unix(1_790_000_100, 0),
	}
	var files []provenance.File
	for i := range n {
		sum := sha256.Sum256([]byte(path(i)))
		files = append(files, provenance.File{Path: path(i), SHA256: sum[:], Artifacts: []int{0}})
	}
	statement, err := slsa.New(job, files, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	line, err = slsa.Seal(t.Context(), statement, private.Public().(ed25519.PublicKey), slsa.Key{Signer: private})
	if err != nil {
		t.Fatal(err)
	}
	return line, statement
}

func path(i int) string { return fmt.Sprintf("dist/%06d", i) }

func key(fill byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{fill}, ed25519.SeedSize))
}

// sigstore verifies an envelope for an artifact.
func sigstore(t *testing.T, line []byte, public crypto.PublicKey, content string) error {
	t.Helper()
	got, err := Sigstore(line, public, strings.NewReader(content))
	if err == nil && got != slsa.PredicateType {
		t.Errorf("the predicate is %q", got)
	}
	return err
}

func TestSigstoreVerifies(t *testing.T) {
	line, _ := envelope(t, key(1), slsa.MaxSubjects)
	public := key(1).Public()
	for _, i := range []int{0, 500, slsa.MaxSubjects - 1} {
		if err := sigstore(t, line, public, path(i)); err != nil {
			t.Errorf("file %d: %v", i, err)
		}
	}
	var list strings.Builder
	const many = 2 * slsa.MaxSubjects
	for i := range many {
		fmt.Fprintf(&list, "%x  %s\n", sha256.Sum256([]byte(path(i))), path(i))
	}
	long, _ := envelope(t, key(1), many)
	if err := sigstore(t, long, public, list.String()); err != nil {
		t.Errorf("a list of %d files: %v", many, err)
	}
	changed := bytes.Replace(line, []byte(`"payload":"eyJf`), []byte(`"payload":"eyJg`), 1) // "_type" is "`type"
	if bytes.Equal(changed, line) {
		t.Fatal("nothing was changed")
	}
	for name, test := range map[string]struct {
		line    []byte
		public  crypto.PublicKey
		content string
	}{
		"another file":    {line, public, "another"},
		"another key":     {line, key(2).Public(), path(0)},
		"another payload": {changed, public, path(0)},
		"a shorter list":  {long, public, strings.TrimSuffix(list.String(), "\n")},
	} {
		if err := sigstore(t, test.line, test.public, test.content); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// What in-toto's types of the predicate do not know is a mistake of ours. (Those
// of a subject know no annotations yet.)
func TestStatementIsSLSA(t *testing.T) {
	_, statement := envelope(t, key(1), 2)
	var s intoto.ProvenanceStatementSLSA1
	var raw struct{ Predicate json.RawMessage }
	if err := errors.Join(json.Unmarshal(statement, &s), json.Unmarshal(statement, &raw)); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(raw.Predicate))
	d.DisallowUnknownFields()
	if err := d.Decode(&s.Predicate); err != nil {
		t.Fatal(err)
	}
	if run := s.Predicate.RunDetails; s.Type != intoto.StatementInTotoV1 || len(s.Subject) != 2 || len(s.Predicate.BuildDefinition.ResolvedDependencies) != 3 ||
		run.BuildMetadata.InvocationID != "https://gitlab.example.com/shop/items/-/jobs/7" || run.BuildMetadata.FinishedOn.Sub(*run.BuildMetadata.StartedOn) != 100*time.Second {
		t.Errorf("%+v", s)
	}
}
