package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDefaultIsValid(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(nil, nil)
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("an empty file is not the default: %+v, %v", c, err)
	}
}

func TestExample(t *testing.T) {
	example := Example()
	c, err := Parse([]byte(example), nil)
	if err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("as it is: %+v, %v", c, err)
	}
	var lines []string
	for line := range strings.Lines(example) {
		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			line = line[1:]
		}
		lines = append(lines, line)
	}
	text := strings.Join(lines, "")
	if c, err = Load(write(t, text), nil); err != nil || !reflect.DeepEqual(c, Default()) {
		t.Fatalf("uncommented: %+v, %v\n%s", c, err, text)
	}
	if len(explain) != len(keys()) {
		t.Errorf("%d keys are explained, there are %d", len(explain), len(keys()))
	}
	for _, k := range keys() {
		if _, ok := explain[k.name]; !ok {
			t.Errorf("%s is not explained", k.name)
		}
		if k.tables() {
			if examples[k.name] == "" {
				t.Errorf("[[%s]] has no example", k.name)
			}
			continue
		}
		section, name, nested := strings.Cut(k.name, ".")
		if !nested {
			section, name = "", k.name
		}
		if _, rest, _ := strings.Cut(text, "["+section+"]\n"); nested && !strings.Contains(rest, "\n"+name+" = ") {
			t.Errorf("%s is not in the example", k.name)
		}
	}
}

// Every key can be overridden, by a variable that no other key has.
func TestEveryKeyHasItsVariable(t *testing.T) {
	seen := map[string]string{}
	for _, k := range keys() {
		if k.tables() {
			if _, err := Parse(nil, []string{k.env() + "=x"}); err == nil || !strings.Contains(err.Error(), "[["+k.name+"]]") {
				t.Errorf("%s: %v", k.env(), err)
			}
			continue
		}
		if old, ok := seen[k.env()]; ok {
			t.Errorf("%s and %s share %s", old, k.name, k.env())
		}
		for _, name := range reserved {
			if k.env() == name {
				t.Errorf("%s has the reserved variable %s", k.name, name)
			}
		}
		seen[k.env()] = k.name
		var text string
		switch k.value.Interface().(type) {
		case string:
			text = "x"
		case []string:
			text = "a, b"
		case time.Duration:
			text = "7s"
		case bool:
			text = strconv.FormatBool(!k.value.Bool())
		default:
			text = "3"
		}
		c, err := Parse(nil, []string{k.env() + "=" + text})
		if err != nil {
			t.Errorf("%s: %v", k.env(), err)
		} else if reflect.DeepEqual(c, Default()) {
			t.Errorf("%s changes nothing", k.env())
		}
	}
}

func TestLoad(t *testing.T) {
	path := write(t, `
state_dir = "/dev/shm/cleanroom"
[room]
size = "512m"
stage_grace = "3s"
[limits]
cpus = 2
[network]
extra_hosts = ["GitLab.Example.com:10.0.0.5", "six:fd00::1"]
`)
	c, err := Load(path, []string{
		"CLEANROOM_ROOM_SIZE=1g", "CLEANROOM_ROOM=room-of-a-job", "CLEANROOM_KEY=a2V5", "CLEANROOM_CONFIG=" + path,
		"CLEANROOM_IMAGES_PULL_POLICIES=if-not-present, always", "CUSTOM_ENV_CLEANROOM_PROFILE=compatible", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.StateDir = "/dev/shm/cleanroom"
	want.Room.Size, want.Room.StageGrace = "1g", 3*time.Second
	want.Limits.CPUs = 2
	want.Network.ExtraHosts = []string{"GitLab.Example.com:10.0.0.5", "six:fd00::1"}
	want.Images.PullPolicies = []string{"if-not-present", "always"}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	sizes := c.Sizes()
	if sizes != (Sizes{Job: 5 << 30, Helper: 2 << 30, Service: 2 << 30, Builds: 1 << 30, Shm: 64 << 20, Caches: 20 << 30, ProjectCaches: 4 << 30, Pool: 1 << 30}) {
		t.Errorf("sizes: %+v", sizes)
	}
	c.Room.Storage = "disk"
	if s := c.Sizes(); s.Builds != 0 || s.Job != 4<<30 {
		t.Errorf("sizes on disk: %+v", s)
	}
}

func TestLoadFiles(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml"), nil); !errors.Is(err, ErrConfig) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that was named and is not there: %v", err)
	}
	if _, err := Load(t.TempDir(), nil); !errors.Is(err, ErrConfig) {
		t.Errorf("a folder: %v", err)
	}
	open := write(t, "")
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(open, nil); err == nil || !strings.Contains(err.Error(), "chmod o-w") {
		t.Errorf("a file that everyone may write: %v", err)
	}
	c, err := Load(write(t, "profile = \"soft\"\nstate_dir = \"/x\""), nil)
	if err == nil || c.StateDir != "/x" {
		t.Errorf("a file that is not valid should still come back: %+v, %v", c, err)
	}
}

