package report

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"

	"cleanroom/executor/audit/record"
)

// raw is a record as the log has it, but for its schema, which would take most
// of a test's time.
func raw(t testing.TB, r *record.Record) []byte {
	t.Helper()
	r.Version = record.Version
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = jcs.Transform(text); err != nil {
		t.Fatal(err)
	}
	return text
}

// generator makes a log as a busy host has it, always the same.
type generator struct {
	*rand.Rand
	at   time.Time
	jobs int64
	rows []*record.Record
}

func sampleLog(jobs int, from, to time.Time) []*record.Record {
	g := &generator{Rand: rand.New(rand.NewPCG(1, 2)), at: from, jobs: 480_100}
	g.add("audit init", func(r *record.Record) {
		r.Kind, r.Begun = record.OfBegun, &record.Begun{Origin: "ci-1.example.com/audit", Key: "ci-1.example.com/audit+1f3a5b7c+AaBbCcDdEeFf"}
	})
	for i := range jobs {
		g.at = from.Add(time.Duration(float64(to.Sub(from)) * (float64(i) + g.Float64()) / float64(jobs)))
		if g.at.Hour() < 6 && g.IntN(4) > 0 { // people sleep
			g.at = g.at.Add(8 * time.Hour)
		}
		g.job()
		switch g.IntN(jobs/8 + 1) {
		case 0:
			g.add("prepare", func(r *record.Record) {
				r.Kind, r.Policy = record.OfPolicy, &record.Policy{Before: g.hash(), After: g.hash(), Added: []string{"release"}, Changed: []string{"shop-deploy"}}
			})
		case 1:
			g.add("prepare", func(r *record.Record) {
				r.Kind, r.Config = record.OfConfig, &record.Config{Before: g.hash(), After: g.hash(), Sections: []string{"images", "limits"}}
			})
		case 2:
			g.add("secret rotate", func(r *record.Record) {
				r.Kind, r.By.User, r.Secret = record.OfSecret, "root", &record.Change{Name: "jwt-key", Provider: "store", Action: "rotated", Version: "12"}
			})
		case 3:
			g.add("cache wipe", func(r *record.Record) {
				r.Kind, r.By.User, r.Cache = record.OfCache, "root", &record.Cache{Caches: []string{"cleanroom-cache-1-p12-protected"}}
			})
		}
	}
	g.at = to.Add(-time.Hour)
	g.add("audit rotate", func(r *record.Record) {
		r.Kind, r.By.User = record.OfKey, "root"
		r.Key = &record.Key{Before: "ci-1.example.com/audit+1f3a5b7c+AaBbCcDdEeFf", After: "ci-1.example.com/audit+9d8c7b6a+GgHhIiJjKkLl", Signer: "file"}
	})
	return g.rows
}

func (g *generator) hash() string {
	return fmt.Sprintf("%016x%016x%016x%016x", g.Uint64(), g.Uint64(), g.Uint64(), g.Uint64())
}

func (g *generator) add(command string, fill func(*record.Record)) *record.Record {
	r := &record.Record{ID: record.MakeID("sample", fmt.Sprint(len(g.rows))), At: g.at.UTC().Truncate(time.Microsecond), Host: record.Host{Name: "ci-1", Cleanroom: "0.5.0"},
		By: record.By{Command: command, UID: 999, User: "gitlab-runner"}}
	fill(r)
	g.rows = append(g.rows, r)
	return r
}

func pick[T any](g *generator, all ...T) T { return all[g.IntN(len(all))] }

