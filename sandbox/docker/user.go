package docker

import (
	"archive/tar"
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"

	"cleanroom/sandbox"
)

// passwdMax bounds what we read of an image's /etc/passwd, which its author
// wrote.
const passwdMax = 1 << 20

// who finds the user a container runs as, and the uid[:gid] behind it. Files
// of the builds volume belong to that uid, and the helper takes it on, so
// that neither git nor the job meets a stranger's files.
func (e *Engine) who(ctx context.Context, room sandbox.Spec, c sandbox.Container, p picture) (user, owner string, err error) {
	user = c.User
	if user == "" {
		user = p.config.User
	}
	if room.Profile == sandbox.Strict && isRoot(user) {
		if c.User != "" {
			return "", "", userErrorf("image %s: user %q is root, and this runner's profile is strict: name another user or none", c.Image, c.User)
		}
		user = room.User
	}
	switch {
	case isRoot(user):
		return user, "0:0", nil
	case numeric(user):
		owner = user
	default:
		known := p.id + " " + user
		if found, ok := e.owners.Load(known); ok {
			owner = found.(string)
		} else if owner, err = e.lookUp(ctx, room, p, user); err != nil {
			return "", "", fmt.Errorf("image %s: %w", c.Image, err)
		}
		e.owners.Store(known, owner)
	}
	if uid, _ := ownerIDs(owner); room.Profile == sandbox.Strict && strings.Trim(uid, "0") == "" {
		return "", "", userErrorf("image %s: user %q has uid 0, and this runner's profile is strict: name another user", c.Image, user)
	}
	return user, owner, nil
}

// lookUp reads the image's own /etc/passwd, through a container that is never
// started.
func (e *Engine) lookUp(ctx context.Context, room sandbox.Spec, p picture, user string) (string, error) {
	ctx, cancel := e.short(ctx)
	defer cancel()
	made, err := e.api.ContainerCreate(ctx, &container.Config{Image: p.id, Entrypoint: []string{"/"}, Labels: labels(room, "look")}, &container.HostConfig{NetworkMode: "none"}, nil, nil, room.Name+"-look-"+random())
	if err != nil {
		return "", fmt.Errorf("look for user %q: %w", user, err)
	}
	defer e.removeContainer(context.WithoutCancel(ctx), made.ID)
	r, _, err := e.api.CopyFromContainer(ctx, made.ID, "/etc/passwd")
	if cerrdefs.IsNotFound(err) {
		return "", userErrorf("user %q: the image has no /etc/passwd", user)
	} else if err != nil {
		return "", fmt.Errorf("look for user %q: %w", user, err)
	}
	defer r.Close()
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil || h.Typeflag != tar.TypeReg {
		return "", userErrorf("user %q: the image's /etc/passwd is no regular file", user)
	}
	return findUser(io.LimitReader(t, passwdMax), user)
}

// findUser finds name[:group] in passwd(5) lines and returns uid:gid. A named
// group counts by the user's own gid: it only decides who owns the builds.
//
// It must not see another user than the engine, which is tolerant: the first
// line of the name counts, be it cut short or indented, what is no number is
// uid 0, and "+0" is a uid. So what is odd is refused.
func findUser(passwd io.Reader, user string) (string, error) {
	name, group, _ := strings.Cut(user, ":")
	column := 0
	if _, err := strconv.Atoi(name); err == nil {
		if column = 2; !numeric(name) {
			return "", userErrorf("user %q: write a uid in digits", user)
		}
	}
	s := bufio.NewScanner(passwd)
	s.Buffer(nil, 64<<10)
	for s.Scan() {
		f := strings.Split(strings.TrimSpace(s.Text()), ":")
		if len(f) <= column || f[column] != name {
			continue
		}
		if len(f) < 4 || !numeric(f[2]+":"+f[3]) {
			return "", userErrorf("user %q: its line in the image's /etc/passwd is broken: correct the image, or name a uid", user)
		}
		if numeric(group) {
			return f[2] + ":" + group, nil
		}
		return f[2] + ":" + f[3], nil
	}
	if err := s.Err(); err != nil {
		return "", userErrorf("user %q: the image's /etc/passwd: %w", user, err)
	}
	return "", userErrorf("user %q is not in the image's /etc/passwd", user)
}
