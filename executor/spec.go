package executor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"cleanroom/config/glob"
	"cleanroom/executor/contract"
	"cleanroom/executor/policy/verdict"
	"cleanroom/executor/registry"
	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
)

// deadlineGrace is what a room may outlast its job's timeout: the runner's
// after_script, uploads and cleanup come after it.
const deadlineGrace = time.Hour

// timeout of the job; the runner has a default where the server gives none
// (GetBuildTimeout in its common/build.go).
func timeout(job *contract.Job) time.Duration {
	if job.RunnerInfo.Timeout == 0 {
		return 2 * time.Hour
	}
	return time.Duration(job.RunnerInfo.Timeout) * time.Second
}

// spec turns what the job asks and what the admin allows into a room.
func (x *Executor) spec(name string, key [32]byte, who standing) (sandbox.Spec, error) {
	job, err := x.Call.Job()
	if err != nil {
		return sandbox.Spec{}, err
	}
	profile, err := x.profile(who)
	if err != nil {
		return sandbox.Spec{}, err
	}
	s := x.walls(name, profile, len(job.Cache) > 0) // also for the runner's own S3 or GCS cache, which passes through
	s.Key = key
	s.Labels = map[string]string{"job": strconv.FormatInt(job.ID, 10), "project": x.projectPath(job),
		"clock": contract.ClockIn(timeout(job) + deadlineGrace).String()}
	s.Deadline = fault.Now().Add(timeout(job) + deadlineGrace)
	auth := x.logins(job)
	s.Helper.Image = x.helperImage()
	s.Helper.PullPolicies, s.Helper.Auth = x.helperPolicies(s.Helper.Image), auth
	if s.Job, err = x.jobContainer(job, auth, who); err != nil {
		return sandbox.Spec{}, err
	}
	services, warnings, err := x.Call.Services()
	if err != nil {
		return sandbox.Spec{}, err
	}
	for _, w := range warnings {
		x.sayf("Warning: %s", w)
	}
	for _, asked := range services {
		service, err := x.serviceContainer(asked, auth, who)
		if err != nil {
			return sandbox.Spec{}, err
		}
		s.Services = append(s.Services, service)
	}
	return s, nil
}

// walls are what a room has whatever its job is.
func (x *Executor) walls(name string, profile sandbox.Profile, cache bool) sandbox.Spec {
	c := x.Config
	s := sandbox.Spec{
		Name:    name,
		Profile: profile,
		User:    c.Room.User,
		Builds:  sandbox.Volume{Path: c.Room.BuildsDir, Tmpfs: c.Room.Storage == "tmpfs", Size: c.Sizes().Builds},
		Network: sandbox.Network{
			ExtraHosts: c.Network.ExtraHosts, DNS: c.Network.DNS, DNSSearch: c.Network.DNSSearch, MTU: c.Network.MTU,
		},
		CABundle:          c.Room.CABundle,
		EntrypointTimeout: c.Room.EntrypointTimeout,
		ServiceTimeout:    c.Room.ServiceTimeout,
		PullTimeout:       c.Room.PullTimeout,
	}
	memory := c.Sizes().Helper
	if cache {
		s.Cache = s.Builds
		s.Cache.Path = c.Room.CacheDir
		memory += s.Cache.Size
	}
	s.Helper = sandbox.Container{Env: x.roomEnv(), Limits: x.limits(memory)}
	s.Job = sandbox.Container{Env: x.roomEnv(), Limits: x.limits(c.Sizes().Job)}
	return s
}

// ProfileVariable is the job variable that asks for harder walls.
const ProfileVariable = "CLEANROOM_PROFILE"

// profile is the admin's, or a harder one that the job asks for, or a softer
// one that a rule grants.
func (x *Executor) profile(who standing) (sandbox.Profile, error) {
	have, asked := sandbox.Profile(x.Config.Profile), sandbox.Profile(x.Call.Variables[ProfileVariable])
	if asked == "" {
		return have, nil
	}
	order := []sandbox.Profile{sandbox.Compatible, sandbox.Hardened, sandbox.Strict}
	at := slices.Index(order, have)
	if slices.Contains(order[at:], asked) {
		return asked, nil
	}
	no := fmt.Errorf("%w: %s is %.100q, this runner's profile is %s and a job can only ask for a harder one: use one of %v, or none",
		ErrDenied, ProfileVariable, asked, have, order[at:])
	if slices.Contains(order, asked) {
		if _, err := x.decide(who, verdict.Profile, string(asked)); err == nil {
			return asked, nil
		} else if len(who.rules.Rules()) > 0 {
			return "", err
		}
	}
	return "", no
}

