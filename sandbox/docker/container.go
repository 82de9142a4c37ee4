package docker

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-units"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// hardenedCaps is all that package managers and servers that drop root need.
var hardenedCaps = []string{"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"}

const (
	homeDir      = "/home/job"
	tmpfsOptions = "rw,nosuid,nodev,exec,mode=1777,size=" // exec: builds run what they unpack in TMPDIR
)

// plan is one container that is to be, with everything found out about it.
type plan struct {
	name    string
	role    sandbox.Role
	spec    sandbox.Container
	picture picture
	user    string // uid[:gid] or a name that the image knows; empty: root
	owner   string // uid[:gid] that this is
	network container.NetworkMode
	also    []string // more networks to join before the start
	mounts  []mount.Mount
	bare    bool // the engine gives it no network: wiring.go
	wired   bool // and we connect it
	sysctls map[string]string
	address string   // on the room's own network; empty: the engine chooses
	hosts   []string // name:address, where the engine's name server is out of reach
	files   []file   // on this machine, which its mounts bring in
}

// create makes the container. Its configuration holds nothing of the job: the
// environment, ENTRYPOINT and command reach init by stream.
func (e *Engine) create(ctx context.Context, room sandbox.Spec, p plan) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	ctx, cancel := e.whole(ctx)
	defer cancel()
	c, h, n := e.blueprint(room, p)
	made, err := e.api.ContainerCreate(ctx, c, h, n, platform(p.spec.Platform), p.name)
	if err != nil {
		return "", createError(p, err)
	}
	for _, net := range p.also {
		if err := e.api.NetworkConnect(ctx, net, made.ID, endpoint(room, p, net)); err != nil {
			return "", fmt.Errorf("container %s on network %s: %w", p.name, net, err)
		}
	}
	return made.ID, nil
}

// blueprint is all that the engine is told of a container. It follows from its
// arguments and the engine alone: by it rooms are compared (stock.go).
func (e *Engine) blueprint(room sandbox.Spec, p plan) (*container.Config, *container.HostConfig, *network.NetworkingConfig) {
	c := &container.Config{
		Image:       p.picture.id,
		User:        p.user,
		Entrypoint:  []string{initproto.InitPath},
		Cmd:         []string{},
		WorkingDir:  p.picture.config.WorkingDir,
		Labels:      labels(room, string(p.role)),
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}}, // ours sees the variables: service.go
		StopSignal:  p.picture.config.StopSignal,
	}
	if p.bare {
		c.NetworkDisabled = true // or it would run a program of its own at the start
		c.Hostname = p.name
		c.Labels[labelNetwork] = byWire
	}
	h := e.host(room, p)
	p.addFiles(c, h)
	n := &network.NetworkingConfig{}
	if h.NetworkMode.IsUserDefined() {
		n.EndpointsConfig = map[string]*network.EndpointSettings{string(h.NetworkMode): endpoint(room, p, string(h.NetworkMode))}
	}
	return c, h, n
}

func (e *Engine) host(room sandbox.Spec, p plan) *container.HostConfig {
	limits := p.spec.Limits
	h := &container.HostConfig{
		NetworkMode:   p.network,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		LogConfig:     container.LogConfig{Type: "none"}, // what a room prints never meets a disk here
		SecurityOpt:   []string{"no-new-privileges"},
		IpcMode:       container.IPCModePrivate,
		Runtime:       e.options.Runtime,
		ShmSize:       limits.Shm,
		Mounts:        p.mounts,
		Tmpfs:         map[string]string{},
		Sysctls:       p.sysctls,
		Resources: container.Resources{
			Memory:     limits.Memory,
			MemorySwap: limits.Memory, // no swap: memory that holds values stays off the disk
			NanoCPUs:   int64(limits.CPUs * 1e9),
			Ulimits:    []*units.Ulimit{{Name: "core", Hard: 1, Soft: 1}}, // a crash dump is a copy of every value; a limit of 0 would still feed it to a core_pattern program
		},
	}
	if limits.Pids > 0 {
		h.PidsLimit = &limits.Pids
	}
	if p.network != network.NetworkNone {
		h.ExtraHosts = slices.Concat(room.Network.ExtraHosts, p.hosts)
		h.DNS, h.DNSSearch = room.Network.DNS, room.Network.DNSSearch
	}
	switch room.Profile {
	case sandbox.Compatible:
	case sandbox.Strict:
		h.CapDrop = []string{"ALL"}
		h.ReadonlyRootfs = true
		h.Tmpfs["/tmp"] = tmpfsOptions + "1g"
		for path := range p.picture.config.Volumes {
			p.inMemory(h, path)
		}
		if p.role != sandbox.Helper && !reaches(room) {
			// The engine forwards what its own resolver does not know, even
			// from an internal network (CVE-2024-29018), unless told of a
			// server: that one it asks from inside, where none answers.
			h.DNS, h.DNSSearch = []string{"127.0.0.1"}, nil
		}
	default:
		h.CapDrop = []string{"ALL"}
		h.CapAdd = hardenedCaps
	}
	if needsHome(room.Profile, p) {
		h.Tmpfs[homeDir] = tmpfsOptions + "1g"
	}
	return h
}

// inMemory has a VOLUME of the image start empty, bounded and in memory. The
// engine would make it a folder on its disk, writable and without an end.
func (p plan) inMemory(h *container.HostConfig, volume string) {
	volume = path.Clean("/" + volume)
	for _, m := range p.mounts {
		if m.Target == volume || strings.HasPrefix(m.Target, strings.TrimSuffix(volume, "/")+"/") {
			return
		}
	}
	if _, taken := h.Tmpfs[volume]; taken {
		return
	}
	uid, gid := ownerIDs(p.owner)
	h.Tmpfs[volume] = "rw,nosuid,nodev,exec,mode=0700,size=1g,uid=" + uid + ",gid=" + gid
}

// reaches tells whether job and services may reach beyond their room. Policy
// will open hosts; until then strict rooms are closed.
func reaches(room sandbox.Spec) bool { return room.Profile != sandbox.Strict }

// needsHome: a read-only root has no writable home, and a helper that takes
// on the job's user has none of its own.
func needsHome(profile sandbox.Profile, p plan) bool {
	return profile == sandbox.Strict || (p.role == sandbox.Helper && p.user != "" && !isRoot(p.user))
}

func isRoot(user string) bool {
	name, _, _ := strings.Cut(user, ":")
	return name == "" || name == "0" || name == "root"
}

func platform(s string) *ocispec.Platform {
	parts := strings.Split(s, "/")
	if len(parts) < 2 {
		return nil
	}
	p := &ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) > 2 {
		p.Variant = parts[2]
	}
	return p
}

// createError: what the engine refuses as invalid is the image's or the
// job's doing.
func createError(p plan, err error) error {
	if cerrdefs.IsInvalidArgument(err) {
		return userErrorf("container for image %s: %w", p.spec.Image, err)
	}
	return fmt.Errorf("container %s: %w", p.name, err)
}

// start starts it; an image whose own configuration cannot run is the user's.
func (e *Engine) start(ctx context.Context, p plan, id string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := e.whole(ctx)
	defer cancel()
	err := e.api.ContainerStart(ctx, id, container.StartOptions{})
	if err == nil {
		return nil
	}
	text := err.Error()
	if strings.Contains(text, "unable to find user") || strings.Contains(text, "no matching entries in passwd") || strings.Contains(text, "unable to find group") {
		return userErrorf("image %s: user %q: %w", p.spec.Image, p.user, err)
	}
	return fmt.Errorf("start of container %s: %w", p.name, err)
}
