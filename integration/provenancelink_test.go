package integration

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/provenance"
)

// signedBy is the public key that others verify provenance by.
func (s *site) signedBy() crypto.PublicKey {
	s.t.Helper()
	block, _ := pem.Decode([]byte(s.cleanroom("audit", "key", "--pem")))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(s.t, err)
	return public
}

// TestProvenanceThroughLinks: where the folder of artifacts is a link, each
// file that is stored and named has the digest that was signed, or nothing is
// stored and the job's log says why.
func TestProvenanceThroughLinks(t *testing.T) {
	const file = "dist/provenance.intoto.jsonl"
	s, _ := audited(t, provenanceConfig)
	public := s.signedBy()
	const made = "rm -rf dist out; mkdir out; echo made >out/a; "
	for name, test := range map[string]struct {
		script string
		paths  []string
		says   string   // in the log of a job that must fail; empty: it must go well
		signed []string // of the archive, by the provenance in it
	}{
		"by both":              {made + "ln -s out dist", []string{"dist/*", "out"}, "", []string{"dist/a", "out/a"}},
		"by both, and planted": {made + "ln -s out dist; echo forged >out/provenance.intoto.jsonl", []string{"dist/*", "out"}, `"out/provenance.intoto.jsonl" was replaced by "shop/items/` + file + `", since a link leads there`, nil},
		"to itself":            {made + "ln -s . dist; echo made >b", []string{"dist/b", file}, "", []string{"dist/b"}},
		"of the whole path":    {made + "ln -s $CI_PROJECT_DIR/out dist", []string{"dist/*"}, "the provenance cannot be put among the artifacts, as " + file, nil},
		"out of the project":   {made + "mkdir -p ../../elsewhere; echo made >../../elsewhere/a; ln -s ../../elsewhere dist", []string{"dist/*"}, "", []string{"dist/a"}},
		"of the file":          {made + "ln -s ../out/a out/provenance.intoto.jsonl; ln -s out dist", []string{"dist/*"}, "", []string{"dist/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.run(gitlab.JobSpec{Project: project, Name: strings.ReplaceAll(name, " ", "-"), Script: []string{test.script},
				Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: test.paths}}})
			if test.says != "" {
				r.says(t, test.says)
				if r.State == job.Success {
					t.Errorf("it went well, and stored %q", s.unzipped(r.ID))
				}
				return
			}
			r.is(t, job.Success, "", 0)
			files := s.unzipped(r.ID)
			envelope := []byte(files[file])
			for _, path := range test.signed {
				if _, err := provenance.Sigstore(envelope, public, strings.NewReader(files[path])); err != nil || files[path] != "made\n" {
					t.Errorf("%s, %q: %v\n%q\n%s", path, files[path], err, files, r.log)
				}
			}
			for path, content := range files {
				if _, err := provenance.Sigstore(envelope, public, strings.NewReader(content)); err == nil && content != "made\n" {
					t.Errorf("it vouches for %s: %q", path, content)
				}
			}
		})
	}
}

// TestProvenanceByCommand: a command that has the key signs provenance as it
// signs the log, and each image is named by the digest that it can be pulled by;
// where none is known, by what the engine calls it.
func TestProvenanceByCommand(t *testing.T) {
	reg := stock(t)
	app := reg.Address + "/" + appName
	hsm := t.TempDir()
	sign := filepath.Join(hsm, "sign")
	must(t, os.WriteFile(sign, []byte(`#!/bin/sh
set -e
[ ! -e `+hsm+`/away ] || { echo 'no such token' >&2; exit 1; }
f=$(mktemp); trap 'rm -f $f' EXIT; cat >$f
openssl pkeyutl -sign -rawin -inkey `+hsm+`/key -in $f
`), 0o700))
	command(t, "openssl", "genpkey", "-algorithm", "ed25519", "-out", hsm+"/key")
	config, _ := pulling(t, "")
	s, _ := audited(t, fmt.Sprintf("%s[audit]\nsign_command = [%q]\npublic_key = %q\n", config, sign, command(t, "openssl", "pkey", "-in", hsm+"/key", "-pubout")))
	public := s.signedBy()
	spec := gitlab.JobSpec{Project: project, Image: &gitlab.Image{Name: app}, Services: []gitlab.Image{{Name: reg.Address + "/" + otherName, Alias: "other", Command: []string{"sleep", "60"}}},
		Credentials: []gitlab.Credential{{Type: "registry", URL: reg.Address, Username: reg.User, Password: reg.Password}},
		Script:      []string{"echo made >a"}, Artifacts: []gitlab.Artifact{{Type: "archive", Format: "zip", Paths: []string{"a"}}}}
	r := s.run(spec)
	r.is(t, job.Success, "", 0)
	envelope := s.cleanroom("audit", "provenance", fmt.Sprint(r.ID))
	if _, err := provenance.Sigstore([]byte(envelope), public, strings.NewReader("made\n")); err != nil {
		t.Fatal(err)
	}
	var e struct{ Payload []byte }
	var said struct {
		Predicate struct {
			BuildDefinition struct {
				ResolvedDependencies []struct {
					Name, URI   string
					Digest      map[string]string
					Annotations map[string]string
				}
			}
		}
	}
	must(t, json.Unmarshal([]byte(envelope), &e))
	must(t, json.Unmarshal(e.Payload, &said))
	got := map[string]string{}
	for _, d := range said.Predicate.BuildDefinition.ResolvedDependencies {
		got[d.Name] = fmt.Sprint(d.URI, " ", d.Digest, " ", d.Annotations)
	}
	digest := strings.TrimPrefix(reg.digest, "sha256:")
	helper := strings.TrimPrefix(strings.TrimSpace(command(t, "docker", "image", "inspect", "--format", "{{.Id}}", "cleanroom/helper")), "sha256:")
	for role, want := range map[string]string{
		"job":     "docker://" + reg.Address + "/shop/app@sha256:" + digest + " map[sha256:" + digest + "] map[]",
		"service": "docker://" + reg.Address + "/shop/other@sha256:" + digest + " map[sha256:" + digest + "] map[]",
		"helper":  " map[sha256:" + helper + "] map[digestOf:image id]",
	} {
		if got[role] != want {
			t.Errorf("%s image: %s, want %s", role, got[role], want)
		}
	}
	has(t, s.cleanroom("audit", "verify"), "is genuine")

	// A key that is away: nothing is stored without.
	id := s.submit(gitlab.JobSpec{Project: project, Script: []string{"echo made >a; echo up; sleep 3"}, Artifacts: spec.Artifacts})
	s.until(id, "up\n")
	put(t, hsm+"/away", nil)
	if st := s.wait(id); st.State == job.Success {
		t.Errorf("it was stored: %q", s.unzipped(id))
	}
	must(t, os.Remove(hsm+"/away"))
	s.cleanroom("reap")
	s.refused("there is no provenance of it", "audit", "provenance", fmt.Sprint(id))
}
