package docker

import (
	"context"
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"cleanroom/sandbox"
	"cleanroom/sandbox/initproto"
)

// filesInodes is what a folder of files has room for: a stage's files, and
// what a job makes there. Inodes are kernel memory that the size does not
// count.
const filesInodes = 256

// notThere is what a folder of files may be neither inside of nor around:
// init's own place, what the kernel and the engine mount, and what rooms do.
var notThere = []string{initproto.Dir, "/proc", "/sys", "/dev", "/tmp", homeDir}

// checkFiles looks at what a container is to get, before anything is made.
func (p plan) checkFiles() error {
	s := p.spec
	where := fmt.Sprintf("container %s: folder of files %q", p.name, s.FilesDir)
	if s.FilesDir == "" {
		if len(s.Files) > 0 {
			return fmt.Errorf("container %s has files and no folder for them: set its FilesDir", p.name)
		}
		return nil
	}
	if !path.IsAbs(s.FilesDir) || path.Clean(s.FilesDir) != s.FilesDir || s.FilesDir == "/" || strings.ContainsAny(s.FilesDir, ":\x00") {
		return fmt.Errorf("%s: choose a clean absolute path without a colon", where)
	}
	taken := notThere
	for _, m := range p.mounts {
		taken = append(taken[:len(taken):len(taken)], m.Target)
	}
	for _, t := range taken {
		if within(s.FilesDir, t) || within(t, s.FilesDir) {
			return fmt.Errorf("%s: it meets %s, which the room needs: choose another", where, t)
		}
	}
	switch {
	case s.FilesSize < 0 || s.FilesSize > sandbox.MaxFilesSize:
		return fmt.Errorf("%s of %d bytes: choose 1 to %d, or 0 for the default", where, s.FilesSize, sandbox.MaxFilesSize)
	case s.Limits.Memory <= 0:
		return fmt.Errorf("%s: set a memory limit, without one the kernel may write them to swap", where)
	case len(s.Files) > 0 && p.role != sandbox.Service:
		return fmt.Errorf("%s: only a service has files for its whole life, give them to a stage", where)
	}
	return nil
}

// within tells whether a path is a folder or below it.
func within(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, folder+"/")
}

// addFiles mounts the folder: a tmpfs in the container's own mounts, which
// the host does not see. It belongs to whom the container starts as. The
// label is there in any case, for an image could bring its own.
// A VOLUME of the image at the same place gives way.
func (p plan) addFiles(c *container.Config, h *container.HostConfig) {
	c.Labels[labelFiles] = p.spec.FilesDir
	if p.spec.FilesDir == "" {
		return
	}
	size := p.spec.FilesSize
	if size == 0 {
		size = sandbox.DefaultFilesSize
	}
	uid, gid := ownerIDs(p.owner)
	h.Tmpfs[p.spec.FilesDir] = fmt.Sprintf("rw,nosuid,nodev,noexec,size=%d,nr_inodes=%d,mode=0700,uid=%s,gid=%s", size, filesInodes, uid, gid)
}

// handOver gives the folder to the user that an ENTRYPOINT changed to. What a
// container says of itself counts no further than that container: a user of
// its own gets a folder of its own.
func (r *running) handOver(hello initproto.Hello) error {
	if r.spec.FilesDir == "" || r.role == sandbox.Service {
		return nil
	}
	first, _ := ownerIDs(r.owner)
	if uid, err := strconv.Atoi(first); err == nil && uid == hello.UID {
		return nil
	}
	ctx, cancel := r.engine.short(r.gone)
	defer cancel()
	if err := r.own(ctx, strconv.Itoa(hello.UID), strconv.Itoa(hello.GID)); err != nil {
		return fmt.Errorf("container %s: give %s to user %d, to whom ENTRYPOINT changed: %w", r.name, r.spec.FilesDir, hello.UID, err)
	}
	return nil
}

// own runs `init own` on the folder, as the container's root.
func (r *running) own(ctx context.Context, uid, gid string) error {
	api := r.engine.api
	made, err := api.ContainerExecCreate(ctx, r.id, container.ExecOptions{
		Cmd: []string{initproto.InitPath, "own", uid, gid, "0700", r.spec.FilesDir}, User: "0:0", AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return err
	}
	stream, err := api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return err
	}
	defer stream.Close()
	defer context.AfterFunc(ctx, stream.Close)()
	said := newTail(nil)
	stdcopy.StdCopy(said, said, stream.Reader) // ends with the exec
	state, err := api.ContainerExecInspect(ctx, made.ID)
	if err != nil {
		return err
	}
	if state.Running || state.ExitCode != 0 {
		return fmt.Errorf("exit code %d%s", state.ExitCode, said.quote())
	}
	return nil
}

func filesOf(files []sandbox.File) []initproto.File {
	list := make([]initproto.File, len(files))
	for i, f := range files {
		list[i] = initproto.File(f)
	}
	return list
}
