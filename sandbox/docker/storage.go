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

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// runSize holds a socket and a marker; what a job puts there is its own.
const runSize = 64 << 10

// volumes makes the room's volumes; owner is the uid:gid that the job and the
// helper run as.
func (e *Engine) volumes(ctx context.Context, room sandbox.Spec, helper picture, owner string) error {
	builds := room.Builds
	builds.Name = buildsVolume(room.Name)
	if builds.Tmpfs {
		uid, gid, err := e.hostIDs(owner)
		if err != nil {
			return err
		}
		o := fmt.Sprintf("size=%d,uid=%d,gid=%d,mode=0755,nosuid,nodev", builds.Size, uid, gid)
		if err := e.volume(ctx, builds.Name, labels(room, "builds"), o); err != nil {
			return err
		}
	} else {
		if err := e.volume(ctx, builds.Name, labels(room, "builds"), ""); err != nil {
			return err
		}
		if err := e.own(ctx, room, helper, owner, builds); err != nil {
			return err
		}
	}
	if room.Cache.Name == "" {
		return nil
	}
	cache := room.Cache
	cache.Name = cacheVolume(room, owner)
	l := map[string]string{labelCache: "1"}
	for k, v := range cache.Labels {
		l["cleanroom."+k] = v
	}
	if err := e.volume(ctx, cache.Name, l, ""); err != nil {
		return err
	}
	return e.own(ctx, room, helper, owner, cache)
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
	return nil
}

// own gives a fresh disk volume to the room's user. Only root can, and the
// room's own containers may not be root: so a helper container that does
// just this. A tmpfs volume is born with its owner and needs none.
// It is asked each time: whoever made a cache's volume may have died before.
func (e *Engine) own(ctx context.Context, room sandbox.Spec, helper picture, owner string, v sandbox.Volume) error {
	uid, gid := ownerIDs(owner)
	if uid == "0" {
		return nil // as a volume is born
	}
	ctx, cancel := e.short(ctx)
	defer cancel()
	made, err := e.api.ContainerCreate(ctx, &container.Config{
		Image:       helper.id,
		User:        "0:0",
		Entrypoint:  []string{initproto.InitPath, "own", uid, gid, "0755", v.Path},
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
		Mounts:         append(e.tools(room), volumeMount(v.Name, v.Path)),
	}, nil, nil, room.Name+"-own"+strings.ReplaceAll(v.Path, "/", "-"))
	if err != nil {
		return fmt.Errorf("owner of volume %s: %w", v.Name, err)
	}
	defer e.removeContainer(context.WithoutCancel(ctx), made.ID)
	done, failed := e.api.ContainerWait(ctx, made.ID, container.WaitConditionNextExit)
	if err := e.api.ContainerStart(ctx, made.ID, container.StartOptions{}); err != nil {
		return fmt.Errorf("owner of volume %s: %w", v.Name, err)
	}
	select {
	case r := <-done:
		if r.StatusCode != 0 {
			return fmt.Errorf("owner of volume %s: init own exited with %d", v.Name, r.StatusCode)
		}
		return nil
	case err := <-failed:
		return fmt.Errorf("owner of volume %s: %w", v.Name, err)
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

// cacheVolume is one for each user, who could not read another's files.
func cacheVolume(room sandbox.Spec, owner string) string {
	uid, _ := ownerIDs(owner)
	return room.Cache.Name + "-u" + uid
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
	if role == sandbox.Helper && room.Cache.Name != "" {
		m = append(m, volumeMount(cacheVolume(room, owner), room.Cache.Path))
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
