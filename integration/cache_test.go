package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"cleanroom/integration/gitlab"
	"cleanroom/integration/gitlab/job"
	"cleanroom/integration/rig"
)

const keepCaches = "[cache]\nenabled = true\n"

// visit is a job that says who wrote the cache that it was given, and writes
// it anew.
func visit(key string, fallback ...string) gitlab.JobSpec {
	return gitlab.JobSpec{Project: project,
		Cache:  []gitlab.Cache{{Key: key, FallbackKeys: fallback, Paths: []string{"deps/"}, Policy: "pull-push", When: "always"}},
		Script: []string{"echo the cache is of $(cat deps/who || echo nobody)", "mkdir -p deps", "echo $CI_PROJECT_PATH, $CI_COMMIT_REF_NAME > deps/who"}}
}

// finds runs a visit, and holds what it says against who wrote the cache.
func (s *site) finds(j gitlab.JobSpec, who string) result {
	s.t.Helper()
	r := s.run(j)
	r.is(s.t, job.Success, "", 0)
	r.says(s.t, "\nthe cache is of "+who+"\n")
	return r
}

// keepsCaches has two jobs see that caches are kept, wherever the engine is.
func keepsCaches(s *site, image string) {
	s.t.Helper()
	j := visit("deps")
	j.Image = &gitlab.Image{Name: image}
	s.finds(j, "nobody")
	s.finds(j, project+", main")
}

// withBranches has the sample's project with a branch that is protected and
// one that is not, and another project beside it.
func withBranches(t *testing.T, other string) {
	t.Helper()
	for _, p := range []gitlab.Project{{Path: project, Dir: "sample", Branch: "feature", Protected: []string{"main"}}, {Path: other, Dir: "sample"}} {
		if _, err := theRig.AddProject(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

// keptCaches is what `cache list` tells.
func (s *site) keptCaches() (all []struct{ Project, Key, Protection string }) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.cleanroom("cache", "list", "--json")), &all); err != nil {
		s.t.Fatal(err)
	}
	return all
}

// TestCacheBelongsToProjectAndProtection: a branch that is not protected reads
// what protected ones wrote, writes its own, and neither protected branches nor
// another project ever see that.
func TestCacheBelongsToProjectAndProtection(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: images + keepCaches})
	const other = "shop/others"
	withBranches(t, other)
	on := func(project, ref string) gitlab.JobSpec {
		j := visit("deps")
		j.Project, j.Ref = project, ref
		return j
	}
	main, feature := on(project, "main"), on(project, "feature")
	s.finds(main, "nobody").says(t, `Cache "deps": kept, `, "(protected)")
	s.finds(feature, project+", main").says(t, `Cache "deps": kept, `, "(unprotected)")
	s.finds(feature, project+", feature")
	s.finds(main, project+", main")
	s.finds(on(other, ""), "nobody")

	// What nobody changed is not kept again.
	same := main
	same.Script = []string{"echo the cache is of $(cat deps/who)"}
	s.finds(same, project+", main").says(t, `Cache "deps": as it was`)

	if all := s.keptCaches(); len(all) != 3 || all[0].Project != project || all[0].Key != "deps" || all[0].Protection != "protected" || all[2].Project != other {
		t.Errorf("%+v", all)
	}
	if out := s.cleanroom("cache", "wipe", "--project", project); !strings.HasPrefix(out, "wiped 2 caches, ") {
		t.Error(out)
	}
	s.finds(main, "nobody")
	s.finds(on(other, ""), other+", main")
}

// TestCacheKeys: fallback keys, the endings that GitLab gives to keys, and
// hashed ones.
func TestCacheKeys(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: images + keepCaches})
	withBranches(t, "shop/others")
	hashed := []gitlab.Variable{{Key: "FF_HASH_CACHE_KEYS", Value: "true", Public: true}}
	for _, variables := range [][]gitlab.Variable{nil, hashed} {
		on := func(ref, key string, fallback ...string) gitlab.JobSpec {
			j := visit(key, fallback...)
			j.Ref, j.Variables = ref, variables
			return j
		}
		s.finds(on("main", "deps/$CI_COMMIT_REF_SLUG-protected"), "nobody")
		s.finds(on("main", "other-protected", "nothing-protected", "deps/main-protected"), project+", main")
		s.finds(on("feature", "deps/$CI_COMMIT_REF_SLUG-non_protected", "deps/main-non_protected"), project+", main")
		s.finds(on("feature", "third-non_protected", "deps/feature-non_protected", "deps/main-non_protected"), project+", feature")
		s.finds(on("main", "deps/$CI_COMMIT_REF_SLUG-protected"), project+", main")
		for _, c := range s.keptCaches() {
			if want := []string{"deps/main-protected", "other-protected", "deps/feature-non_protected", "third-non_protected"}; !slices.Contains(want, c.Key) {
				t.Errorf("a cache is called %q", c.Key)
			}
		}
		s.cleanroom("cache", "wipe", "--project", project)
	}
}

