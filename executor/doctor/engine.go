package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"cleanroom/config"
	"cleanroom/executor/registry"
	"cleanroom/sandbox/docker"
)

// minAPI is Docker Engine 20.10's.
const minAPI = "1.41"

// maxSkew is by how much two clocks may differ: deadlines of rooms are
// written by one and read by the other.
const maxSkew = 5 * time.Second

// Free space on the engine's disk (bytes) below which images and builds will
// soon fail, or already do.
const (
	littleSpace = 5 << 30
	noSpace     = 1 << 30
)

// engine is one that answers.
type engine struct {
	api   *client.Client
	info  system.Info
	skew  time.Duration // of its clock against ours
	local bool
}

// ask reaches the engine; a nil engine comes with a Check that says why.
func ask(ctx context.Context, cfg config.Config) (*engine, Check) {
	const name = "engine"
	api, err := docker.Connect(cfg.Engine.Host)
	if err != nil {
		return nil, fail(name, "set engine.host, or mend DOCKER_HOST and its like", "%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, min(most, cfg.Engine.Timeout))
	defer cancel()
	version, err := api.ServerVersion(ctx)
	if err != nil {
		host := api.DaemonHost()
		api.Close()
		switch {
		case errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "permission denied"):
			return nil, fail(name, "run as root or as a member of the group that owns the socket", "no access to %s", host)
		case errors.Is(err, context.DeadlineExceeded):
			return nil, fail(name, "look at the engine's log, and whether engine.host is the right one", "%s does not answer", host)
		default:
			return nil, fail(name, "start the engine, or set engine.host to where it is", "%s cannot be reached: %v", host, err)
		}
	}
	e := &engine{api: api}
	before := time.Now()
	if e.info, err = api.Info(ctx); err != nil {
		api.Close()
		return nil, fail(name, "look at the engine's log", "Docker Engine %s tells nothing of itself: %v", version.Version, err)
	}
	if there, err := time.Parse(time.RFC3339Nano, e.info.SystemTime); err == nil {
		e.skew = skew(there, before, time.Now())
	}
	u, err := url.Parse(api.DaemonHost())
	e.local = err == nil && u.Scheme == "unix"
	if versions.LessThan(version.APIVersion, minAPI) {
		return e, fail(name, "update it to 20.10 or later", "Docker Engine %s (API %s) is too old", version.Version, version.APIVersion)
	}
	return e, ok(name, "Docker Engine %s (API %s)", version.Version, version.APIVersion)
}

// skew is by how much a clock that was read between two moments of ours surely
// differs: an engine that is slow to answer is not one whose clock is wrong.
func skew(there, before, after time.Time) time.Duration {
	switch {
	case there.Before(before):
		return there.Sub(before)
	case there.After(after):
		return there.Sub(after)
	}
	return 0
}

func (e *engine) checks(ctx context.Context, cfg config.Config) []Check {
	checks := []Check{e.debug(), e.seccomp(), e.userns(), e.cgroups(cfg), e.runtime(cfg), e.storage(), e.space(), e.clock(), e.memory(cfg)}
	if cfg.Images.Helper == "" {
		checks = append(checks, e.gitlabHelper(ctx, gitlabHelper, cfg))
	} else {
		checks = append(checks, e.image(ctx, "helper image", cfg.Images.Helper, cfg))
	}
	if cfg.Images.Default == "" {
		return append(checks, ok("default image", "none: a job must name its image"))
	}
	return append(checks, e.image(ctx, "default image", cfg.Images.Default, cfg))
}

func (e *engine) debug() Check {
	if e.info.Debug {
		return warn("engine log", `remove "debug": true from daemon.json, or --debug, and restart the engine`, "debug mode is on: the log tells much of each job")
	}
	return ok("engine log", "debug mode is off")
}

// option finds "name=NAME,..." among the engine's security options.
func (e *engine) option(name string) (text string, found bool) {
	for _, text := range e.info.SecurityOptions {
		if slices.Contains(strings.Split(text, ","), "name="+name) {
			return text, true
		}
	}
	return "", false
}

func (e *engine) seccomp() Check {
	text, found := e.option("seccomp")
	switch {
	case !found:
		return fail("seccomp", "use a kernel and an engine that are built with seccomp", "the engine has none")
	case strings.Contains(text, "unconfined"):
		return fail("seccomp", `remove "seccomp-profile": "unconfined" from daemon.json`, "the engine's default profile is unconfined")
	}
	_, profile, _ := strings.Cut(text, "profile=")
	if profile == "" {
		profile = "default"
	}
	return ok("seccomp", "profile %s", profile)
}

func (e *engine) userns() Check {
	if _, found := e.option("rootless"); found {
		return ok("user ids", "the engine is rootless")
	}
	if _, found := e.option("userns"); found {
		return ok("user ids", "mapped: root in a room is nobody on the host")
	}
	return warn("user ids", `set "userns-remap": "default" in daemon.json`, "not mapped: root in a room has root's id on the host")
}

func (e *engine) cgroups(cfg config.Config) Check {
	var missing []string
	for name, there := range map[string]bool{"memory": e.info.MemoryLimit, "pids": e.info.PidsLimit, "cpu quota": e.info.CPUCfsQuota || cfg.Limits.CPUs == 0} {
		if !there {
			missing = append(missing, name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		return fail("cgroups", "boot with cgroup v2, or with cgroup_enable=memory", "version %s cannot limit %s", e.info.CgroupVersion, strings.Join(missing, ", "))
	}
	if !e.info.SwapLimit && e.info.CgroupVersion == "1" {
		return warn("cgroups", "boot with swapaccount=1, or with cgroup v2", "version 1 limits memory but not swap")
	}
	return ok("cgroups", "version %s limits memory and pids", e.info.CgroupVersion)
}

func (e *engine) runtime(cfg config.Config) Check {
	name := cfg.Engine.Runtime
	if name == "" {
		return ok("runtime", "%s, the engine's default", e.info.DefaultRuntime)
	}
	if _, found := e.info.Runtimes[name]; found {
		return ok("runtime", "%s", name)
	}
	var known []string
	for runtime := range e.info.Runtimes {
		known = append(known, runtime)
	}
	slices.Sort(known)
	if strings.HasPrefix(name, "io.containerd.") { // found by its shim, and not listed
		return warn("runtime", "make sure that its shim is in the engine's PATH", "%s is not listed by the engine", name)
	}
	return fail("runtime", "add it to runtimes in daemon.json, or change engine.runtime", "the engine does not know %s, only %s", name, strings.Join(known, ", "))
}

func (e *engine) storage() Check {
	switch e.info.Driver {
	case "vfs", "devicemapper", "aufs":
		return warn("storage", `use overlay2 ("storage-driver" in daemon.json)`, "driver %s is slow or outdated", e.info.Driver)
	}
	return ok("storage", "driver %s", e.info.Driver)
}

func (e *engine) space() Check {
	const name = "disk"
	var fsInfo unix.Statfs_t
	if !e.local || unix.Statfs(e.info.DockerRootDir, &fsInfo) != nil {
		return ok(name, "%s is not in sight from here", e.info.DockerRootDir)
	}
	free := int64(fsInfo.Bavail) * fsInfo.Bsize
	detail := fmt.Sprintf("%s free in %s", units.BytesSize(float64(free)), e.info.DockerRootDir)
	const remedy = "remove what is not needed (docker system prune), or give it more"
	switch {
	case free < noSpace:
		return fail(name, remedy, "%s", detail)
	case free < littleSpace:
		return warn(name, remedy, "%s", detail)
	}
	return ok(name, "%s", detail)
}

func (e *engine) clock() Check {
	if e.skew.Abs() > maxSkew {
		return fail("clock", "run a time service on both machines", "the engine's differs by %s", e.skew.Round(time.Second))
	}
	return ok("clock", "the engine's is ours, to the second")
}

// memory tells what one room without services may take.
func (e *engine) memory(cfg config.Config) Check {
	s := cfg.Sizes()
	most := s.Job + s.Helper - s.Builds // the builds folder fills up only once
	detail := fmt.Sprintf("one room may take %s of %s", units.BytesSize(float64(most)), units.BytesSize(float64(e.info.MemTotal)))
	if e.info.MemTotal > 0 && most > e.info.MemTotal {
		return warn("memory", "lower limits.memory or room.size, or set room.storage to disk", "%s", detail)
	}
	return ok("memory", "%s", detail)
}

// image looks for an image on the engine, and then in its registry.
func (e *engine) image(ctx context.Context, name, ref string, cfg config.Config) Check {
	ctx, cancel := context.WithTimeout(ctx, min(most, cfg.Engine.Timeout))
	defer cancel()
	found, err := e.api.ImageInspect(ctx, ref)
	if err == nil {
		return ok(name, "%s is there (%s)", ref, units.BytesSize(float64(found.Size)))
	}
	if !errdefs.IsNotFound(err) {
		return fail(name, "look at the engine's log", "%s: %v", ref, err)
	}
	if !slices.ContainsFunc(cfg.Images.PullPolicies, func(policy string) bool { return policy != "never" }) {
		return fail(name, "load it, or allow pulls in images.pull_policies", "%s is not there, and is never pulled", ref)
	}
	if err := e.registry(ctx, ref, cfg); err != nil {
		return fail(name, "mend its name, its login (images.auth_config) or the way to its registry, or load it by hand and allow if-not-present in images.pull_policies",
			"%s is not there and cannot be pulled: %v", ref, err)
	}
	return ok(name, "%s will be pulled", ref)
}

// registry asks for an image where it would be pulled from, with the admin's
// login.
func (e *engine) registry(ctx context.Context, ref string, cfg config.Config) error {
	ctx, cancel := context.WithTimeout(ctx, min(mostRegistry, cfg.Engine.Timeout))
	defer cancel()
	auth, _, err := registry.Sources{Admin: cfg.Images.AuthConfig}.Find(ctx, ref)
	if err != nil {
		return err
	}
	_, err = e.api.DistributionInspect(ctx, ref, auth)
	if errors.Is(err, context.DeadlineExceeded) {
		return errors.New("its registry does not answer")
	}
	return err
}

// gitlabHelper is where jobs get their helper image when the admin names none.
const gitlabHelper = "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper"

// gitlabHelper looks for any of GitLab's own helper images: which one a job
// needs is known to its runner only.
func (e *engine) gitlabHelper(ctx context.Context, repository string, cfg config.Config) Check {
	const name = "helper image"
	ctx, cancel := context.WithTimeout(ctx, min(most, cfg.Engine.Timeout))
	defer cancel()
	list, err := e.api.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", repository+":*"))})
	if err != nil {
		return fail(name, "look at the engine's log", "%s: %v", repository, err)
	}
	for _, one := range list {
		if len(one.RepoTags) > 0 {
			return ok(name, "GitLab's own, of the runner's version; %s is there", one.RepoTags[0])
		}
	}
	latest := repository + ":x86_64-latest"
	if e.info.Architecture == "aarch64" || e.info.Architecture == "arm64" {
		latest = repository + ":arm64-latest"
	}
	if err := e.registry(ctx, latest, cfg); err != nil {
		return warn(name, "open the way to registry.gitlab.com, or build one with `make images` and name it in images.helper",
			"GitLab's own is not there and could not be looked for: %v", err)
	}
	return ok(name, "GitLab's own, of the runner's version, will be pulled")
}