func (x *Executor) jobContainer(job *contract.Job, auth sandbox.Credentials, who standing) (sandbox.Container, error) {
	images := x.Config.Images
	asked, err := x.Call.Image()
	if err != nil {
		return sandbox.Container{}, err
	}
	if asked.Name == "" {
		if images.Default == "" {
			return sandbox.Container{}, fmt.Errorf("%w: the job names no image and this runner has no default: add `image:` to .gitlab-ci.yml", ErrDenied)
		}
		asked.Name = images.Default
	}
	if asked.Name != images.Default {
		if err := allowed("image", asked.Name, images.Allowed); err != nil {
			return sandbox.Container{}, err
		}
		if _, err := x.decide(who, verdict.Image, asked.Name); err != nil {
			return sandbox.Container{}, err
		}
	}
	policies, err := x.pullPolicies(asked.PullPolicy)
	if err != nil {
		return sandbox.Container{}, err
	}
	env, err := x.Call.ContainerEnv()
	if err != nil {
		return sandbox.Container{}, err
	}
	options := asked.ExecutorOpts.Docker
	return sandbox.Container{
		Image: asked.Name, PullPolicies: policies, Auth: auth, Platform: options.Platform, User: string(options.User),
		Entrypoint: asked.Entrypoint, Env: append(x.roomEnv(), env...), Limits: x.limits(x.Config.Sizes().Job),
	}, nil
}

func (x *Executor) serviceContainer(asked contract.RoomService, auth sandbox.Credentials, who standing) (sandbox.Container, error) {
	if err := allowed("service", asked.Name, x.Config.Images.AllowedServices); err != nil {
		return sandbox.Container{}, err
	}
	if _, err := x.decide(who, verdict.Service, asked.Name); err != nil {
		return sandbox.Container{}, err
	}
	policies, err := x.pullPolicies(asked.PullPolicy)
	if err != nil {
		return sandbox.Container{}, err
	}
	options := asked.ExecutorOpts.Docker
	return sandbox.Container{
		Image: asked.Name, PullPolicies: policies, Auth: auth, Platform: options.Platform, User: string(options.User),
		Entrypoint: asked.Entrypoint, Command: asked.Command, Env: append(x.roomEnv(), asked.Env...),
		Aliases: asked.Aliases, Ports: asked.Ports, Limits: x.limits(x.Config.Sizes().Service),
	}, nil
}

// allowed matches a name as the job writes it; no list allows every name.
func allowed(what, name string, globs []string) error {
	if len(globs) == 0 || slices.ContainsFunc(globs, func(g string) bool { return glob.Match(g, pinned(name)) }) {
		return nil
	}
	return fmt.Errorf("%w: %s %q is not allowed on this runner (allowed: %s): use one of these, or ask the runner's admin", ErrDenied, what, name, strings.Join(globs, ", "))
}

// pinned is an image's name as lists of names may be held against it: of one
// with a tag and a digest the engine takes the digest and never looks at the
// tag, so that the tag must not count either.
func pinned(name string) string {
	repository, digest, ok := strings.Cut(name, "@")
	if !ok {
		return name
	}
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository = repository[:colon]
	}
	return repository + "@" + digest
}

// pullPolicies bounds what the job asks by what the admin allows.
func (x *Executor) pullPolicies(asked []string) ([]string, error) {
	images := x.Config.Images
	if len(asked) == 0 {
		return images.PullPolicies, nil
	}
	allowed := images.AllowedPullPolicies
	if len(allowed) == 0 {
		allowed = images.PullPolicies
	}
	for _, p := range asked {
		if !slices.Contains(allowed, p) {
			return nil, fmt.Errorf("%w: pull policy %q is not allowed on this runner (allowed: %s): change `pull_policy:`, or ask the runner's admin", ErrDenied, p, strings.Join(allowed, ", "))
		}
	}
	return asked, nil
}

