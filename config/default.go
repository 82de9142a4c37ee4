package config

import "time"

// DefaultPath is where Load looks when it is given no path.
const DefaultPath = "/etc/cleanroom/config.toml"

// The values that Profile, Transport, Storage and the like may have.
var (
	profiles     = []string{"compatible", "hardened", "strict"}
	transports   = []string{"auto", "socket", "exec"}
	storages     = []string{"tmpfs", "disk"}
	pullPolicies = []string{"always", "if-not-present", "never"}
	afterwards   = []string{"keep", "remove"}
	logLevels    = []string{"debug", "info", "warn", "error"}
	logFormats   = []string{"text", "json"}
)

// Default is what holds where an admin chose nothing.
func Default() Config {
	return Config{
		StateDir: "/run/cleanroom",
		DataDir:  "/var/lib/cleanroom",
		Profile:  "hardened",
		Engine: Engine{
			Transport: "auto",
			Timeout:   2 * time.Minute,
		},
		Images: Images{
			PullPolicies: []string{"always"}, // as in GitLab's docker executor
			Private:      "keep",
		},
		Room: Room{
			BuildsDir:         "/builds",
			CacheDir:          "/cache",
			Storage:           "tmpfs",
			Size:              "4g",
			StageGrace:        10 * time.Second,
			EntrypointTimeout: 30 * time.Second,
			ServiceTimeout:    30 * time.Second,
			PullTimeout:       15 * time.Minute,
			User:              "1000:1000",
		},
		Limits: Limits{
			Memory:        "4g",
			ServiceMemory: "2g",
			HelperMemory:  "1g",
			Pids:          2048,
			Shm:           "64m",
		},
		Network: Network{Subnet: "100.127.0.0/16"}, // the end of what RFC 6598 sets aside for carriers
		Cache: Cache{
			MaxAge:         14 * 24 * time.Hour,
			MaxSize:        "20g",
			MaxProjectSize: "4g",
		},
		Pool:  Pool{Max: 8, Memory: "1g", Age: time.Hour},
		Audit: Audit{Provenance: true},
		Log: Log{
			Level:  "info",
			Format: "text",
		},
	}
}
