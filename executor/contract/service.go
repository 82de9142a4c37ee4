package contract

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"gitlab.com/gitlab-org/gitlab-runner/helpers/container/services"
)

// healthPort is the variable by which a service says what to wait for. The
// runner's docker executor does not mind its case.
const healthPort = "HEALTHCHECK_TCP_PORT"

// maxServices bounds the services of one job; each is a container.
const maxServices = 64

// runnerPublic are the runner's own variables that services see, too.
var runnerPublic = []string{
	"CI_BUILDS_DIR", "CI_PROJECT_DIR", "CI_CONCURRENT_ID", "CI_CONCURRENT_PROJECT_ID", "CI_JOB_IMAGE",
	"CI_JOB_STATUS", "CI_JOB_TIMEOUT", "CI_RUNNER_EXECUTABLE_ARCH", "CI_RUNNER_REVISION", "CI_RUNNER_VERSION",
	"CI_SERVER", "CI_SHARED_ENVIRONMENT",
}

// RoomService is a service ready to be made: expanded, named and checked.
type RoomService struct {
	Service
	Aliases []string // host names in the room; no other service has them
	Env     []string // KEY=VALUE: public variables of the job, then its own
	Ports   []int    // to wait for instead of the exposed ones
}

// Services are the job's services as the runner's docker executor would make
// them: name, alias, user and platform expanded; an alias belongs to the first
// that asks for it, and a service left without a name is not made. Warnings
// are lines for the job's log. Errors wrap ErrService or ErrResponse.
//
// The source is the response, not CI_JOB_SERVICES: that has no service
// variables before runner 19, never has pull policy, user or platform, and
// loses all aliases but the first. Both are the author's words.
func (c *Call) Services() (list []RoomService, warnings []string, err error) {
	job, err := c.Job()
	if err != nil {
		return nil, nil, err
	}
	if len(job.Services) > maxServices {
		return nil, nil, fmt.Errorf("%w: the job asks for %d services, at most %d are possible", ErrService, len(job.Services), maxServices)
	}
	files := job.fileNames()
	public := c.publicEnv(job, files)
	taken := map[string]bool{}
	for i, s := range job.Services {
		s.Image = s.Image.expand(c.expander(files, nil))
		if strings.TrimSpace(s.Name) == "" {
			return nil, nil, fmt.Errorf("%w: services[%d] has no image name", ErrService, i)
		}
		s.Variables = c.serviceVariables(s, files)
		room := RoomService{Service: s, Env: public[:len(public):len(public)]}
		if room.Ports, err = HealthcheckPorts(s); err != nil {
			return nil, nil, err
		}
		aliases, bad := ServiceAliases(s)
		warnings = append(warnings, bad...)
		for _, alias := range aliases {
			if key := strings.ToLower(alias); taken[key] {
				warnings = append(warnings, fmt.Sprintf("service %q: the alias %q is taken by another service", s.Name, alias))
			} else {
				taken[key] = true
				room.Aliases = append(room.Aliases, alias)
			}
		}
		if len(room.Aliases) == 0 {
			warnings = append(warnings, fmt.Sprintf("service %q is not started: no name is left for it, give it an alias", s.Name))
			continue
		}
		for _, v := range s.Variables {
			if validName(v.Key) && !v.File {
				room.Env = append(room.Env, v.Key+"="+v.Value)
			}
		}
		list = append(list, room)
	}
	return list, warnings, nil
}

// serviceVariables expands a service's own variables against the job's, and
// against each other unexpanded (GetServiceVariables in the runner's
// common/build.go, from 19).
func (c *Call) serviceVariables(s Service, files map[string]bool) []Variable {
	get := c.expander(files, s.Variables)
	expanded := make([]Variable, len(s.Variables))
	for i, v := range s.Variables {
		if !v.Raw {
			v.Value = os.Expand(v.Value, get)
		}
		expanded[i] = v
	}
	return expanded
}

// publicEnv is what services see of the job's variables: those the server
// calls public, so no token and no variable of the project's settings. It is
// the last definition of a name that counts, since its value is what we have.
func (c *Call) publicEnv(job *Job, files map[string]bool) []string {
	public := map[string]bool{}
	for _, name := range runnerPublic {
		public[name] = true
	}
	for _, v := range job.Variables {
		public[v.Key] = v.Public
	}
	for name := range job.Secrets {
		public[name] = false
	}
	var env []string
	for _, name := range c.names() {
		if public[name] && !files[name] && validName(name) {
			env = append(env, name+"="+c.Variables[name])
		}
	}
	return env
}

// ServiceAliases are the host names of a service: those its image name gives,
// without tag and port, slashes as "__" and as "-", then its own aliases.
// The service's fields must be expanded. An alias that is no host name is
// left out, with a warning.
func ServiceAliases(s Service) (aliases, warnings []string) {
	seen := map[string]bool{}
	add := func(alias string) {
		if key := strings.ToLower(alias); !seen[key] {
			seen[key] = true
			aliases = append(aliases, alias)
		}
	}
	for _, alias := range services.SplitNameAndVersion(s.Name).Aliases {
		if validHost(alias) {
			add(alias)
		}
	}
	for _, alias := range strings.Fields(strings.ReplaceAll(s.Alias, ",", " ")) {
		if !validHost(alias) {
			warnings = append(warnings, fmt.Sprintf("service %q: the alias %q is no host name and is left out", s.Name, alias))
			continue
		}
		add(alias)
	}
	return aliases, warnings
}

// validHost accepts what resolvers do: dot-separated labels of letters,
// digits, "-" and "_" (which GitLab's own names have), and no IP address.
func validHost(name string) bool {
	if name == "" || len(name) > 253 {
		return false
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range []byte(label) {
			if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
				return false
			}
		}
	}
	return true
}

// HealthcheckPorts is what a service's HEALTHCHECK_TCP_PORT asks to wait for;
// nil means its image's exposed ports. The service's variables must be
// expanded. ErrService means that it is no port.
func HealthcheckPorts(s Service) ([]int, error) {
	var ports []int
	for _, v := range s.Variables {
		if !strings.EqualFold(v.Key, healthPort) {
			continue
		}
		port, err := strconv.Atoi(v.Value)
		if err != nil || port < 1 || port > 65535 {
			return nil, fmt.Errorf("%w: %s of service %q must be a number from 1 to 65535", ErrService, v.Key, s.Name)
		}
		ports = []int{port} // the last definition holds
	}
	return ports, nil
}