func TestParseErrors(t *testing.T) {
	for _, test := range []struct{ text, env, want string }{
		{text: "profil = 'strict'", want: `unknown key "profil"; did you mean profile?`},
		{text: "Profile = 'strict'", want: `unknown key "Profile"; did you mean profile?`},
		{text: "[room]\nsice = '1g'", want: `unknown key "room.sice"; did you mean room.size?`},
		{text: "stage_grace = '1s'", want: `unknown key "stage_grace"; did you mean room.stage_grace?`},
		{text: "zzzzzzzz = 1", want: `unknown key "zzzzzzzz"; `},
		{text: "[nowhere]", want: `unknown key "nowhere"`},
		{text: "'room.size' = '1g'", want: `unknown key "room.size": write it without quotes`},
		{text: "profile = 3", want: "profile: 3 must be a string, in quotes"},
		{text: "room = 3", want: "room: 3 must be a table, written [room]"},
		{text: "[[room]]\nsize = '1g'", want: "room: "},
		{text: "[limits]\npids = 'many'", want: `limits.pids: "many" must be a whole number`},
		{text: "[limits]\npids = 1.5", want: "limits.pids: 1.5 must be a whole number"},
		{text: "[limits]\ncpus = true", want: "limits.cpus: true must be a number"},
		{text: "[room]\nstage_grace = 10", want: `room.stage_grace: 10 must be a duration with its unit, like "30s" or "15m"`},
		{text: "[room]\nstage_grace = 'soon'", want: `room.stage_grace: "soon" must be a duration`},
		{text: "[images]\nallowed = 'a'", want: `images.allowed: "a" must be a list of strings`},
		{text: "[images]\nallowed = ['a', 1]", want: `images.allowed: [a 1] must be a list of strings`},
		{text: "[images]\nauth_config = 17", want: "images.auth_config: the value must be a string"},
		{text: "[cache]\nenabled = 'yes'", want: `cache.enabled: "yes" must be true or false`},
		{text: "a = 1\na = 2", want: ""},
		{text: "\n\nprofile = ", want: "line 3: "},
		{env: "CLEANROOM_ROOM_SICE=1g", want: "unknown variable CLEANROOM_ROOM_SICE; did you mean CLEANROOM_ROOM_SIZE?"},
		{env: "CLEANROOM_LIMITS_PIDS=many", want: `CLEANROOM_LIMITS_PIDS: "many" must be a whole number`},
		{env: "CLEANROOM_ROOM_STAGE_GRACE=10", want: `CLEANROOM_ROOM_STAGE_GRACE: "10" must be a duration`},
		{env: "CLEANROOM_CACHE_ENABLED=yes", want: `CLEANROOM_CACHE_ENABLED: "yes" must be true or false`},
	} {
		var environ []string
		if test.env != "" {
			environ = []string{test.env}
		}
		_, err := Parse([]byte(test.text), environ)
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q %q: got %v, want %q", test.text, test.env, err, test.want)
		}
	}
}