var release = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`) })

// helperImage is the admin's, or GitLab's own for the runner's version. The
// version is a variable that a job may shadow: whatever it says, the result
// is one of GitLab's helper images.
func (x *Executor) helperImage() string {
	if x.Config.Images.Helper != "" {
		return x.Config.Images.Helper
	}
	arch := runtime.GOARCH // as GitLab tags its images, but for one
	if arch == "amd64" {
		arch = "x86_64"
	}
	tag := latest
	if v := x.Call.Variables["CI_RUNNER_VERSION"]; release().MatchString(v) {
		tag = "v" + v
	}
	return "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:" + arch + "-" + tag
}

const latest = "latest"

// helperPolicies are the admin's for the admin's image. GitLab's of a released
// version never changes, so it is not asked for again at each job.
func (x *Executor) helperPolicies(image string) []string {
	switch {
	case x.Config.Images.Helper != "":
		return x.Config.Images.PullPolicies
	case strings.HasSuffix(image, "-"+latest):
		return []string{"always"}
	}
	return []string{"if-not-present"}
}

// instance tells one GitLab from another, whose projects have the same
// numbers: two runners of one machine may serve two.
func instance(job *contract.Job) string {
	id := job.JobInfo.InstanceUUID
	if id == "" { // before GitLab 18
		if u, err := url.Parse(job.GitInfo.RepoURL); err == nil {
			id = u.Scheme + "://" + u.Host
		}
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:16])
}

// maxProject bounds a project's path, in bytes.
const maxProject = 1000

var projectRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_./-]+$`) })

// projectPath names the project for people. A server before GitLab 18 leaves
// it to a variable, which a job may shadow: what is no path, or not that of the
// repository, is left out.
func (x *Executor) projectPath(job *contract.Job) string {
	if job.JobInfo.ProjectFullPath != "" {
		return job.JobInfo.ProjectFullPath
	}
	path := x.Call.Variables["CI_PROJECT_PATH"]
	u, err := url.Parse(job.GitInfo.RepoURL)
	if err != nil || len(path) > maxProject || !projectRE().MatchString(path) {
		return ""
	}
	// The URL is the server's; before the path there may be the folder that
	// GitLab is served from.
	if !strings.HasSuffix(strings.TrimSuffix(u.Path, ".git"), "/"+path) {
		return ""
	}
	return path
}

func (x *Executor) logins(job *contract.Job) sandbox.Credentials {
	s := registry.Sources{Job: x.Call.Variables["DOCKER_AUTH_CONFIG"], Admin: x.Config.Images.AuthConfig}
	for _, c := range job.Credentials {
		if c.Type == "registry" {
			s.GitLab = append(s.GitLab, registry.Login{URL: c.URL, Username: c.Username, Password: c.Password})
		}
	}
	return s.Find
}

// roomEnv is what every process of a room gets, before what the job says.
func (x *Executor) roomEnv() []string {
	n := x.Config.Network
	var env []string
	for _, v := range [][2]string{{"HTTP_PROXY", n.HTTPProxy}, {"HTTPS_PROXY", n.HTTPSProxy}, {"NO_PROXY", n.NoProxy}} {
		if v[1] != "" {
			env = append(env, v[0]+"="+v[1], strings.ToLower(v[0])+"="+v[1])
		}
	}
	if x.Config.Room.CABundle != "" {
		for _, name := range caVariables {
			env = append(env, name+"="+sandbox.CAPath)
		}
	}
	return env
}

// caVariables is how the usual programs are told of a certificate bundle:
// OpenSSL and Go, git, curl, requests, pip, Node.
var caVariables = []string{"SSL_CERT_FILE", "GIT_SSL_CAINFO", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS"}

func (x *Executor) limits(memory int64) sandbox.Limits {
	l := x.Config.Limits
	return sandbox.Limits{Memory: memory, CPUs: l.CPUs, Pids: l.Pids, Shm: x.Config.Sizes().Shm}
}
