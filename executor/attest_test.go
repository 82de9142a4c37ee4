package executor

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/audit/ledger"
	"cleanroom/executor/audit/provenance"
	"cleanroom/executor/audit/provenance/slsa"
	"cleanroom/executor/audit/record"
	"cleanroom/sandbox"
)

// vouching is a job on a host with a log that signs, and one upload of it: what
// of files is stored, as the room has it then.
func vouching(t *testing.T) (j *job, log *kept, keys []ed25519.PublicKey, upload func(heap, error) (heap, error)) {
	t.Helper()
	j, _ = withSecrets(t)
	j.config.Policy.Rules = append(j.config.Policy.Rules, config.Rule{Name: "fixtures", When: "true", Warn: []string{"tests/**"}})
	j.config.Audit.ProvenanceFile = "dist/provenance.jsonl"
	log = &kept{}
	l, _, err := ledger.Init(t.Context(), j.config, "ci.test/cleanroom", func(origin, vkey string) ([]byte, error) {
		return (&Audit{}).Text(record.OfBegun, "audit init", func(r *record.Record) { r.Begun = &record.Begun{Origin: origin, Key: vkey} })
	})
	if err == nil {
		keys, err = l.PublicKeys()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := j.audited(log).PrepareStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	return j, log, keys, func(files heap, refuse error) (heap, error) {
		t.Helper()
		room := &cupboard{heap: heap{}, refuse: refuse}
		var failed error
		j.engine.during = func(s sandbox.Stage) {
			_, writes := s.Store.Choose(nil)
			if failed = s.Store.Check(t.Context(), files); failed == nil {
				failed = s.Before(t.Context(), room)
			}
			if writes[len(writes)-1] != "dist/provenance.jsonl" {
				t.Errorf("what we write may not change: %q", writes)
			}
		}
		x := j.audited(log)
		x.Audit.Seal, x.Audit.Builder, x.Attest = l.Seal, l.Builder(), x.Vouch
		if err := x.RunStage(t.Context(), j.script(), "upload_artifacts_on_success"); err != nil {
			t.Fatal(err)
		}
		return room.heap, failed
	}
}

// What a job stores is signed for, kept, recorded, and put among the files: in
// the place of what the job had there.
func TestVouch(t *testing.T) {
	j, log, keys, upload := vouching(t)
	j.response["artifacts"] = []any{map[string]any{"paths": []any{"dist", "tests"}}}
	got, err := upload(heap{"dist/a": "wheel", "dist/provenance.jsonl": "the job's own", "tests/fixture": canary + "-exec"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := provenance.Kept(j.config.DataDir, testRoom)
	if err != nil || len(lines) != 1 {
		t.Fatalf("%q, %v", lines, err)
	}
	if len(got) != 1 || got["garden/shed/dist/provenance.jsonl"] != string(lines[0]) {
		t.Errorf("%v", got)
	}
	s, err := slsa.Verify(lines[0], keys...)
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte("wheel")))
	if len(s.GetSubject()) != 1 || s.GetSubject()[0].GetName() != "dist/a" || s.GetSubject()[0].GetDigest()["sha256"] != sum {
		t.Errorf("%v", s.GetSubject())
	}
	text := s.String()
	for _, want := range []string{"https://ci.test/cleanroom", "garden/shed", "https://gitlab.test/garden/shed/-/jobs/4711", strings.Repeat("a", 40), "upload_artifacts_on_success", "hardened"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	if hash := fmt.Sprintf("%x", sha256.Sum256([]byte(canary+"-exec"))); strings.Contains(text, hash) || strings.Contains(text, canary) || strings.Contains(text, "made-up-job-token") {
		t.Errorf("what helps to guess a secret: %s", text)
	}
	if err := j.audited(log).CleanupStage(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := log.only(t, record.OfJob).Job
	if len(r.Provenance) != 1 || r.Provenance[0] != (record.Provenance{Stage: "upload_artifacts_on_success", SHA256: fmt.Sprintf("%x", sha256.Sum256(lines[0])), Subjects: 1, Files: 1, Withheld: 1}) ||
		len(r.Artifacts) != 1 || r.Artifacts[0] != (record.Artifact{Stage: "upload_artifacts_on_success", Path: "dist/a", Bytes: 5, SHA256: sum}) || len(r.Gaps) != 0 {
		t.Errorf("%s", log.text)
	}
}

func TestVouchWhereNothingIsSigned(t *testing.T) {
	j, _, _, upload := vouching(t)
	const ours = "garden/shed/dist/provenance.jsonl"
	j.response["artifacts"] = []any{map[string]any{"paths": []any{"dist"}}}
	// There is nothing to sign: what the job planted is no provenance.
	if got, err := upload(heap{"dist/provenance.jsonl": "the job's own"}, nil); err != nil || len(got) != 1 || got[ours] != "" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := upload(heap{}, nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	// Where it cannot be put, the job's own must not be stored in its place.
	if _, err := upload(heap{"dist/a": "a"}, errors.New("it is a folder")); !errors.Is(err, ErrPlace) || !ofAuthor(err) {
		t.Error(err)
	}
	// An artifact that does not take it from there gets none.
	j.response["artifacts"] = []any{map[string]any{"paths": []any{"other"}}}
	if got, err := upload(heap{"other/a": "a"}, nil); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	// Of a job about which too little is known: it is told, and stores its files.
	j.response["git_info"].(map[string]any)["repo_url"] = "nowhere"
	j.out.Reset()
	if got, err := upload(heap{"other/a": "a"}, nil); err != nil || len(got) != 0 || !strings.Contains(j.out.String(), "Warning: no provenance can be made for this job") {
		t.Errorf("%v, %v, %s", got, err, j.out.String())
	}
	j.response["git_info"].(map[string]any)["repo_url"] = "https://gitlab.test/garden/shed.git"
	// A key that is away is no reason to store files without.
	if err := os.Remove(j.config.DataDir + "/audit/key"); err != nil {
		t.Fatal(err)
	}
	if _, err := upload(heap{"other/a": "a"}, nil); err == nil || ofAuthor(err) {
		t.Error(err)
	}
}

// Reap forgets what is old, and nothing else.
func TestReapForgetsProvenance(t *testing.T) {
	j := newJob(t, "19.3")
	for _, room := range []string{"cr-a-1-b", "cr-a-2-b"} {
		if err := provenance.Keep(j.config.DataDir, room, []byte("{}\n")); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-KeepProvenance - time.Hour)
	if err := os.Chtimes(j.config.DataDir+"/audit/provenance/cr-a-1-b.intoto.jsonl", old, old); err != nil {
		t.Fatal(err)
	}
	x := j.executor()
	if err := (&Reaper{Config: j.config, Engine: j.engine, Log: x.Log, Out: &j.out, Full: full}).Reap(context.Background()); err != nil {
		t.Fatal(err)
	}
	if rooms, err := provenance.Rooms(j.config.DataDir); err != nil || len(rooms) != 1 || rooms[0] != "cr-a-2-b" {
		t.Errorf("%q, %v", rooms, err)
	}
}
