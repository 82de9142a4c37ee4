package hunt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Except is something to leave out, and why.
type Except struct{ What, Reason string }

// FileScope is where to look for files.
type FileScope struct {
	In     []string // files and folders, searched whole, mounts below them too
	Except []Except // paths; all below them is left out
	// ChangedSince leaves out files whose inode has not changed since: a
	// canary that was made later cannot be in them, for whatever writes to a
	// file or renames it moves its ctime, and nothing moves that back. Zero is
	// to read them all.
	ChangedSince time.Time
}

// Places are where a machine keeps what may outlive a job. Add the engine's
// root (Engine.Root), the state folder and the data folder.
func Places() []string {
	return []string{"/var", "/tmp", "/run", "/etc", "/root", "/home", "/dev/shm"}
}

// most errors that one call reports.
const most = 20

// job is a file on its way from the walk to a searcher.
type job struct{ path, where string }

// Files searches files, their names, and the targets of symbolic links, which
// are not followed. A place that is not there is a Skip.
func (h *Hunt) Files(ctx context.Context, scope FileScope) error {
	if h.err != nil {
		return h.err
	}
	if len(scope.In) == 0 {
		return fmt.Errorf("say which files to search: %w", ErrScope)
	}
	all, err := mounts("self")
	if err != nil {
		return h.unreadable("/proc/self/mountinfo", err)
	}
	w, err := h.newWalk(scope, all)
	if err != nil {
		return err
	}
	return w.run(ctx, func() {
		for _, root := range scope.In {
			if real, err := filepath.EvalSymlinks(root); err == nil {
				root = real // /var/run is /run
			}
			if _, err := os.Lstat(root); errors.Is(err, os.ErrNotExist) {
				h.skip(root, "not on this machine")
				continue
			}
			w.folder(ctx, root, "")
		}
	})
}

// walk is one way through the file tree: one goroutine walks, two search.
type walk struct {
	*Hunt
	scope  FileScope
	leave  map[string]string // path: reason
	mounts map[string]mount
	files  chan job
	seen   inodes // a bind mount or a hard link shows one file at many paths

	mu     sync.Mutex
	failed []error
	lost   int // errors beyond most
}

func (h *Hunt) newWalk(scope FileScope, all []mount) (*walk, error) {
	w := &walk{Hunt: h, scope: scope, leave: map[string]string{}, mounts: map[string]mount{}, files: make(chan job, 256), seen: inodes{}}
	for _, e := range scope.Except {
		if e.Reason == "" || !filepath.IsAbs(e.What) {
			return nil, fmt.Errorf("except %s: give an absolute path and a reason: %w", h.mask(e.What), ErrScope)
		}
		w.leave[filepath.Clean(e.What)] = e.Reason
		if real, err := filepath.EvalSymlinks(e.What); err == nil {
			w.leave[real] = e.Reason
		}
	}
	for _, m := range all {
		w.mounts[m.point] = m
	}
	return w, nil
}

func (w *walk) run(ctx context.Context, find func()) error {
	var searchers sync.WaitGroup
	for range 2 {
		searchers.Go(func() {
			for j := range w.files {
				if ctx.Err() == nil {
					w.fail(w.opened(ctx, j.path, j.where, syscall.O_NOFOLLOW))
				}
			}
		})
	}
	find()
	close(w.files)
	searchers.Wait()
	if ctx.Err() != nil {
		return fmt.Errorf("the hunt did not come to its end, give it more time: %w", ctx.Err())
	}
	if w.lost > 0 {
		w.failed = append(w.failed, fmt.Errorf("and %d more: %w", w.lost, ErrUnreadable))
	}
	return errors.Join(w.failed...)
}

func (w *walk) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
	case len(w.failed) < most:
		w.failed = append(w.failed, err)
	default:
		w.lost++
	}
}

