// Package config is the one place where an admin's choices and their defaults
// live: a Config is read from a TOML file and CLEANROOM_* variables, validated
// whole, and never changes afterwards.
package config

import "time"

// Config is everything an admin can choose. The zero value is not usable:
// start from Default, or Load a file.
//
// Keys are the lower-case names in the mapstructure tags; a name that matters
// (an alias, a host) is always a value, never a key.
type Config struct {
	// StateDir holds what a room needs between two commands. It should be
	// on tmpfs, so that nothing of a job reaches a disk.
	StateDir string `mapstructure:"state_dir"`
	// DataDir holds what must outlive a reboot, no secret of it in the clear: the
	// host's key, the journal of leases, the store, issuers' public keys, and
	// caches.
	DataDir string `mapstructure:"data_dir"`
	// Profile hardens rooms: compatible, hardened or strict.
	Profile   string     `mapstructure:"profile"`
	Engine    Engine     `mapstructure:"engine"`
	Images    Images     `mapstructure:"images"`
	Room      Room       `mapstructure:"room"`
	Limits    Limits     `mapstructure:"limits"`
	Network   Network    `mapstructure:"network"`
	Cache     Cache      `mapstructure:"cache"`
	Pool      Pool       `mapstructure:"pool"`
	Log       Log        `mapstructure:"log"`
	Metrics   Metrics    `mapstructure:"metrics"`
	Identity  Identity   `mapstructure:"identity"`
	Policy    Policy     `mapstructure:"policy"`
	Providers []Provider `mapstructure:"provider"`
	Secrets   []Secret   `mapstructure:"secret"`
	Audit     Audit      `mapstructure:"audit"`
}

// Engine says which Docker Engine makes the rooms.
type Engine struct {
	// Host is the engine's address (unix:///var/run/docker.sock,
	// tcp://..., ssh://...); empty means DOCKER_HOST or the local socket.
	Host string `mapstructure:"host"`
	// Runtime is an OCI runtime the engine knows (runc, runsc, kata); empty
	// means the engine's default.
	Runtime string `mapstructure:"runtime"`
	// Transport is how we speak to init: auto, socket or exec.
	Transport string `mapstructure:"transport"`
	// InitPath is the cleanroom-init binary; empty means beside cleanroom.
	InitPath string `mapstructure:"init_path"`
	// Timeout bounds each single request to the engine, pulls excepted.
	Timeout time.Duration `mapstructure:"timeout"`
}

// Images says what may run and where it comes from.
type Images struct {
	// Helper is the image of the runner's own stages; empty means GitLab's
	// gitlab-runner-helper of the runner's version.
	Helper string `mapstructure:"helper"`
	// Default is used by jobs that name no image; empty refuses them.
	Default string `mapstructure:"default"`
	// Allowed and AllowedServices are doublestar globs over image names as
	// the job writes them; empty allows every image.
	Allowed         []string `mapstructure:"allowed"`
	AllowedServices []string `mapstructure:"allowed_services"`
	// PullPolicies are tried in order when a job names none: always,
	// if-not-present, never.
	PullPolicies []string `mapstructure:"pull_policies"`
	// AllowedPullPolicies bounds what a job may ask for; empty means
	// PullPolicies.
	AllowedPullPolicies []string `mapstructure:"allowed_pull_policies"`
	// Private says what becomes of an image that a room pulled with a login:
	// keep, or remove when no room uses it.
	Private string `mapstructure:"private"`
	// AuthConfig is a docker config.json text for registries (as in
	// DOCKER_AUTH_CONFIG); the runner user's own file is read after it.
	AuthConfig string `mapstructure:"auth_config"`
}

