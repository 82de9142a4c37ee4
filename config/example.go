package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// explain has a line or more for every key. A test holds it against Config.
var explain = map[string]string{
	"state_dir": "What a room needs between two commands. Should be on tmpfs, root's own, mode 0700.",
	"data_dir": "What must outlive a reboot, no secret of it in the clear: the host's key, the journal of leases,\n" +
		"the store of secrets, issuers' public keys, and caches.",
	"profile": "How hard a room's walls are: compatible, hardened or strict. A job can only ask for a\nharder one than this, with the variable CLEANROOM_PROFILE.",

	"engine.host":      "Address of the Docker Engine, like unix:///var/run/docker.sock or ssh://HOST.\nEmpty: DOCKER_HOST, or the local socket.",
	"engine.runtime":   "OCI runtime that the engine knows (runc, runsc, ...). Empty: the engine's default.",
	"engine.transport": "How we speak to a container's init: auto, socket (a bind-mounted unix socket) or exec.",
	"engine.init_path": "The cleanroom-init binary. Empty: beside cleanroom.",
	"engine.timeout":   "Bound of each single request to the engine, pulls excepted.",

	"images.helper":                "Image of the runner's own stages (git, caches, artifacts).\nEmpty: GitLab's gitlab-runner-helper of the runner's version.",
	"images.default":               "Image of jobs that name none. Empty: they are refused.",
	"images.allowed":               "Globs over the names of images that jobs may run, like registry.example.com/**.\nEmpty: every image.",
	"images.allowed_services":      "The same for services.",
	"images.pull_policies":         "Tried in order when a job names none: always, if-not-present, never.\nAn image that a login brought is given only to a job to which its registry would give it, too.",
	"images.allowed_pull_policies": "What a job may ask for. Empty: pull_policies.",
	"images.private":               "What becomes of an image that a login brought and that not everybody may pull: keep, or\nremove with the last room that uses it.",
	"images.auth_config":           "Text of a docker config.json with registry logins, as in DOCKER_AUTH_CONFIG.",

	"room.builds_dir":         "Where the project is checked out, inside the room.",
	"room.cache_dir":          "Where the runner's local cache lies, inside the room.",
	"room.storage":            "Where the builds folder is kept: tmpfs or disk.",
	"room.size":               "Size of the builds folder when it is in memory. It comes on top of limits.memory and\nlimits.helper_memory: what a container writes there is charged to it.",
	"room.stage_grace":        "Time between TERM and KILL when a stage is cancelled.\nKeep it below graceful_kill_timeout of the runner.",
	"room.entrypoint_timeout": "How long an image's ENTRYPOINT may take to run its command.",
	"room.service_timeout":    "How long a service may take to become ready.",
	"room.pull_timeout":       "Bound of one image pull.",
	"room.ca_bundle":          "PEM file on this host whose certificates every room trusts.",
	"room.user":               "uid[:gid] for images that would run as root, under the strict profile.",

	"limits.memory":         "Memory of the job container. With room.storage tmpfs, room.size is added.",
	"limits.service_memory": "Memory of each service container.",
	"limits.helper_memory":  "Memory of the helper container. With room.storage tmpfs, room.size is added.",
	"limits.cpus":           "Processors for each container, like 1.5. 0: all.",
	"limits.pids":           "Processes and threads in each container.",
	"limits.shm":            "Size of /dev/shm in each container.",

	"network.extra_hosts": "host:ip lines for every container, like gitlab.example.com:10.0.0.5.",
	"network.dns":         "Name servers of every container. Empty: the host's, as the engine finds them.",
	"network.dns_search":  "Search domains of every container.",
	"network.subnet":      "IPv4 addresses for rooms without services: those are connected without a network of the engine's, which is faster. Empty: all have such networks.",
	"network.mtu":         "MTU of room networks. 0: the engine's default.",
	"network.http_proxy":  "Proxies given to every process of a room, in both spellings.",
	"network.https_proxy": "",
	"network.no_proxy":    "Hosts that are reached without, with commas.",

	"cache.enabled":          "Keep the runner's local caches, in data_dir, by project and protection of the ref; rules can\nsay whose. Off: nothing survives a job.",
	"cache.max_age":          "How long a cache is given out, from when it was kept.",
	"cache.max_size":         "Size of all caches together. Those that were used least recently go.",
	"cache.max_project_size": "Size of the caches of one project.",

	"pool.size":   "Rooms kept ready for each image and profile that jobs have, made by a process after cleanup. 0: none.",
	"pool.max":    "Rooms kept ready in all.",
	"pool.memory": "What they may hold together, as measured.",
	"pool.age":    "How long a room waits for a job before it is thrown away, and how long an image is remembered.",
	"pool.images": "Images of which `cleanroom pool fill` makes rooms before any job had one.",

	"log.level":  "debug, info, warn or error.",
	"log.format": "text or json.",
	"log.file":   "The driver's log, appended to. Empty: stderr of cleanup and doctor only, since stderr of\nthe other stages is the job's log.",

	"metrics.file": "Textfile for node_exporter, rewritten whenever something was counted, in a folder that is there;\nlike /var/lib/node_exporter/textfile/cleanroom.prom. Empty: nothing is counted.",

	"identity.issuer":    "Servers whose ID tokens are believed. A job's token for this audience gives facts.",
	"identity.profile":   "What production demands of a token. A job that names it, with CLEANROOM_IDENTITY, fails at\nonce with a token that production would refuse; so does one whose rule names it.",
	"policy.file":        "File of rules, as [[rule]] tables, in place of [[policy.rule]] here.",
	"policy.rule":        "What facts earn. The first rule whose `when` is true and that lists a thing grants it; a secret\nthat no rule grants is denied. Images, services and the keys of caches are bound by rules once a rule lists any. Files\nthat a rule's `warn` names are stored although the guard finds a secret in them. README has all keys.",
	"provider":           "Where secrets come from: vault, store, oidc, aws, file or exec, with the table of that kind.",
	"secret":             "What a job may ask for, with CLEANROOM_SECRETS: NAME, NAME; it gets it if a rule grants it.",
	"audit.required":     "Refuse jobs on a host without an audit log (`cleanroom audit init` makes one).",
	"audit.sign_command": "Program, with its arguments, that holds the key which signs the audit log: it reads on stdin what to sign\nand prints the Ed25519 signature (64 bytes, or base64). Empty: the key is a file.",
	"audit.public_key":   "Public half of that key: PEM, or base64 of its 32 bytes.",

	"audit.provenance":      "Sign, with the log's key, where each upload of artifacts comes from (SLSA provenance in a DSSE envelope);\n`cleanroom audit provenance JOB` prints it. Only on a host with an audit log.",
	"audit.provenance_file": "Path in the project's folder, like provenance.intoto.jsonl, where a job whose artifacts:paths include it gets that\nas well, in the place of a file of its own. Empty: none.",

	"audit.witness": "Servers that cosign the log's checkpoints (C2SP tlog-witness), asked by `cleanroom reap`.",
	"audit.forward": "Where records go besides the log on this host, as they are written: syslog (udp://, tcp://, tls://HOST:PORT\nor unix:///PATH) or otlp. What a destination has not got yet is kept by name.",
}

