package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// An engine on another machine cannot mount our binary, so it gets a volume
// that holds it. It belongs to no room: it is a tool, named by its content,
// and stays for the next room.

func toolVolume(hash string) string { return "cleanroom-init-" + hash }

// bringTools makes sure that init can be mounted.
func (e *Engine) bringTools(ctx context.Context, room sandbox.Spec, helper picture) error {
	if _, err := os.Stat(e.options.InitPath); err != nil {
		return fmt.Errorf("init: %w: install cleanroom-init beside cleanroom, or set engine.init_path", err)
	}
	if e.local {
		return nil
	}
	content, err := packTools(e.options.InitPath, room.CABundle)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	e.tool = hex.EncodeToString(sum[:8])
	name := toolVolume(e.tool)
	ctx, cancel := e.short(ctx)
	defer cancel()
	if v, err := e.api.VolumeInspect(ctx, name); err == nil && v.Labels["cleanroom.tool"] == "init" {
		return nil
	} else if err != nil && !cerrdefs.IsNotFound(err) {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	if err := e.volume(ctx, name, map[string]string{"cleanroom.tool": "init"}, ""); err != nil {
		return err
	}
	made, err := e.api.ContainerCreate(ctx,
		&container.Config{Image: helper.id, Entrypoint: []string{"/"}, Labels: labels(room, "tool")},
		&container.HostConfig{NetworkMode: "none", Mounts: nil, Binds: []string{name + ":" + initproto.Dir}}, nil, nil, room.Name+"-tool")
	if err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	defer e.removeContainer(context.WithoutCancel(ctx), made.ID)
	if err := e.api.CopyToContainer(ctx, made.ID, initproto.Dir, bytes.NewReader(content), container.CopyToContainerOptions{}); err != nil {
		return fmt.Errorf("volume %s: %w", name, err)
	}
	return nil
}

// packTools is what /.cleanroom holds, as a tar: the same files give the same
// bytes. The folder run is where the container's own volume is mounted.
func packTools(init, bundle string) ([]byte, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: path.Base(initproto.RunDir) + "/", Mode: 0o755}); err != nil {
		return nil, err
	}
	bin := path.Base(path.Dir(initproto.MaskPath))
	for _, h := range []*tar.Header{
		{Typeflag: tar.TypeDir, Name: bin + "/", Mode: 0o755},
		{Typeflag: tar.TypeSymlink, Name: bin + "/" + initproto.MaskName, Linkname: "../" + path.Base(initproto.InitPath), Mode: 0o777},
	} {
		if err := t.WriteHeader(h); err != nil {
			return nil, err
		}
	}
	files := []struct {
		from, to string
		mode     int64
	}{{init, path.Base(initproto.InitPath), 0o755}, {bundle, path.Base(sandbox.CAPath), 0o644}}
	for _, f := range files {
		if f.from == "" {
			continue
		}
		data, err := os.ReadFile(f.from)
		if err != nil {
			return nil, err
		}
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.to, Mode: f.mode, Size: int64(len(data))}); err != nil {
			return nil, err
		}
		if _, err := t.Write(data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), t.Close()
}
