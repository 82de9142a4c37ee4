// Package registry finds the login for an image: what the job brings, what
// GitLab gave the job, and what the admin keeps, in the order GitLab's own
// docker executor has.
package registry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/credentials"
	"github.com/docker/cli/cli/config/types"
	apiregistry "github.com/docker/docker/api/types/registry"
)

// ErrJob marks what is wrong with a login that the job brings itself.
var ErrJob = errors.New("the job's login cannot be used")

// dockerHub is how config files name Docker Hub.
const dockerHub = "https://index.docker.io/v1/"

// Sources are all places a login may stand in. Job and GitLab are the job
// author's to choose: a program they name is never run.
type Sources struct {
	Job    string  // DOCKER_AUTH_CONFIG as the job has it
	Admin  string  // the same, from cleanroom's configuration
	Folder string  // of the admin's docker config.json; empty: the user's own
	GitLab []Login // the job response's credentials
}

// Login is one of GitLab's credentials for a job.
type Login struct{ URL, Username, Password string }

// Find returns the X-Registry-Auth value for an image and the name of the
// source it came from; both are empty when nobody knows one, and the image is
// pulled as anybody.
func (s Sources) Find(_ context.Context, image string) (auth, source string, err error) {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return "", "", fmt.Errorf("image %q: %w", image, err)
	}
	host := reference.Domain(named)
	steps := []struct {
		name string
		job  bool
		find func(string) (types.AuthConfig, error)
	}{
		{"the job's DOCKER_AUTH_CONFIG", true, func(h string) (types.AuthConfig, error) { return inText(s.Job, h, false) }},
		{"the runner's auth_config", false, func(h string) (types.AuthConfig, error) { return inText(s.Admin, h, true) }},
		{"the runner's docker config", false, s.inFolder},
		{"GitLab's job credentials", true, s.inGitLab},
	}
	for _, step := range steps {
		a, err := step.find(host)
		if err != nil && step.job {
			return "", "", fmt.Errorf("%w: %s: %w", ErrJob, step.name, err)
		} else if err != nil {
			return "", "", fmt.Errorf("%s: %w", step.name, err)
		}
		if empty(a) {
			continue
		}
		auth, err := apiregistry.EncodeAuthConfig(apiregistry.AuthConfig{
			Username: a.Username, Password: a.Password, Auth: a.Auth, ServerAddress: a.ServerAddress,
			IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
		})
		return auth, step.name, err
	}
	return "", "", nil
}

// inText reads a config.json text. Only an admin's may name credential
// helpers: they are programs that would run on this host.
func inText(text, host string, helpers bool) (types.AuthConfig, error) {
	if strings.TrimSpace(text) == "" {
		return types.AuthConfig{}, nil
	}
	f := configfile.New("")
	if err := f.LoadFromReader(strings.NewReader(text)); err != nil {
		// The parser's own words may quote the text, which is a credential.
		return types.AuthConfig{}, fmt.Errorf("it is not the JSON of a docker config file: correct the variable's value")
	}
	if !helpers {
		a, known := lookUp(f, host)
		if helper := f.CredentialHelpers[host]; helper != "" && !known {
			return types.AuthConfig{}, fmt.Errorf("the credential helper %q for %s works from the runner's configuration only: ask its admin, or use auths", helper, host)
		}
		return a, nil
	}
	return get(f, host)
}

// get asks a file that is the admin's: its helpers, and its own auths by any
// spelling.
func get(f *configfile.ConfigFile, host string) (types.AuthConfig, error) {
	a, err := f.GetAuthConfig(key(host))
	if err == nil && empty(a) {
		a, _ = lookUp(f, host)
	}
	return a, err
}

func empty(a types.AuthConfig) bool {
	return a.Username == "" && a.IdentityToken == "" && a.RegistryToken == "" && a.Auth == ""
}

// lookUp searches the file's own auths alone. Of several spellings Docker's
// own comes first.
func lookUp(f *configfile.ConfigFile, host string) (types.AuthConfig, bool) {
	for _, name := range append([]string{key(host)}, slices.Sorted(maps.Keys(f.AuthConfigs))...) {
		if a, ok := f.AuthConfigs[name]; ok && hostOf(name) == hostOf(host) {
			a.ServerAddress = name
			return a, true
		}
	}
	return types.AuthConfig{}, false
}

func (s Sources) inFolder(host string) (types.AuthConfig, error) {
	folder := s.Folder
	if folder == "" {
		folder = config.Dir()
	}
	f, err := config.Load(folder)
	if err != nil {
		return types.AuthConfig{}, err
	}
	if !f.ContainsAuth() {
		return types.AuthConfig{}, nil
	}
	return get(f, host)
}

func (s Sources) inGitLab(host string) (types.AuthConfig, error) {
	for _, l := range s.GitLab {
		if hostOf(l.URL) == hostOf(host) {
			return types.AuthConfig{Username: l.Username, Password: l.Password, ServerAddress: l.URL}, nil
		}
	}
	return types.AuthConfig{}, nil
}

func key(host string) string {
	if hostOf(host) == "docker.io" {
		return dockerHub
	}
	return host
}

// hostOf brings the spellings of one registry together.
func hostOf(s string) string {
	h := credentials.ConvertToHostname(s)
	switch h {
	case "index.docker.io", "registry-1.docker.io", "docker.io":
		return "docker.io"
	}
	return h
}