// Room says what a room is made of.
type Room struct {
	// BuildsDir is where the project is checked out inside the room.
	BuildsDir string `mapstructure:"builds_dir"`
	// CacheDir is where the runner's local cache lives inside the room.
	CacheDir string `mapstructure:"cache_dir"`
	// Storage of the builds volume: tmpfs or disk.
	Storage string `mapstructure:"storage"`
	// Size bounds the builds volume when Storage is tmpfs (bytes; "4g").
	Size string `mapstructure:"size"`
	// StageGrace is the time between TERM and KILL when a stage is cancelled.
	StageGrace time.Duration `mapstructure:"stage_grace"`
	// EntrypointTimeout bounds how long an image's ENTRYPOINT may take to
	// run its command.
	EntrypointTimeout time.Duration `mapstructure:"entrypoint_timeout"`
	// ServiceTimeout bounds how long a service may take to become ready.
	ServiceTimeout time.Duration `mapstructure:"service_timeout"`
	// PullTimeout bounds one image pull.
	PullTimeout time.Duration `mapstructure:"pull_timeout"`
	// CABundle is a PEM file on the host whose certificates every room gets,
	// at /.cleanroom/ca.pem and by SSL_CERT_FILE and friends.
	CABundle string `mapstructure:"ca_bundle"`
	// User is the uid[:gid] forced on images that run as root under the
	// strict profile.
	User string `mapstructure:"user"`
}

// Limits bound each container of a room.
type Limits struct {
	// Memory of the job container ("2g"); also ServiceMemory, HelperMemory.
	Memory        string  `mapstructure:"memory"`
	ServiceMemory string  `mapstructure:"service_memory"`
	HelperMemory  string  `mapstructure:"helper_memory"`
	CPUs          float64 `mapstructure:"cpus"`
	Pids          int64   `mapstructure:"pids"`
	Shm           string  `mapstructure:"shm"`
}

// Network says how a room reaches others.
type Network struct {
	// ExtraHosts are host:ip lines for every container of the room.
	ExtraHosts []string `mapstructure:"extra_hosts"`
	DNS        []string `mapstructure:"dns"`
	DNSSearch  []string `mapstructure:"dns_search"`
	// Subnet is where rooms without services get their addresses from, which
	// are connected without the engine; empty: its networks for them, too.
	Subnet string `mapstructure:"subnet"`
	// MTU of room networks; 0 means the engine's default.
	MTU int `mapstructure:"mtu"`
	// HTTPProxy, HTTPSProxy and NoProxy are given to every process of the
	// room in both spellings.
	HTTPProxy  string `mapstructure:"http_proxy"`
	HTTPSProxy string `mapstructure:"https_proxy"`
	NoProxy    string `mapstructure:"no_proxy"`
}

// Cache says what may outlive a job.
type Cache struct {
	// Enabled keeps the runner's local caches, in DataDir, by project and
	// protection of the ref; off, nothing survives a job.
	Enabled bool `mapstructure:"enabled"`
	// MaxAge is how long a cache is given out, from when it was kept.
	MaxAge time.Duration `mapstructure:"max_age"`
	// MaxSize bounds all caches together, MaxProjectSize those of one project
	// ("4g"): those that were used least recently go.
	MaxSize        string `mapstructure:"max_size"`
	MaxProjectSize string `mapstructure:"max_project_size"`
}

// Pool says which rooms are made ahead of their jobs.
type Pool struct {
	// Size is how many rooms are kept ready for each image and profile that
	// jobs have; 0: none, and nothing else here counts.
	Size int `mapstructure:"size"`
	// Max is how many are kept in all, Memory what they may hold together
	// ("1g"), as measured.
	Max    int    `mapstructure:"max"`
	Memory string `mapstructure:"memory"`
	// Age is how long a room waits for a job, and how long an image is
	// remembered that no job has.
	Age time.Duration `mapstructure:"age"`
	// Images are those of which `cleanroom pool fill` makes rooms before a job
	// had one.
	Images []string `mapstructure:"images"`
}

// Log is the driver's own log, for admins.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `mapstructure:"level"`
	// Format is text or json.
	Format string `mapstructure:"format"`
	// File is appended to; empty means stderr of cleanup and doctor, and
	// nothing in stages whose stderr is the job's log.
	File string `mapstructure:"file"`
}

// Metrics are what drivers count, for Prometheus.
type Metrics struct {
	// File is a textfile for node_exporter's collector of that name, written
	// anew whenever something was counted; empty means that nothing is.
	File string `mapstructure:"file"`
}
