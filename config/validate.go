package config

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/go-units"

	"cleanroom/config/glob"
)

// The engine refuses to make a container with less memory than this (bytes).
const minMemory = 6 << 20

// maxSize is above every machine; beyond it go-units' floats go wrong.
const maxSize = 1 << 50

// insideRoom are folders of a room where no volume of ours may lie, nor
// around them.
var insideRoom = []string{
	"/.cleanroom", "/proc", "/sys", "/dev", "/etc", "/tmp", "/run",
	"/bin", "/sbin", "/lib", "/lib64", "/usr",
}

var (
	nameRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`) })
	hostRE = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*$`)
	})
	dirRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[A-Za-z0-9_./@+=-]*$`) })
)

// ParseSize reads a number of bytes with an optional unit in powers of 1024
// ("512m", "4g", "1.5g").
func ParseSize(s string) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n <= 0 || n > maxSize {
		return 0, errors.New(`a size above zero with its unit, like "512m" or "4g"`)
	}
	return n, nil
}

// Sizes are the configuration's sizes in bytes.
type Sizes struct {
	// Job, Helper and Service are memory limits of containers. Job and
	// Helper include the builds volume when it is in memory: a page of a
	// tmpfs is charged to whoever writes it first, which is the helper for
	// a checkout and the job for what it builds. So a full volume gives "no
	// space left" and not a kill, and a room never takes more than the sum
	// of its limits.memory, helper_memory, service_memory for each service
	// and room.size (twice that for a job with a cache, whose archives the
	// helper has in memory too).
	Job, Helper, Service int64
	Builds               int64 // the builds volume; 0 when it is on disk
	Shm                  int64 // /dev/shm
	// Caches are all that are kept, ProjectCaches those of one project.
	Caches, ProjectCaches int64
	Pool                  int64 // what rooms that wait may hold
}

// Sizes computes the sizes of a configuration that is valid.
func (c Config) Sizes() Sizes {
	size := func(s string) int64 { n, _ := ParseSize(s); return n }
	s := Sizes{
		Job:     size(c.Limits.Memory),
		Helper:  size(c.Limits.HelperMemory),
		Service: size(c.Limits.ServiceMemory),
		Shm:     size(c.Limits.Shm),
		Caches:  size(c.Cache.MaxSize), ProjectCaches: size(c.Cache.MaxProjectSize),
		Pool: size(c.Pool.Memory),
	}
	if c.Room.Storage == "tmpfs" {
		s.Builds = size(c.Room.Size)
		s.Job += s.Builds
		s.Helper += s.Builds
	}
	return s
}

// checker keeps the first thing that is wrong.
type checker struct{ err error }

// fail says that a value is not what is wanted.
func (c *checker) fail(name string, value any, want string) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s: %s must be %s", ErrConfig, name, shown(name, value), want)
	}
}

func (c *checker) check(ok bool, name string, value any, want string) {
	if !ok {
		c.fail(name, value, want)
	}
}

func (c *checker) oneOf(name, value string, allowed []string) {
	c.check(slices.Contains(allowed, value), name, value, "one of "+strings.Join(allowed, ", "))
}

func (c *checker) positive(name string, d time.Duration) {
	c.check(d > 0, name, d, "above zero")
}

func (c *checker) size(name, value string, least int64) {
	n, err := ParseSize(value)
	if err != nil {
		c.fail(name, value, err.Error())
	} else if n < least {
		c.fail(name, value, "at least "+units.BytesSize(float64(least)))
	}
}

func (c *checker) file(name, value string) {
	c.check(value == "" || path.IsAbs(value) && path.Clean(value) == value && !strings.ContainsAny(value, "\x00\n"),
		name, value, "an absolute, clean path")
}

// Validate checks the whole configuration; the error wraps ErrConfig and is
// one line about the first thing that is wrong.
func (c Config) Validate() error {
	v := &checker{}
	v.check(dirRE().MatchString(c.StateDir) && path.Clean(c.StateDir) == c.StateDir && c.StateDir != "/",
		"state_dir", c.StateDir, "an absolute, clean path of its own")
	v.check(dirRE().MatchString(c.DataDir) && path.Clean(c.DataDir) == c.DataDir && c.DataDir != "/" && !within(c.DataDir, c.StateDir) && !within(c.StateDir, c.DataDir),
		"data_dir", c.DataDir, "an absolute, clean path of its own, apart from state_dir")
	v.oneOf("profile", c.Profile, profiles)
	v.engine(c.Engine)
	v.images(c.Images)
	v.room(c.Room)
	v.size("limits.memory", c.Limits.Memory, minMemory)
	v.size("limits.service_memory", c.Limits.ServiceMemory, minMemory)
	v.size("limits.helper_memory", c.Limits.HelperMemory, minMemory)
	v.size("limits.shm", c.Limits.Shm, 4096)
	v.check(c.Limits.CPUs >= 0 && c.Limits.CPUs <= 4096 && (c.Limits.CPUs == 0 || c.Limits.CPUs >= 0.01) && !math.IsNaN(c.Limits.CPUs),
		"limits.cpus", c.Limits.CPUs, "a number of processors, at least 0.01, or 0 for all")
	v.check(c.Limits.Pids >= 16 && c.Limits.Pids <= 4194304, "limits.pids", c.Limits.Pids, "from 16 to 4194304")
	v.network(c.Network)
	v.cache(c.Cache)
	v.pool(c.Pool)
	v.oneOf("log.level", c.Log.Level, logLevels)
	v.oneOf("log.format", c.Log.Format, logFormats)
	v.file("log.file", c.Log.File)
	v.file("metrics.file", c.Metrics.File)
	v.check(c.Metrics.File == "" || strings.HasSuffix(c.Metrics.File, ".prom"), "metrics.file", c.Metrics.File, "a name that ends with .prom, as node_exporter reads no other")
	v.identity(c.Identity)
	v.policy(c.Policy, c.Identity)
	v.providers(c.Providers)
	v.secrets(c.Secrets, c.Providers)
	v.audit(c.Audit)
	return v.err
}

func (c *checker) engine(e Engine) {
	if e.Host != "" {
		u, err := url.Parse(e.Host)
		ok := err == nil && (u.Scheme == "unix" && u.Host == "" && path.IsAbs(u.Path) ||
			slices.Contains([]string{"tcp", "ssh", "http", "https"}, u.Scheme) && u.Host != "")
		c.check(ok, "engine.host", e.Host, "like unix:///var/run/docker.sock, tcp://HOST:2376 or ssh://HOST")
	}
	c.check(e.Runtime == "" || nameRE().MatchString(e.Runtime), "engine.runtime", e.Runtime, "a runtime's name, like runc or runsc")
	c.oneOf("engine.transport", e.Transport, transports)
	c.file("engine.init_path", e.InitPath)
	c.positive("engine.timeout", e.Timeout)
}

func (c *checker) images(i Images) {
	c.image("images.helper", i.Helper)
	c.image("images.default", i.Default)
	c.globs("images.allowed", i.Allowed)
	c.globs("images.allowed_services", i.AllowedServices)
	c.check(len(i.PullPolicies) > 0, "images.pull_policies", i.PullPolicies, "a list of at least one of "+strings.Join(pullPolicies, ", "))
	c.policies("images.pull_policies", i.PullPolicies)
	c.policies("images.allowed_pull_policies", i.AllowedPullPolicies)
	c.oneOf("images.private", i.Private, afterwards)
	if i.AuthConfig != "" {
		var object map[string]json.RawMessage
		err := json.Unmarshal([]byte(i.AuthConfig), &object)
		c.check(err == nil && object != nil, "images.auth_config", i.AuthConfig, `the JSON text of a docker config.json, like {"auths": {...}}`)
	}
}

func (c *checker) cache(k Cache) {
	c.positive("cache.max_age", k.MaxAge)
	c.size("cache.max_project_size", k.MaxProjectSize, 1<<20)
	c.size("cache.max_size", k.MaxSize, 1<<20)
	if s := (Config{Cache: k}).Sizes(); c.err == nil {
		c.check(s.ProjectCaches <= s.Caches, "cache.max_project_size", k.MaxProjectSize, "at most cache.max_size, which is "+k.MaxSize)
	}
}

func (c *checker) pool(p Pool) {
	c.check(p.Size >= 0 && p.Size <= 100, "pool.size", p.Size, "from 0, which is off, to 100")
	c.check(p.Max >= 1 && p.Max <= 1000, "pool.max", p.Max, "from 1 to 1000")
	c.check(p.Size <= p.Max, "pool.size", p.Size, fmt.Sprintf("at most pool.max, which is %d", p.Max))
	c.size("pool.memory", p.Memory, minMemory)
	c.check(p.Age >= time.Second && p.Age <= 7*24*time.Hour, "pool.age", p.Age, "from 1s to 168h")
	for i, image := range p.Images {
		c.check(image != "", "pool.images", image, "an image name")
		c.image("pool.images", image)
		c.check(!slices.Contains(p.Images[:i], image), "pool.images", image, "in the list once only")
	}
}

func (c *checker) image(name, image string) {
	if image != "" {
		_, err := reference.ParseNormalizedNamed(image)
		c.check(err == nil, name, image, "an image name, like registry.example.com/group/image:tag")
	}
}

func (c *checker) globs(name string, globs []string) {
	for _, pattern := range globs {
		if err := glob.Check(pattern); err != nil {
			c.fail(name, pattern, "a glob, like registry.example.com/**: "+err.Error())
		}
	}
}

func (c *checker) policies(name string, list []string) {
	for i, policy := range list {
		c.oneOf(name, policy, pullPolicies)
		c.check(!slices.Contains(list[:i], policy), name, policy, "in the list once only")
	}
}

func (c *checker) room(r Room) {
	c.roomDir("room.builds_dir", r.BuildsDir)
	c.roomDir("room.cache_dir", r.CacheDir)
	c.check(!within(r.BuildsDir, r.CacheDir) && !within(r.CacheDir, r.BuildsDir),
		"room.cache_dir", r.CacheDir, "apart from room.builds_dir")
	c.oneOf("room.storage", r.Storage, storages)
	c.size("room.size", r.Size, 1<<20)
	c.positive("room.stage_grace", r.StageGrace)
	c.positive("room.entrypoint_timeout", r.EntrypointTimeout)
	c.positive("room.service_timeout", r.ServiceTimeout)
	c.positive("room.pull_timeout", r.PullTimeout)
	c.check(validUser(r.User), "room.user", r.User, "uid[:gid] in numbers, neither of them 0")
	if c.file("room.ca_bundle", r.CABundle); c.err == nil && r.CABundle != "" {
		if err := checkPEM(r.CABundle); err != nil {
			c.fail("room.ca_bundle", r.CABundle, "a PEM file of certificates: "+err.Error())
		}
	}
}

func (c *checker) roomDir(name, dir string) {
	c.check(dirRE().MatchString(dir) && path.Clean(dir) == dir && dir != "/", name, dir,
		"an absolute, clean path of its own, of letters, digits and . _ - @ + =")
	for _, taken := range insideRoom {
		c.check(!within(dir, taken), name, dir, "outside "+taken)
	}
}

// within says whether dir is parent or lies in it.
func within(dir, parent string) bool { return dir == parent || strings.HasPrefix(dir, parent+"/") }

func validUser(user string) bool {
	uid, gid, hasGroup := strings.Cut(user, ":")
	number := func(s string) bool {
		n, err := strconv.ParseUint(s, 10, 31)
		return err == nil && n > 0
	}
	return number(uid) && (!hasGroup || number(gid))
}

func checkPEM(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.New("no plain file")
	}
	rest, err := io.ReadAll(io.LimitReader(f, 16<<20))
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if n == 0 {
				return errors.New("no certificate in it")
			}
			return nil
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("block %d is not a certificate", n+1) // never hand a key to rooms
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d is broken", n+1)
		}
	}
}

func (c *checker) network(n Network) {
	for _, line := range n.ExtraHosts {
		host, ip, _ := strings.Cut(line, ":")
		_, err := netip.ParseAddr(ip)
		c.check(err == nil && hostRE().MatchString(host) && len(host) <= 253, "network.extra_hosts", line, "host:ip, like gitlab.example.com:10.0.0.5")
	}
	for _, ip := range n.DNS {
		_, err := netip.ParseAddr(ip)
		c.check(err == nil, "network.dns", ip, "an IP address")
	}
	for _, domain := range n.DNSSearch {
		c.check(hostRE().MatchString(domain) && len(domain) <= 253, "network.dns_search", domain, "a domain name")
	}
	if n.Subnet != "" {
		p, err := netip.ParsePrefix(n.Subnet)
		c.check(err == nil && p.Addr().Is4() && p.Bits() >= 8 && p.Bits() <= 28 && p == p.Masked(), "network.subnet", n.Subnet,
			"an IPv4 network of /8 to /28 that the host does not use, like 100.127.0.0/16, or empty")
	}
	c.check(n.MTU == 0 || n.MTU >= 576 && n.MTU <= 65535, "network.mtu", n.MTU, "from 576 to 65535, or 0 for the engine's default")
	c.proxy("network.http_proxy", n.HTTPProxy)
	c.proxy("network.https_proxy", n.HTTPSProxy)
	c.check(!strings.ContainsAny(n.NoProxy, "\x00\n"), "network.no_proxy", n.NoProxy, "one line of hosts with commas")
}

func (c *checker) proxy(name, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	c.check(err == nil && slices.Contains([]string{"http", "https", "socks5"}, u.Scheme) && u.Host != "",
		name, value, "a URL, like http://proxy.example.com:3128")
}
