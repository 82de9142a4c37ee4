package executor

import (
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/contract"
	"cleanroom/sandbox"
)

// What both runners' real calls become, field by field.
func TestSpec(t *testing.T) {
	for _, version := range []string{"17.11", "19.3"} {
		j := newJob(t, version)
		before := time.Now()
		s := j.spec()
		if s.Name != testRoom || s.Key[1] != 1 || s.Profile != sandbox.Hardened || s.User != "1000:1000" {
			t.Errorf("%s: %+v", version, s)
		}
		if c := contract.ParseClock(s.Labels["clock"]); !c.Known() || c.Passed() {
			t.Errorf("%s: clock %q", version, s.Labels["clock"])
		}
		delete(s.Labels, "clock")
		if want := map[string]string{"job": "4711", "project": "garden/shed"}; !reflect.DeepEqual(s.Labels, want) {
			t.Errorf("%s: labels %v", version, s.Labels)
		}
		if late := s.Deadline.Sub(before) - 1800*time.Second - deadlineGrace; late < 0 || late > time.Minute {
			t.Errorf("%s: deadline %s", version, s.Deadline)
		}
		if !reflect.DeepEqual(s.Builds, sandbox.Volume{Path: "/builds", Tmpfs: true, Size: 4 << 30}) {
			t.Errorf("%s: builds %+v", version, s.Builds)
		}
		c := s.Job
		if c.Image != "registry.test:5000/tools/spade:2" || !slices.Equal(c.Entrypoint, []string{"/bin/sh", "-c"}) || c.Command != nil ||
			!slices.Equal(c.PullPolicies, []string{"if-not-present"}) || c.Platform != "linux/amd64" || c.User != j.variables["CROP"] {
			t.Errorf("%s: job %+v", version, c)
		}
		if c.Limits != (sandbox.Limits{Memory: 8 << 30, Pids: 2048, Shm: 64 << 20}) || s.Helper.Limits.Memory != 9<<30 {
			t.Errorf("%s: limits %+v, helper %+v", version, c.Limits, s.Helper.Limits)
		}
		if !slices.Contains(c.Env, "SEED_KEY=made-up-masked-value") || len(s.Helper.Env) != 0 {
			t.Errorf("%s: job's environment %q, helper's %q", version, c.Env, s.Helper.Env)
		}
		if len(s.Services) != 2 || s.Services[0].Image != "registry.test:5000/tools/well:3" || !slices.Contains(s.Services[0].Aliases, "water") ||
			!slices.Equal(s.Services[0].Command, []string{"run"}) || s.Services[0].Limits.Memory != 2<<30 || !slices.Equal(s.Services[1].PullPolicies, []string{"always"}) {
			t.Errorf("%s: services %+v", version, s.Services)
		}
		for _, service := range s.Services {
			for _, v := range service.Env {
				if strings.Contains(v, "made-up-masked-value") || strings.Contains(v, "made-up-job-token") {
					t.Errorf("%s: service %s gets %s", version, service.Image, v)
				}
			}
		}
		auth, source, err := c.Auth(t.Context(), c.Image)
		if err != nil || auth == "" || source != "GitLab's job credentials" {
			t.Errorf("%s: %q %q %v", version, auth, source, err)
		}
		for name, value := range s.Labels {
			if strings.Contains(name+value, "made-up") {
				t.Errorf("%s: label %s=%s", version, name, value)
			}
		}
		if log := j.out.String() + j.log.String(); strings.Contains(log, testKey) || strings.Contains(log, "made-up") {
			t.Errorf("%s: %s", version, log)
		}
	}
}

func TestDeadlineWithoutTimeout(t *testing.T) {
	j := newJob(t, "17.11")
	delete(j.response, "runner_info")
	if left := time.Until(j.spec().Deadline); left < 2*time.Hour+deadlineGrace-time.Minute {
		t.Errorf("a runner lets such a job run for 2 hours, its room is reaped after %s", left)
	}
}

