package record

import (
	"strings"
	"time"
)

// samples are one record of each kind, by the name of its golden file.
func samples() map[string]*Record {
	at := time.Date(2026, 11, 26, 22, 10, 4, 123456789, time.FixedZone("", 3600))
	head := func(kind Kind, command string) *Record {
		return &Record{Kind: kind, ID: MakeID(kind, "sample"), At: at, Host: Host{"ci-1", "0.5.0"}, By: By{Command: command, UID: 999, User: "gitlab-runner"}}
	}
	all := map[string]*Record{}
	job := head(OfJob, "cleanup")
	job.Job = sampleJob(at)
	all["job"] = job
	hostile := head(OfJob, "reap")
	hostile.Job = &Job{
		Room: "cr-runner-7-00ff00ff00", Job: 1<<53 + 1, Project: "a\x1b[2Jb/\u202ec\xffd", Outcome: System,
		Facts: []Fact{{"ref", "\x00\n\u2028" + strings.Repeat("é", 400), "job response (git_info.ref)"}, {"user_id", int64(1) << 60, "job response (job_info.user_id)"}},
		End:   End{Why: "its runner is gone", Complete: true},
		Gaps:  []string{"the dossier of the room is missing: nobody knows what ran"},
	}
	all["hostile"] = hostile
	reap := head(OfReap, "reap")
	reap.Reap = &Reap{
		Room: "cr-runner-4711-0011223344", Job: 4711, Project: "group/project", Record: MakeID(OfJob, "cr-runner-4711-0011223344"),
		Secrets: []Secret{{Name: "deploy", Provider: "vault", Outcome: "revoked", Leases: []Lease{{ID: "database/creds/x/1", Issued: at, Ended: at.Add(time.Hour), Outcome: "revoked"}}}},
		End:     End{Why: "its cleanup began and did not end", Millis: 1200, Complete: true},
	}
	all["reap"] = reap
	config := head(OfConfig, "prepare")
	config.Config = &Config{Before: strings.Repeat("0a", 32), After: strings.Repeat("0b", 32), Sections: []string{"images", "policy"}}
	all["config"] = config
	rules := head(OfPolicy, "prepare")
	rules.Policy = &Policy{Before: strings.Repeat("0c", 32), After: strings.Repeat("0d", 32), Added: []string{"release"}, Removed: []string{"old"}, Changed: []string{"deploy"}, Moved: true}
	all["policy"] = rules
	secret := head(OfSecret, "secret rotate")
	secret.Secret = &Change{Name: "npm", Provider: "store", Action: "rotated", Version: "4"}
	all["secret"] = secret
	cache := head(OfCache, "cache wipe")
	cache.Cache = &Cache{Caches: []string{"shop/items: deps-protected"}, Left: []Item{{"cache", "shop/items: old-protected", "the disk is broken"}}}
	all["cache"] = cache
	key := head(OfKey, "audit rotate")
	key.Key = &Key{Before: "ci-1+1234abcd+AAAA", After: "ci-1+5678abcd+BBBB", Signer: "file"}
	all["key"] = key
	begun := head(OfBegun, "audit init")
	begun.Begun = &Begun{Origin: "ci-1", Key: "ci-1+1234abcd+AAAA"}
	all["begun"] = begun
	return all
}

// sampleJob uses every field.
func sampleJob(at time.Time) *Job {
	one := 1
	return &Job{
		Room: "cr-runner-4711-0011223344", Job: 4711, Project: "group/project", Began: at.Add(-time.Minute), Tries: 2,
		Outcome: Failed, Stage: "step_script", Profile: "hardened",
		Facts: []Fact{
			{"project_id", int64(12), "job response (job_info.project_id)"},
			{"ref", "main", "job response (git_info.ref), ID token CI_TOKEN (iss https://gitlab.example.com)"},
			{"ref_protected", true, "job response (git_info.protected)"},
		},
		Policy: strings.Repeat("1f", 32),
		Decisions: []Decision{
			{Kind: "secret", Name: "deploy", Allowed: true, Rule: "release", Stages: []string{"script"}, Tokens: []string{"vault"}, Reason: "granted by rule release"},
			{Kind: "image", Name: "alpine:3", Allowed: true, Reason: "no rule is about images"},
		},
		Images: []Image{{"job", "alpine:3", "sha256:" + strings.Repeat("2e", 32), "alpine@sha256:" + strings.Repeat("3d", 32)}, {Role: "helper", Name: "helper:1", ID: "sha256:" + strings.Repeat("4c", 32)}},
		Secrets: []Secret{{
			Name: "deploy", Provider: "vault", Rule: "release", Stages: []string{"script"}, Version: "7", Rotated: at.Add(-24 * time.Hour),
			Issued: at.Add(-time.Minute), Expires: at.Add(time.Hour), Revocable: true, Outcome: "failed",
			Leases: []Lease{
				{ID: "database/creds/x/1", Issued: at.Add(-time.Minute), Expires: at.Add(time.Hour), Ended: at, Outcome: "revoked"},
				{ID: "auth/2", Issued: at.Add(-time.Minute), Outcome: "failed", Error: "vault: connection refused"},
			},
		}, {Name: "npm", Provider: "store", Rule: "release", Version: "3", Issued: at.Add(-time.Minute), Outcome: "standing"}},
		Stages: []Stage{
			{Stage: "prepare", Began: at.Add(-time.Minute), Millis: 900, Result: "ok", Output: &Output{Bytes: 12, SHA256: strings.Repeat("5b", 32)}},
			{Stage: "step_script", Container: "job", Began: at.Add(-50 * time.Second), Millis: 1500, Exit: &one, Result: "failed", OutOfMemory: true,
				Output:   &Output{Bytes: 700, SHA256: strings.Repeat("6a", 32), Every: 256, Marks: []string{strings.Repeat("7a", 16), strings.Repeat("8a", 16)}},
				Redacted: []Count{{"deploy", 3}}},
		},
		Guard:      []Finding{{Stage: "upload_artifacts_on_success", Path: "out/a.zip", Members: []string{"b.tar", "c"}, Name: "deploy", Action: "refused"}, {Stage: "archive_cache", Path: "x", Unsearched: "it is encrypted", Action: "warned", Rule: "fixtures"}},
		Refusals:   []Refusal{{"upload_artifacts_on_success", "guard", "a secret is in what would be stored"}},
		Artifacts:  []Artifact{{"upload_artifacts_on_success", "out/b", 5, strings.Repeat("9a", 32)}},
		Provenance: []Provenance{{"upload_artifacts_on_success", strings.Repeat("9b", 32), 1, 1, 2}},
		End: End{Why: "the job is over", Millis: 350, Removed: []Item{{Kind: "container", Name: "cr-runner-4711-0011223344-job"}}, Left: []Item{{"network", "cr-runner-4711-0011223344", "it has endpoints"}},
			Error: "lease auth/2 of secret deploy at vault: connection refused"},
		Gaps: []string{"the last line of the dossier was torn"},
	}
}
