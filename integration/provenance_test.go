package integration

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/provenance"
)

const provenanceConfig = storeConfig + `
[[policy.rule]]
name = "fixtures"
when = "true"
warn = ["dist/fixture"]
[audit]
provenance_file = "dist/provenance.intoto.jsonl"
`

// unzipped are the files of a job's archive.
func (s *site) unzipped(id int64) map[string]string {
	s.t.Helper()
	body, err := s.rig.Artifact(s.t.Context(), id, "archive")
	if err != nil {
		s.t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			s.t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			s.t.Fatal(err)
		}
		files[f.Name] = string(text)
	}
	return files
}

// TestProvenance: a verifier that is not ours verifies what a job stored by the
// provenance that is in the very archive, whatever the job put there itself.
func TestProvenance(t *testing.T) {
	const canary, file = "canary-8f1e6b0d-provenance", "dist/provenance.intoto.jsonl"
	s, _ := audited(t, provenanceConfig)
	value := filepath.Join(t.TempDir(), "value")
	if err := os.WriteFile(value, []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cleanroom("secret", "set", "jwt-key", "--from-file", value)
	public := s.signedBy()
	archive := []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"dist/"}}}
	made := s.run(gitlab.JobSpec{Project: project, Variables: asking("JWT_PUBLIC_KEY"), Artifacts: archive, Script: []string{
		"mkdir -p dist; echo made >dist/a; printf %s $JWT_PUBLIC_KEY >dist/fixture", "echo forged >" + file, "echo kept >outside; ln -f outside " + file}})
	made.is(t, job.Success, "", 0)
	made.says(t, "Provenance: signed for 1 files")
	files := s.unzipped(made.ID)
	if files["dist/fixture"] != canary || files["dist/a"] != "made\n" {
		t.Fatalf("%q", files)
	}
	envelope := files[file]
	if got, err := provenance.Sigstore([]byte(envelope), public, strings.NewReader(files["dist/a"])); err != nil || got != "https://slsa.dev/provenance/v1" {
		t.Fatalf("%v, %q: %s", err, got, envelope)
	}
	for name, content := range map[string]string{"the file with the secret": canary, "what the job planted": "kept\n", "itself": envelope, "another file": "made\nbad"} {
		if _, err := provenance.Sigstore([]byte(envelope), public, strings.NewReader(content)); err == nil {
			t.Errorf("it vouches for %s", name)
		}
	}
	id := fmt.Sprint(made.ID)
	if printed := s.cleanroom("audit", "provenance", id); printed != envelope {
		t.Errorf("kept:\n%s\nuploaded:\n%s", printed, envelope)
	}
	has(t, s.cleanroom("audit", "show", id), "provenance", "of 1 files, by", "silent about 1 more", "dist/a, 5 bytes")
	has(t, s.cleanroom("audit", "verify"), "is genuine")
	s.noSecretBelow(filepath.Join(s.runner.DataDir(), "audit"), canary)

	// A link that leads elsewhere is not followed: nothing is stored.
	led := s.run(gitlab.JobSpec{Project: project, Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"dist", file}}},
		Script: []string{"rm -rf dist; ln -s /tmp dist; echo made >a; echo forged >/tmp/provenance.intoto.jsonl"}})
	if led.State == job.Success {
		if got := s.unzipped(led.ID); strings.Contains(got[file], "forged") {
			t.Errorf("the job's own was stored: %q", got)
		}
	}
	// Nor is a file of the job's own stored where there is nothing to sign.
	alone := s.run(gitlab.JobSpec{Project: project, Artifacts: archive, Script: []string{"mkdir -p dist; echo forged >" + file}})
	alone.is(t, job.Success, "", 0)
	if got := s.unzipped(alone.ID)[file]; got != "" {
		t.Errorf("the job's own was stored: %q", got)
	}
	s.refused("there is no provenance of it", "audit", "provenance", fmt.Sprint(alone.ID))
	// One that was put in the place of another job's is none of that job.
	dir := filepath.Join(s.runner.DataDir(), "audit", "provenance")
	kept, err := filepath.Glob(filepath.Join(dir, "*-"+id+"-*"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%v, %q", err, kept)
	}
	moved := strings.Replace(kept[0], "-"+id+"-", fmt.Sprintf("-%d-", alone.ID), 1)
	must(t, os.Rename(kept[0], moved))
	s.refused("somebody moved it", "audit", "provenance", fmt.Sprint(alone.ID))
	s.refused("is missing", "audit", "provenance", id)
	// One of the job's own that is not, byte for byte, what the record has.
	must(t, os.Remove(moved))
	put(t, kept[0], []byte(strings.Replace(envelope, "{", "{ ", 1)))
	s.refused("no record of the job has its SHA-256", "audit", "provenance", id)
	put(t, kept[0], []byte(strings.Replace(envelope, "{", "{ ", 1)+envelope))
	if out, err := s.tryCleanroom("audit", "provenance", id); err == nil || !strings.HasPrefix(out, envelope) || strings.Contains(out, "is missing") {
		t.Errorf("%v: %s", err, out)
	}
}