// TestTamperedCache: what was changed on the disk reaches no job.
func TestTamperedCache(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: images + keepCaches})
	s.finds(visit("deps"), "nobody")
	files, err := filepath.Glob(filepath.Join(s.runner.DataDir(), "cache", "*", "protected", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("X"), info.Size()-30); err != nil {
		t.Fatal(err)
	}
	s.finds(visit("deps"), "nobody").says(t, `Warning: cache "deps": `, "the kept cache is broken and was removed: it is not what was kept", "Cache file does not exist")
	s.finds(visit("deps"), project+", main")
}

// TestCacheWithAPlantedSecret: a job has the helper archive something else than
// the files that were searched, by a program of its own in the helper's PATH.
func TestCacheWithAPlantedSecret(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: hostileConfig + keepCaches})
	for name, value := range map[string]string{"API_KEY": hostileKey, "PEM": hostilePEM} {
		file := filepath.Join(t.TempDir(), "value")
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
		s.cleanroom("secret", "set", name, "--from-file", file)
	}
	plant := func(secret string) gitlab.JobSpec {
		j := hostile(visit("deps"))
		j.Cache[0].When = "on_success"
		j.Script = append(j.Script, `mkdir ../evil; echo "`+secret+`" >../evil/conf; (cd ../evil && python3 -m zipfile -c payload.zip conf)`,
			`printf '%s\n' '#!/bin/sh' 'case $1 in cache-archiver) mkdir -p "${3%/*}"; cp /builds/shop/evil/payload.zip "$3"; echo planted;; esac' >../evil/gitlab-runner`,
			`chmod +x ../evil/gitlab-runner; echo "PATH=/builds/shop/evil:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" >>"$GITLAB_ENV"`)
		return j
	}
	r := s.run(plant("nothing of worth"))
	r.is(t, job.Success, "", 0)
	r.says(t, "planted", `Cache "deps": kept, `) // so this way leads into the store
	s.cleanroom("cache", "wipe", "--all")
	for secret, name := range map[string]string{"$API_KEY": "API_KEY", "$MASKED": "MASKED"} {
		r := s.run(plant("key: " + secret))
		r.is(t, job.Failed, "script_failure", 1)
		r.says(t, "planted", "cache.zip, member conf, byte 5: secret "+name, "nothing is stored (cache)")
		r.hides(t, hostileKey, hostileMasked, "kept, ")
	}
	if all := s.keptCaches(); len(all) > 0 {
		t.Errorf("kept: %+v", all)
	}
}

func TestNoCacheSurvivesByDefault(t *testing.T) {
	s := install(t, rig.RunnerOptions{})
	s.finds(visit("deps"), "nobody").says(t, "Created cache")
	s.finds(visit("deps"), "nobody")
	if _, err := os.Stat(filepath.Join(s.runner.DataDir(), "cache")); !os.IsNotExist(err) {
		t.Error("the store was made:", err)
	}
}

// TestCachesByPolicy: once a rule is about caches, only what it lists is kept.
func TestCachesByPolicy(t *testing.T) {
	s := install(t, rig.RunnerOptions{Config: images + keepCaches + "[[policy.rule]]\nname = \"npm\"\nwhen = 'project_path == \"" + project + "\"'\ncaches = [\"npm*\"]\n"})
	s.finds(visit("npm-1"), "nobody")
	s.finds(visit("npm-1"), project+", main")
	s.finds(visit("deps"), "nobody").says(t, `Cache "deps": not kept here: no rule grants this job a cache of that key`)
	s.finds(visit("deps"), "nobody")
}

// TestRunnersOwnCache: the runner's S3 cache works as without us, under the
// hardest walls too, and is left alone.
func TestRunnersOwnCache(t *testing.T) {
	for _, profile := range []string{"hardened", "strict"} {
		t.Run(profile, func(t *testing.T) {
			store := s3mem.New()
			if err := store.CreateBucket("caches"); err != nil {
				t.Fatal(err)
			}
			l, err := net.Listen("tcp", theRig.Address+":0")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: gofakes3.New(store).Server()}
			go server.Serve(l)
			t.Cleanup(func() { server.Close() })
			s := install(t, rig.RunnerOptions{Config: "profile = \"" + profile + "\"\n" + images + keepCaches, Extra: fmt.Sprintf(`  [runners.cache]
    Type = "s3"
    Shared = true
    [runners.cache.s3]
      ServerAddress = %q
      AccessKey = "access"
      SecretKey = "made-up-key"
      BucketName = "caches"
      BucketLocation = "eu-central-1"
      Insecure = true
      PathStyle = true
`, l.Addr().String())})
			s.finds(visit("deps"), "nobody").says(t, "Created cache")
			s.finds(visit("deps"), project+", main").says(t, "Successfully extracted cache")
			if all := s.keptCaches(); len(all) > 0 {
				t.Errorf("kept here as well: %+v", all)
			}
			if objects, err := store.ListBucket("caches", nil, gofakes3.ListBucketPage{}); err != nil || len(objects.Contents) != 1 {
				t.Errorf("in the bucket: %+v, %v", objects, err)
			}
		})
	}
}