func TestImageIsAllowed(t *testing.T) {
	for _, test := range []struct {
		image   string
		globs   []string
		refused string
	}{
		{"registry.test/a/b:1", nil, ""},
		{"registry.test/a/b:1", []string{"registry.test/**"}, ""},
		{"registry.test/a/b@sha256:" + strings.Repeat("a", 64), []string{"registry.test/**"}, ""},
		{"registry.test/a:release-1@sha256:" + strings.Repeat("a", 64), []string{"registry.test/a:release-*"}, "not allowed"}, // the digest is what runs
		{"registry.test/a:release-1@sha256:" + strings.Repeat("a", 64), []string{"registry.test/a@sha256:*"}, ""},
		{"ruby:3", []string{"alpine:*", "ruby:*"}, ""},
		{"ruby", []string{"ruby:*"}, `image "ruby" is not allowed on this runner (allowed: ruby:*)`},
		{"registry.test.evil/a", []string{"registry.test/**"}, "not allowed"},
		{"evil/registry.test/a", []string{"registry.test/**"}, "not allowed"},
		{"registry.test/a/b", []string{"registry.test/*"}, "not allowed"},
		{"docker.io/library/ruby:3", []string{"ruby:*"}, "not allowed"}, // as it is written
		{"ruby:3\nruby:3", []string{"ruby:3"}, "not allowed"},
		{"RUBY:3", []string{"ruby:*"}, "not allowed"},
		{" ruby:3", []string{"ruby:*"}, "not allowed"},
	} {
		j := newJob(t, "19.3")
		j.config.Images.Allowed = test.globs
		j.image(func(i map[string]any) { i["name"] = test.image })
		if test.refused != "" {
			j.refused(55, test.refused)
		} else if got := j.spec().Job.Image; got != test.image {
			t.Errorf("%q became %q", test.image, got)
		}
	}
	// What the name becomes counts, not how it is written.
	j := newJob(t, "19.3")
	j.config.Images.Allowed = []string{"ruby:*"}
	j.variables["WHICH"] = "evil/image"
	j.image(func(i map[string]any) { i["name"] = "$WHICH" })
	j.refused(55, `"evil/image" is not allowed`)

	j = newJob(t, "19.3")
	j.config.Images.AllowedServices = []string{"radio"}
	j.refused(55, `service "registry.test:5000/tools/well:3" is not allowed`)
	j.config.Images.Allowed, j.config.Images.AllowedServices = nil, []string{"radio", "registry.test:5000/**"}
	j.spec()
}

func TestDefaultImage(t *testing.T) {
	j := newJob(t, "19.3")
	delete(j.response, "image")
	j.refused(55, "names no image and this runner has no default")
	j.config.Images.Default, j.config.Images.Allowed = "debian:12", []string{"ruby:*"}
	if got := j.spec().Job.Image; got != "debian:12" { // the admin's choice is allowed
		t.Errorf("%q", got)
	}
	j = newJob(t, "19.3")
	j.config.Images.Default = "debian:12"
	j.image(func(i map[string]any) { i["name"] = "$UNSET" })
	if got := j.spec().Job.Image; got != "debian:12" {
		t.Errorf("%q", got)
	}
}

func TestPullPolicies(t *testing.T) {
	for _, test := range []struct {
		asked            any
		policies, bounds []string
		want             []string
		refused          string
	}{
		{nil, []string{"always", "if-not-present"}, nil, []string{"always", "if-not-present"}, ""},
		{nil, []string{"always"}, []string{"never"}, []string{"always"}, ""},
		{[]string{"never"}, []string{"always"}, []string{"never"}, []string{"never"}, ""},
		{"never", []string{"always"}, []string{"never"}, []string{"never"}, ""},
		{[]string{"always"}, []string{"always"}, nil, []string{"always"}, ""},
		{[]string{"never"}, []string{"always"}, nil, nil, `pull policy "never" is not allowed on this runner (allowed: always)`},
		{[]string{"always", "never"}, []string{"always"}, nil, nil, `"never" is not allowed`},
		{[]string{""}, []string{"always"}, nil, nil, `"" is not allowed`},
		{[]string{"Always"}, []string{"always"}, nil, nil, "not allowed"},
	} {
		j := newJob(t, "19.3")
		j.config.Images.PullPolicies, j.config.Images.AllowedPullPolicies = test.policies, test.bounds
		delete(j.response, "services")
		j.image(func(i map[string]any) { i["pull_policy"] = test.asked })
		if test.refused != "" {
			j.refused(55, test.refused)
		} else if got := j.spec().Job.PullPolicies; !slices.Equal(got, test.want) {
			t.Errorf("%v: %q", test.asked, got)
		}
	}
	j := newJob(t, "19.3")
	j.response["services"] = []any{map[string]any{"name": "radio", "pull_policy": "never"}}
	j.refused(55, `pull policy "never"`)
}