func TestValidate(t *testing.T) {
	set := func(f func(*Config)) Config { c := Default(); f(&c); return c }
	for want, c := range map[string]Config{
		`state_dir: "run" must be an absolute`:                                     set(func(c *Config) { c.StateDir = "run" }),
		`state_dir: "/" must`:                                                      set(func(c *Config) { c.StateDir = "/" }),
		`state_dir: "/a:b" must`:                                                   set(func(c *Config) { c.StateDir = "/a:b" }),
		`profile: "soft" must be one of compatible, hardened, strict`:              set(func(c *Config) { c.Profile = "soft" }),
		`engine.host: "/var/run/docker.sock" must be like unix://`:                 set(func(c *Config) { c.Engine.Host = "/var/run/docker.sock" }),
		`engine.host: "tcp://" must`:                                               set(func(c *Config) { c.Engine.Host = "tcp://" }),
		`engine.runtime: "-x" must`:                                                set(func(c *Config) { c.Engine.Runtime = "-x" }),
		`engine.transport: "tcp" must be one of`:                                   set(func(c *Config) { c.Engine.Transport = "tcp" }),
		`engine.init_path: "init" must`:                                            set(func(c *Config) { c.Engine.InitPath = "init" }),
		`engine.timeout: 0s must be above zero`:                                    set(func(c *Config) { c.Engine.Timeout = 0 }),
		`images.helper: "Not An Image" must`:                                       set(func(c *Config) { c.Images.Helper = "Not An Image" }),
		`images.default: ":x" must`:                                                set(func(c *Config) { c.Images.Default = ":x" }),
		`images.allowed: "a[" must be a glob`:                                      set(func(c *Config) { c.Images.Allowed = []string{"a["} }),
		`images.allowed_services: "" must be a glob`:                               set(func(c *Config) { c.Images.AllowedServices = []string{""} }),
		`images.pull_policies: [] must be a list of at least one`:                  set(func(c *Config) { c.Images.PullPolicies = nil }),
		`images.pull_policies: "sometimes" must be one of`:                         set(func(c *Config) { c.Images.PullPolicies = []string{"sometimes"} }),
		`images.pull_policies: "never" must be in the list once only`:              set(func(c *Config) { c.Images.PullPolicies = []string{"never", "never"} }),
		`images.allowed_pull_policies: "x" must be one of`:                         set(func(c *Config) { c.Images.AllowedPullPolicies = []string{"x"} }),
		`images.private: "drop" must be one of keep, remove`:                       set(func(c *Config) { c.Images.Private = "drop" }),
		`images.auth_config: the value must be the JSON text`:                      set(func(c *Config) { c.Images.AuthConfig = `{"auths": "hunter2` }),
		`room.builds_dir: "/" must`:                                                set(func(c *Config) { c.Room.BuildsDir = "/" }),
		`room.builds_dir: "/builds/" must`:                                         set(func(c *Config) { c.Room.BuildsDir = "/builds/" }),
		`room.builds_dir: "/builds dir" must`:                                      set(func(c *Config) { c.Room.BuildsDir = "/builds dir" }),
		`room.builds_dir: "/proc/builds" must be outside /proc`:                    set(func(c *Config) { c.Room.BuildsDir = "/proc/builds" }),
		`room.builds_dir: "/.cleanroom" must be outside /.cleanroom`:               set(func(c *Config) { c.Room.BuildsDir = "/.cleanroom" }),
		`room.cache_dir: "/builds/cache" must be apart from room.builds_dir`:       set(func(c *Config) { c.Room.CacheDir = "/builds/cache" }),
		`room.cache_dir: "/a" must be apart from room.builds_dir`:                  set(func(c *Config) { c.Room.BuildsDir, c.Room.CacheDir = "/a/b", "/a" }),
		`room.storage: "nfs" must be one of tmpfs, disk`:                           set(func(c *Config) { c.Room.Storage = "nfs" }),
		`room.size: "big" must be a size above zero`:                               set(func(c *Config) { c.Room.Size = "big" }),
		`room.size: "1k" must be at least 1MiB`:                                    set(func(c *Config) { c.Room.Size = "1k" }),
		`room.stage_grace: -1s must be above zero`:                                 set(func(c *Config) { c.Room.StageGrace = -time.Second }),
		`room.user: "0:0" must be uid[:gid]`:                                       set(func(c *Config) { c.Room.User = "0:0" }),
		`room.user: "1000:0" must be uid[:gid]`:                                    set(func(c *Config) { c.Room.User = "1000:0" }),
		`room.user: "nobody" must be uid[:gid]`:                                    set(func(c *Config) { c.Room.User = "nobody" }),
		`room.ca_bundle: "/nowhere.pem" must be a PEM file`:                        set(func(c *Config) { c.Room.CABundle = "/nowhere.pem" }),
		`room.ca_bundle: "/dev/zero" must be a PEM file`:                           set(func(c *Config) { c.Room.CABundle = "/dev/zero" }),
		`limits.memory: "0" must be a size above zero`:                             set(func(c *Config) { c.Limits.Memory = "0" }),
		`limits.service_memory: "1m" must be at least 6MiB`:                        set(func(c *Config) { c.Limits.ServiceMemory = "1m" }),
		`limits.helper_memory: "" must be a size`:                                  set(func(c *Config) { c.Limits.HelperMemory = "" }),
		`limits.helper_memory: "99999999999999999p" must be a size`:                set(func(c *Config) { c.Limits.HelperMemory = "99999999999999999p" }),
		`limits.cpus: -1 must be`:                                                  set(func(c *Config) { c.Limits.CPUs = -1 }),
		`limits.pids: 0 must be from 16`:                                           set(func(c *Config) { c.Limits.Pids = 0 }),
		`network.extra_hosts: "gitlab" must be host:ip`:                            set(func(c *Config) { c.Network.ExtraHosts = []string{"gitlab"} }),
		`network.extra_hosts: "h:host-gateway" must be host:ip`:                    set(func(c *Config) { c.Network.ExtraHosts = []string{"h:host-gateway"} }),
		`network.dns: "dns.example" must be an IP address`:                         set(func(c *Config) { c.Network.DNS = []string{"dns.example"} }),
		`network.dns_search: "a..b" must be a domain name`:                         set(func(c *Config) { c.Network.DNSSearch = []string{"a..b"} }),
		`network.subnet: "100.127.0.1/16" must be`:                                 set(func(c *Config) { c.Network.Subnet = "100.127.0.1/16" }),
		`network.subnet: "fd00::/64" must be`:                                      set(func(c *Config) { c.Network.Subnet = "fd00::/64" }),
		`network.subnet: "10.0.0.0/30" must be`:                                    set(func(c *Config) { c.Network.Subnet = "10.0.0.0/30" }),
		`network.mtu: 68 must be`:                                                  set(func(c *Config) { c.Network.MTU = 68 }),
		`network.http_proxy: the value must be a URL`:                              set(func(c *Config) { c.Network.HTTPProxy = "user:hunter2@proxy" }),
		`network.no_proxy: "a\nb" must be one line`:                                set(func(c *Config) { c.Network.NoProxy = "a\nb" }),
		`log.level: "loud" must be one of debug, info, warn, error`:                set(func(c *Config) { c.Log.Level = "loud" }),
		`log.format: "xml" must be one of`:                                         set(func(c *Config) { c.Log.Format = "xml" }),
		`metrics.file: "x.prom" must be an absolute`:                               set(func(c *Config) { c.Metrics.File = "x.prom" }),
		`metrics.file: "/x.txt" must be a name that ends with .prom`:               set(func(c *Config) { c.Metrics.File = "/x.txt" }),
		`log.file: "x.log" must be an absolute`:                                    set(func(c *Config) { c.Log.File = "x.log" }),
		`cache.max_age: 0s must be above zero`:                                     set(func(c *Config) { c.Cache.MaxAge = 0 }),
		`cache.max_size: "all" must be a size`:                                     set(func(c *Config) { c.Cache.MaxSize = "all" }),
		`pool.size: -1 must be from 0, which is off, to 100`:                       set(func(c *Config) { c.Pool.Size = -1 }),
		`pool.size: 9 must be at most pool.max, which is 8`:                        set(func(c *Config) { c.Pool.Size = 9 }),
		`pool.max: 0 must be from 1 to 1000`:                                       set(func(c *Config) { c.Pool.Max = 0 }),
		`pool.memory: "1m" must be at least 6MiB`:                                  set(func(c *Config) { c.Pool.Memory = "1m" }),
		`pool.age: 0s must be from 1s to 168h`:                                     set(func(c *Config) { c.Pool.Age = 0 }),
		`pool.images: "A b" must be an image name`:                                 set(func(c *Config) { c.Pool.Images = []string{"A b"} }),
		`pool.images: "a" must be in the list once only`:                           set(func(c *Config) { c.Pool.Images = []string{"a", "a"} }),
		`cache.max_project_size: "1k" must be at least 1MiB`:                       set(func(c *Config) { c.Cache.MaxProjectSize = "1k" }),
		`cache.max_project_size: "4g" must be at most cache.max_size, which is 3g`: set(func(c *Config) { c.Cache.MaxSize = "3g" }),
	} {
		err := c.Validate()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func TestCABundle(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	good := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	c := Default()
	for name, test := range map[string]struct {
		text string
		want string
	}{
		"two":    {text: good + good},
		"none":   {text: "hello", want: "no certificate in it"},
		"broken": {text: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert[:50]})), want: "certificate 1 is broken"},
		"key":    {text: good + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), want: "block 2 is not a certificate"},
	} {
		c.Room.CABundle = write(t, test.text)
		err := c.Validate()
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"4g": 4 << 30, "512M": 512 << 20, "1.5GiB": 3 << 29, "100": 100} {
		if n, err := ParseSize(text); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "-1g", "0", "4q", "g", "1e400", "999999999p"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("", "")
	f.Add(Example(), "CLEANROOM_ROOM_SIZE=8g")
	f.Add("[room]\nsize = '1g'\n[limits]\ncpus = 2\n", "CLEANROOM_LIMITS_CPUS=1.5")
	f.Add("profile = ", "CLEANROOM_NETWORK_DNS=1.1.1.1,::1")
	f.Add("[[room]]\n'a.b' = {c = [1, {}]}", "CLEANROOM_X=")
	f.Fuzz(func(t *testing.T, text, env string) {
		c, err := Parse([]byte(text), []string{env})
		if err == nil {
			err = c.Validate()
			c.Sizes()
		}
		if err != nil && (!errors.Is(err, ErrConfig) || strings.Contains(err.Error(), "\n")) {
			t.Errorf("%q", err)
		}
	})
}