// examples of the lists of tables; a test loads them together.
var examples = map[string]string{
	"identity.issuer": `[[identity.issuer]]
url = "https://gitlab.example.com"
audience = "https://cleanroom.example.com"
`,
	"identity.profile": `[[identity.profile]]
name = "production"
tokens = ["API_ID_TOKEN"]
issuer = "https://gitlab.example.com"
audience = ["https://api.example.com"]
min_lifetime = "10m"
[[identity.profile.claim]]
name = "ref_protected"
values = ["true"]
`,
	"policy.rule": `[[policy.rule]]
name = "shop-production"
when = 'project_path == "shop/items" && ref_protected && environment == "production"'
secrets = ["DATABASE_URL"]
identity = ["production"]
hint = "only protected branches that deploy to production get it"
[[policy.rule]]
name = "caches"
when = 'glob(project_path, "shop/*")'
caches = ["**"]
[[policy.rule]]
name = "fixtures"
when = 'project_path == "shop/items"'
warn = ["tests/fixtures/**"]
`,
	"provider": `[[provider]]
name = "vault"
kind = "vault"
[provider.vault]
address = "https://vault.example.com:8200"
auth = "jwt"
role = "shop"
token = "VAULT_ID_TOKEN"
`,
	"secret": `[[secret]]
name = "DATABASE_URL"
provider = "vault"
path = "database/creds/shop"
[[secret.deliver]]
as = "env"
value = "postgresql://{{.username}}:{{.password | urlquery}}@db.example.com/shop"
`,
	"audit.witness": `[[audit.witness]]
url = "https://witness.example.com"
public_key = "witness.example.com+c3b4ae8e+BFICNyOFBcJq05UmRgFlz6nFkN7gHwB9m2qbjLUEdCvj"
`,
	"audit.forward": `[[audit.forward]]
name = "siem"
kind = "syslog"
address = "tls://logs.example.com:6514"
[[audit.forward]]
name = "collector"
kind = "otlp"
address = "https://otel.example.com:4318"
headers_file = "/etc/cleanroom/otlp-headers"
`,
}

// Example is a configuration file that holds every key with its default,
// commented out, below a line that explains it.
func Example() string {
	var b strings.Builder
	b.WriteString("# Configuration of cleanroom, usually " + DefaultPath + ".\n" +
		"# Every key is shown with its default. CLEANROOM_ROOM_SIZE=8g in the runner's\n" +
		"# environment overrides room.size, and so on; lists are written with commas.\n")
	table := ""
	for _, k := range keys() {
		section, name, ok := strings.Cut(k.name, ".")
		if !ok {
			section, name = "", k.name
		}
		if k.tables() { // in full, as a default would be empty
			b.WriteString("\n# " + strings.ReplaceAll(strings.TrimSuffix(explain[k.name]+"\n"+examples[k.name], "\n"), "\n", "\n# ") + "\n")
			continue
		}
		if section != table {
			fmt.Fprintf(&b, "\n[%s]\n", section)
			table = section
		} else {
			b.WriteByte('\n')
		}
		if text := explain[k.name]; text != "" {
			b.WriteString("# " + strings.ReplaceAll(text, "\n", "\n# ") + "\n")
		}
		fmt.Fprintf(&b, "#%s = %s\n", name, literal(k.value.Interface()))
	}
	return b.String()
}

// literal writes a default in TOML.
func literal(value any) string {
	switch v := value.(type) {
	case string:
		return strconv.Quote(v)
	case time.Duration:
		return strconv.Quote(short(v))
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = strconv.Quote(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// short is a duration without its zeros: 15m, not 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
