package docker

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"golang.org/x/sync/errgroup"

	"cleanroom/sandbox"
	"cleanroom/sandbox/fault"
	"cleanroom/sandbox/initproto"
)

// runSize holds a socket and a marker; what a job puts there is its own.
const runSize = 64 << 10

// volumes makes the room's volumes; owner is the uid:gid that the job and the
// helper run as.
func (e *Engine) volumes(ctx context.Context, room sandbox.Spec, helper picture, owner string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return e.furnishVolume(ctx, room, helper, owner, "builds", buildsVolume(room.Name), room.Builds)
	})
	if room.Cache.Path != "" {
		g.Go(func() error {
			return e.furnishVolume(ctx, room, helper, owner, "cache", cacheVolume(room.Name), room.Cache)
		})
	}
	return g.Wait()
}

func (e *Engine) furnishVolume(ctx context.Context, room sandbox.Spec, helper picture, owner, role, name string, v sandbox.Volume) error {
	if !v.Tmpfs {
		if err := e.volume(ctx, name, labels(room, role), ""); err != nil {
			return err
		}
		return e.own(ctx, room, helper, owner, name, v.Path)
	}
	uid, gid, err := e.hostIDs(owner)
	if err != nil {
		return err
	}
	return e.volume(ctx, name, labels(room, role), fmt.Sprintf("size=%d,uid=%d,gid=%d,mode=0755,nosuid,nodev", v.Size, uid, gid))
}

// volume makes one; tmpfs options make it live in memory.
func (e *Engine) volume(ctx context.Context, name string, labels map[string]string, tmpfs string) error {
	ctx, cancel := e.whole(ctx)
	defer cancel()
	o := volume.CreateOptions{Name: name, Labels: labels}
	if tmpfs != "" {
		o.DriverOpts = map[string]string{"type": "tmpfs", "device": "tmpfs", "o": tmpfs}
	}
	if _, err := e.api.VolumeCreate(ctx, o); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	return fault.At("room.volume.made")
}

// own gives a fresh disk volume to the room's user. Only root can, and the
// room's own containers may not be root: so a helper container that does
// just this. A tmpfs volume is born with its owner and needs none.
func (e *Engine) own(ctx context.Context, room sandbox.Spec, helper picture, owner, volume, path string) error {
	uid, gid := ownerIDs(owner)
	if uid == "0" {
		return nil // as a volume is born
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	made, err := e.api.ContainerCreate(ctx, &container.Config{
		Image:       helper.id,
		User:        "0:0",
		Entrypoint:  []string{initproto.InitPath, "own", uid, gid, "0755", path},
		Cmd:         []string{},
		Labels:      labels(room, "own"),
		Healthcheck: &container.HealthConfig{Test: []string{"NONE"}},
	}, &container.HostConfig{
		NetworkMode:    network.NetworkNone,
		LogConfig:      container.LogConfig{Type: "none"},
		CapDrop:        []string{"ALL"},
		CapAdd:         []string{"CHOWN", "FOWNER"},
		SecurityOpt:    []string{"no-new-privileges"},
		ReadonlyRootfs: true,
		Mounts:         append(e.tools(room), volumeMount(volume, path)),
	}, nil, nil, room.Name+"-own"+strings.ReplaceAll(path, "/", "-"))
	if err != nil {
		return fmt.Errorf("owner of volume %s: %w", volume, err)
	}
	defer e.removeContainer(context.WithoutCancel(ctx), made.ID)
	done, failed := e.api.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := e.api.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("owner of volume %s: %w", volume, err)
	}
	select {
	case r := <-done:
		if r.StatusCode != 0 {
			return fmt.Errorf("owner of volume %s: init own exited with %d", volume, r.StatusCode)
		}
		return nil
	case err := <-failed:
		return fmt.Errorf("owner of volume %s: %w", volume, err)
	}
}

// tools brings in init and the certificate bundle: from this machine's disk
// where the engine shares it, else from a volume that holds them (tool.go).
func (e *Engine) tools(room sandbox.Spec) []mount.Mount {
	if !e.local {
		m := volumeMount(toolVolume(e.tool), initproto.Dir)
		m.ReadOnly = true
		return []mount.Mount{m}
	}
	m := []mount.Mount{{Type: mount.TypeBind, Source: e.options.InitPath, Target: initproto.InitPath, ReadOnly: true}}
	if room.CABundle != "" {
		m = append(m, mount.Mount{Type: mount.TypeBind, Source: room.CABundle, Target: sandbox.CAPath, ReadOnly: true})
	}
	return m
}

func volumeMount(name, path string) mount.Mount {
	return mount.Mount{Type: mount.TypeVolume, Source: name, Target: path, VolumeOptions: &mount.VolumeOptions{NoCopy: true}}
}

// mounts of one container of the room.
func (e *Engine) mounts(room sandbox.Spec, name string, role sandbox.Role, owner string) []mount.Mount {
	m := append(e.tools(room), volumeMount(runVolume(name), initproto.RunDir))
	if role != sandbox.Service {
		m = append(m, volumeMount(buildsVolume(room.Name), room.Builds.Path))
		if e.local { // else it is in the volume of tools
			m = append(m, mount.Mount{Type: mount.TypeBind, Source: e.options.InitPath, Target: initproto.MaskPath, ReadOnly: true})
		}
	}
	if role == sandbox.Helper && room.Cache.Path != "" {
		m = append(m, volumeMount(cacheVolume(room.Name), room.Cache.Path))
	}
	return m
}

// ownerIDs splits uid[:gid]; a missing gid is the uid's own number.
func ownerIDs(owner string) (uid, gid string) {
	uid, gid, ok := strings.Cut(owner, ":")
	if uid == "" {
		uid = "0"
	}
	if !ok || gid == "" {
		gid = uid
	}
	return uid, gid
}

// numeric tells whether user is uid[:gid] already.
func numeric(user string) bool {
	for _, part := range strings.SplitN(user, ":", 2) {
		if _, err := strconv.ParseUint(part, 10, 31); err != nil {
			return false
		}
	}
	return true
}