func (g *generator) job() {
	g.jobs += 1 + g.Int64N(3)
	project, user := pick(g, "shop/items", "shop/web", "shop/payments", "infra/terraform", "data/etl"), pick(g, "anna", "b.okafor", "chen", "d-silva", "eva.k")
	ref, protected := "main", true
	if g.IntN(3) > 0 {
		ref, protected = pick(g, "feature/cart", "fix-1182", "renovate/python-3.x", "refs/merge-requests/412/head"), false
	}
	took := time.Duration(30+g.IntN(900)) * time.Second
	room := fmt.Sprintf("cr-runner1-%d-%010x", g.jobs, g.Uint64()>>24)
	j := &record.Job{Room: room, Job: g.jobs, Project: project, Began: g.at.Add(-took).UTC().Truncate(time.Microsecond), Outcome: record.OK, Profile: "hardened",
		Facts:     []record.Fact{{Fact: "project_path", Is: project, Source: "job response (job_info.project_path)"}, {Fact: "ref", Is: ref, Source: "job response (git_info.ref)"}, {Fact: "ref_protected", Is: protected, Source: "ID token CLEANROOM_ID_TOKEN"}, {Fact: "user_login", Is: user, Source: "ID token CLEANROOM_ID_TOKEN"}},
		Images:    []record.Image{{Role: "job", Name: "registry.example.com/" + strings.Split(project, "/")[0] + "/python:3.12"}, {Role: "helper", Name: "cleanroom-helper:1"}},
		Stages:    []record.Stage{{Stage: "prepare", Result: "ok"}, {Stage: "step_script", Container: "job", Began: g.at.Add(-took), Millis: took.Milliseconds() - 4000, Result: "ok"}},
		End:       record.End{Why: "the job is over", Millis: 420, Complete: true},
		Decisions: []record.Decision{{Kind: "image", Name: "registry.example.com/" + strings.Split(project, "/")[0] + "/python:3.12", Allowed: true, Rule: "images", Reason: "granted by rule images"}},
	}
	if g.IntN(40) == 0 {
		j.Images = append(j.Images, record.Image{Role: "service", Name: "postgres:16"})
	}
	command := "cleanup"
	switch n := g.IntN(1000); {
	case n < 120:
		j.Outcome, j.Stage = record.Failed, "step_script"
	case n < 150:
		j.Outcome, j.Stage = record.Canceled, "step_script"
	case n < 156:
		j.Outcome, j.Stage = record.Refused, "prepare"
		j.Refusals = []record.Refusal{{Stage: "prepare", Reason: "policy", Says: "secret PROD_DB is denied: rule shop-deploy wants ref_protected, and " + ref + " is not protected; ask a maintainer to run this on main"}}
		j.Decisions = append(j.Decisions, record.Decision{Kind: "secret", Name: "PROD_DB", Reason: "no rule grants it: rule shop-deploy is false for ref_protected"})
		g.add(command, func(r *record.Record) { r.Kind, r.Job = record.OfJob, j })
		return
	case n < 160:
		j.Outcome, j.Stage = record.System, "prepare"
		j.End.Why, command = "its runner is gone", "reap"
	case n < 164:
		j.Outcome, j.Stage = record.Refused, "upload_artifacts_on_success"
		j.Guard = []record.Finding{{Stage: j.Stage, Path: "dist/app.zip", Members: []string{"config/settings.env"}, Name: "DATABASE_URL", Action: "refused"}}
		j.Refusals = []record.Refusal{{Stage: j.Stage, Reason: "guard", Says: "dist/app.zip holds secret DATABASE_URL: nothing of this stage was stored"}}
	case n < 166:
		j.Guard = []record.Finding{{Stage: "archive_cache", Path: ".cache/bundle.7z", Unsearched: "it is encrypted", Action: "warned", Rule: "fixtures"}}
	}
	if protected || g.IntN(3) == 0 {
		g.secrets(j, command)
	}
	r := g.add(command, func(r *record.Record) { r.Kind, r.Job = record.OfJob, j })
	g.trouble(r)
}

func (g *generator) secrets(j *record.Job, command string) {
	grant := func(name, provider, rule string) record.Secret {
		j.Decisions = append(j.Decisions, record.Decision{Kind: "secret", Name: name, Allowed: true, Rule: rule, Stages: []string{"script"}, Reason: "granted by rule " + rule})
		return record.Secret{Name: name, Provider: provider, Rule: rule, Stages: []string{"script"}, Issued: j.Began.Add(time.Second)}
	}
	s := grant("DATABASE_URL", "vault", "shop")
	s.Revocable, s.Outcome, s.Expires = true, "revoked", j.Began.Add(time.Hour)
	s.Leases = []record.Lease{{ID: "database/creds/shop/" + g.hash()[:24], Issued: s.Issued, Expires: s.Expires, Ended: g.at.Add(-time.Second), Outcome: "revoked"}}
	j.Secrets = append(j.Secrets, s)
	switch j.Project {
	case "infra/terraform":
		s := grant("AWS", "aws-prod", "terraform")
		s.Expires, s.Outcome = s.Issued.Add(time.Hour), "expires"
		j.Secrets = append(j.Secrets, s)
	case "shop/payments":
		s := grant("JWT_KEY", "store", "shop")
		s.Outcome, s.Version = "revoked", fmt.Sprint(g.jobs%1000)
		s.Leases = []record.Lease{{ID: s.Version, Issued: s.Issued, Ended: g.at.Add(-time.Second), Outcome: "revoked"}}
		j.Secrets = append(j.Secrets, s)
	case "shop/web":
		s := grant("NPM_TOKEN", "files", "shop-web")
		s.Outcome = "standing"
		j.Secrets = append(j.Secrets, s)
	}
}

// trouble is what goes wrong now and then.
func (g *generator) trouble(r *record.Record) {
	j := r.Job
	if len(j.Secrets) == 0 || g.IntN(120) > 0 {
		return
	}
	s := &j.Secrets[0]
	const why = "vault: Put \"https://vault.example.com:8200/v1/sys/leases/revoke\": dial tcp 192.0.2.7:8200: connect: connection refused"
	s.Outcome, s.Leases[0].Outcome, s.Leases[0].Error, s.Leases[0].Ended = "failed", "failed", why, time.Time{}
	s.Expires = s.Issued.Add(36 * time.Hour)
	j.End.Complete, j.End.Error = false, "lease of secret DATABASE_URL at vault: connection refused"
	if g.IntN(6) == 0 {
		s.Expires = time.Time{}
		return
	}
	was := g.at
	g.at = g.at.Add(time.Duration(10+g.IntN(1800)) * time.Minute)
	g.add("reap", func(r *record.Record) {
		done := *s
		done.Outcome, done.Leases = "revoked", []record.Lease{{ID: s.Leases[0].ID, Issued: s.Issued, Ended: g.at, Outcome: "revoked"}}
		r.Kind, r.Reap = record.OfReap, &record.Reap{Room: j.Room, Job: j.Job, Project: j.Project, Secrets: []record.Secret{done}, End: record.End{Why: "its cleanup did not end it", Millis: 90, Complete: true}}
	})
	g.at = was
}