func TestHelperImage(t *testing.T) {
	arch := map[string]string{"amd64": "x86_64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	gitlab := "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:" + arch + "-"
	for version, want := range map[string]string{
		"17.11.4": "v17.11.4", "19.3.0": "v19.3.0",
		"": "latest", "19.3": "latest", "v19.3.0": "latest", "19.3.0\n": "latest", "19.3.0-rc1": "latest", "development version": "latest",
		"19.3.0@sha256:00": "latest", "../../evil/image:1": "latest", "1.2.3 ": "latest", "１.2.3": "latest", "19.3.0/../evil": "latest",
	} {
		j := newJob(t, "19.3")
		j.variables["CI_RUNNER_VERSION"] = version
		s := j.spec()
		policy := map[bool]string{true: "always", false: "if-not-present"}[want == "latest"]
		if s.Helper.Image != gitlab+want || !slices.Equal(s.Helper.PullPolicies, []string{policy}) {
			t.Errorf("%q: %s %q", version, s.Helper.Image, s.Helper.PullPolicies)
		}
	}
	j := newJob(t, "19.3")
	j.config.Images.Helper = "registry.test/helper:1"
	if s := j.spec(); s.Helper.Image != "registry.test/helper:1" || !slices.Equal(s.Helper.PullPolicies, j.config.Images.PullPolicies) {
		t.Errorf("%+v", s.Helper)
	}
}

// TestCacheFolder: a job with a cache has a folder for it, which is the room's
// own: in memory as the builds are, and the helper may fill it.
func TestCacheFolder(t *testing.T) {
	j := newJob(t, "19.3")
	plain := j.config.Sizes()
	want := sandbox.Volume{Path: "/cache", Tmpfs: true, Size: plain.Builds}
	if s := j.spec(); s.Cache != want || s.Helper.Limits.Memory != plain.Helper+plain.Builds {
		t.Errorf("%+v, %d bytes for the helper", s.Cache, s.Helper.Limits.Memory)
	}
	j.config.Room.Storage, j.engine.made = "disk", nil
	if s := j.spec(); s.Cache != (sandbox.Volume{Path: "/cache"}) || s.Helper.Limits.Memory != j.config.Sizes().Helper {
		t.Errorf("%+v, %d bytes for the helper", s.Cache, s.Helper.Limits.Memory)
	}
	j.response["cache"], j.engine.made = []any{}, nil
	if s := j.spec(); s.Cache != (sandbox.Volume{}) || s.Helper.Limits.Memory != j.config.Sizes().Helper {
		t.Errorf("a job without caches: %+v", s.Cache)
	}
}

func TestProject(t *testing.T) {
	j := newJob(t, "19.3")
	j.variables["CI_PROJECT_PATH"] = "evil/other"
	if got := j.spec().Labels["project"]; got != "garden/shed" {
		t.Errorf("the author named the project %q", got)
	}
	for path, want := range map[string]string{
		"garden/shed.2_x-y": "garden/shed.2_x-y", "another/project": "", "shed.2_x-y/": "", "\x1b]0;evil\a": "", "a\nb": "", "a b": "", "": "", strings.Repeat("a", 1001): "",
	} {
		j := newJob(t, "17.11")
		j.response["git_info"].(map[string]any)["repo_url"] = "https://gitlab-ci-token:x@gitlab.test/relative/garden/shed.2_x-y.git"
		j.variables["CI_PROJECT_PATH"] = path
		if got := j.spec().Labels["project"]; got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

func TestRoomEnv(t *testing.T) {
	j := newJob(t, "19.3")
	j.config.Network.HTTPProxy, j.config.Network.NoProxy, j.config.Room.CABundle = "http://proxy.test:3128", "localhost,.test", "/etc/ca.pem"
	j.config.Network.ExtraHosts, j.config.Network.MTU = []string{"gitlab.test:10.0.0.5"}, 1400
	s := j.spec()
	for _, c := range append([]sandbox.Container{s.Helper, s.Job}, s.Services...) {
		for _, want := range []string{
			"HTTP_PROXY=http://proxy.test:3128", "http_proxy=http://proxy.test:3128", "NO_PROXY=localhost,.test", "no_proxy=localhost,.test",
			"SSL_CERT_FILE=" + sandbox.CAPath, "GIT_SSL_CAINFO=" + sandbox.CAPath, "NODE_EXTRA_CA_CERTS=" + sandbox.CAPath,
		} {
			if !slices.Contains(c.Env, want) {
				t.Errorf("%s lacks %s", c.Image, want)
			}
		}
		if slices.ContainsFunc(c.Env, func(v string) bool { return strings.HasPrefix(v, "HTTPS_PROXY=") }) {
			t.Errorf("%s has a proxy that is not set", c.Image)
		}
	}
	if s.CABundle != "/etc/ca.pem" || s.Network.MTU != 1400 || !slices.Equal(s.Network.ExtraHosts, j.config.Network.ExtraHosts) {
		t.Errorf("%+v", s)
	}
}

func TestLimits(t *testing.T) {
	j := newJob(t, "19.3")
	j.config.Room.Storage, j.config.Limits.CPUs, j.config.Limits.Memory = "disk", 1.5, "512m"
	s := j.spec()
	if s.Builds.Tmpfs || s.Builds.Size != 0 || s.Job.Limits != (sandbox.Limits{Memory: 512 << 20, CPUs: 1.5, Pids: 2048, Shm: 64 << 20}) || s.Helper.Limits.Memory != 1<<30 {
		t.Errorf("%+v, %+v", s.Builds, s.Job.Limits)
	}
}

func TestProfile(t *testing.T) {
	order := []string{"compatible", "hardened", "strict"}
	for i, have := range order {
		for k, asked := range append(order, "soft", "Strict", " ") {
			j := newJob(t, "19.3")
			j.config.Profile, j.variables[ProfileVariable] = have, asked
			if k < i || k >= len(order) {
				j.refused(55, "this runner's profile is "+have)
			} else if got := j.spec().Profile; string(got) != asked {
				t.Errorf("%s, asked for %s: %s", have, asked, got)
			}
		}
	}
}