// folder walks what is at path. A prefix stands before paths that are seen
// through a process's root, and not in the names that mounts go by.
func (w *walk) folder(ctx context.Context, path, prefix string) {
	err := filepath.WalkDir(path, func(path string, d os.DirEntry, err error) error {
		if ctx.Err() != nil {
			return filepath.SkipAll
		}
		if vanished(err) {
			w.skip(path, "gone before it could be read")
			return nil
		}
		if err != nil {
			w.fail(w.unreadable(path, err))
			return nil
		}
		return w.entry(path, prefix, d)
	})
	w.fail(err)
}

func (w *walk) entry(path, prefix string, d os.DirEntry) error {
	next := error(nil)
	if d.IsDir() {
		next = filepath.SkipDir
	}
	if reason, ok := w.leave[path]; ok {
		w.skip(path, reason)
		return next
	}
	if reason := w.mounted(path, prefix, d); reason != "" {
		w.skip(path, reason)
		return next
	}
	w.name(path, filepath.Base(path))
	switch {
	case d.IsDir():
		return nil
	case d.Type()&os.ModeSymlink != 0:
		if target, err := os.Readlink(path); err == nil {
			w.name(path+" (the link's target)", target)
		} else if !vanished(err) {
			w.fail(w.unreadable(path, err))
		}
		return nil
	case !d.Type().IsRegular():
		w.skip(path, "a socket, FIFO or device, which holds no bytes")
		return nil
	}
	info, err := d.Info()
	if vanished(err) {
		w.skip(path, "gone before it could be opened")
		return nil
	}
	if err != nil {
		w.fail(w.unreadable(path, err))
		return nil
	}
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case st.Size == 0:
		w.skip(path, "an empty file")
	case time.Unix(st.Ctim.Unix()).Before(w.scope.ChangedSince):
		w.skip(path, "a file that has not changed since the time given")
	case w.seen.first(st):
		w.files <- job{path, path}
	}
	return nil
}

// mounted is why not to walk into what is mounted at path; empty if nothing
// speaks against it.
func (w *walk) mounted(path, prefix string, d os.DirEntry) string {
	m, ok := w.mounts[strings.TrimPrefix(path, prefix)]
	if !ok && prefix == "" && d.IsDir() && (d.Name() == "merged" || d.Name() == "rootfs") {
		// A container that came after the walk began.
		all, err := mounts("self")
		if err != nil {
			w.fail(w.unreadable("/proc/self/mountinfo", err))
		}
		for _, m := range all {
			w.mounts[m.point] = m
		}
		m, ok = w.mounts[path]
	}
	if !ok {
		return ""
	}
	return m.leave()
}

// Inside searches the mounts that a process sees and the hunter does not,
// such as the tmpfs mounts of a container: their files are in no folder of the
// machine. A container's root is left out, it lies in the engine's.
func (h *Hunt) Inside(ctx context.Context, pids ...int) error {
	if h.err != nil {
		return h.err
	}
	if len(pids) == 0 {
		return fmt.Errorf("say inside of which processes: %w", ErrScope)
	}
	own, err := mounts("self")
	if err != nil {
		return h.unreadable("/proc/self/mountinfo", err)
	}
	namespace, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return h.unreadable("/proc/self/ns/mnt", err)
	}
	var failed []error
	for _, pid := range pids {
		theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
		if theirs == namespace {
			continue // Files searches what the hunter sees
		}
		all, err := mounts(fmt.Sprint(pid))
		if vanished(err) {
			h.skip(fmt.Sprintf("/proc/%d", pid), "a process that ended")
			continue
		}
		if err != nil {
			failed = append(failed, h.unreadable(fmt.Sprintf("/proc/%d/mountinfo", pid), err))
			continue
		}
		w, err := h.newWalk(FileScope{}, all)
		if err != nil {
			return err
		}
		prefix := fmt.Sprintf("/proc/%d/root", pid)
		failed = append(failed, w.run(ctx, func() {
			for _, m := range all {
				if slices.ContainsFunc(own, func(o mount) bool { return o.device == m.device }) {
					continue // the hunter's own: Files searches it
				}
				if m.merged() {
					h.skip(prefix+m.point, "a container's layers merged: they are searched where they lie")
					continue
				}
				w.folder(ctx, prefix+m.point, prefix)
			}
		}))
	}
	return errors.Join(failed...)
}
