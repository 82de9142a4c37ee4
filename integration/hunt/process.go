package hunt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// ProcessScope is which processes to leave out; all others are searched.
type ProcessScope struct {
	// Rooms are process IDs, one in each room that is meant to hold the
	// values: all that share its PID namespace are left out.
	Rooms []int
	// Except are names as /proc/PID/comm has them, of 15 bytes at most.
	Except []Except
}

// Processes searches every process's command line, its environment, and the
// files that it holds open and that have no name any more (a deleted file, a
// memfd). The hunter and its ancestors are left out: the values are in the
// hunter, and what started it may have handed them over.
func (h *Hunt) Processes(ctx context.Context, scope ProcessScope) error {
	if h.err != nil {
		return h.err
	}
	rooms, err := namespaces(scope.Rooms)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, e := range scope.Except {
		if e.Reason == "" || e.What == "" {
			return fmt.Errorf("except process %s: give a name and a reason: %w", h.mask(e.What), ErrScope)
		}
		names[e.What] = e.Reason
	}
	own := ancestry(os.Getpid())
	all, err := pids()
	if err != nil {
		return h.unreadable("/proc", err)
	}
	deleted := inodes{}
	var failed []error
	for _, pid := range all {
		p := process{Hunt: h, dir: fmt.Sprintf("/proc/%d", pid)}
		p.comm, err = p.read("comm")
		room, nsErr := os.Readlink(p.dir + "/ns/pid")
		switch reason := names[p.comm]; {
		case ctx.Err() != nil:
			return errors.Join(append(failed, ctx.Err())...)
		case slices.Contains(own, pid):
			h.skip(p.String(), "the hunter or what started it")
		case vanished(err) || vanished(nsErr):
			h.skip(p.dir, "a process that ended")
		case err != nil || nsErr != nil:
			failed = append(failed, h.unreadable(p.dir, errors.Join(err, nsErr)))
		case kernel(pid):
			h.skip(p.String(), "a thread of the kernel, which has neither arguments nor environment")
		case reason != "":
			h.skip(p.String(), reason)
		case slices.Contains(rooms, room):
			h.skip(p.String(), "a process of a room")
		default:
			failed = append(failed, p.search(ctx, deleted))
		}
	}
	return errors.Join(failed...)
}

type process struct {
	*Hunt
	dir, comm string
}

// kernel says whether it is a thread of the kernel's own (PF_KTHREAD in Linux's
// include/linux/sched.h).
func kernel(pid int) bool {
	_, flags := stat(pid)
	return flags&0x00200000 != 0
}

func (p process) String() string { return p.dir + " (" + p.comm + ")" }

func (p process) read(name string) (string, error) {
	b, err := os.ReadFile(p.dir + "/" + name)
	return strings.TrimSuffix(string(b), "\n"), err
}

func (p process) search(ctx context.Context, deleted inodes) error {
	for _, name := range []string{"cmdline", "environ"} {
		text, err := p.read(name)
		if err == nil && text != "" { // a zombie has neither
			_, err = p.stream(ctx, p.dir+"/"+name+" ("+p.comm+")", strings.NewReader(text), 0)
		}
		if err != nil {
			return p.gone(name, err)
		}
	}
	p.count(func(r *Report) { r.Processes++ })
	open, err := os.ReadDir(p.dir + "/fd")
	if err != nil {
		return p.gone("fd", err)
	}
	var failed []error
	for _, d := range open {
		link := p.dir + "/fd/" + d.Name()
		target, err := os.Readlink(link)
		if err != nil || !strings.HasSuffix(target, " (deleted)") {
			continue // closed meanwhile, or in the file tree
		}
		var st syscall.Stat_t
		if syscall.Stat(link, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFREG && deleted.first(&st) {
			failed = append(failed, p.opened(ctx, link, link+" ("+p.comm+": "+target+")", 0))
		}
	}
	return errors.Join(failed...)
}

func (p process) gone(name string, err error) error {
	if vanished(err) {
		p.skip(p.String(), "a process that ended")
		return nil
	}
	return p.unreadable(p.dir+"/"+name, err)
}

// namespaces returns the PID namespaces of rooms.
func namespaces(rooms []int) (all []string, err error) {
	own, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return nil, fmt.Errorf("the hunter's own namespace: %w", err)
	}
	for _, pid := range rooms {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		if err != nil {
			return nil, fmt.Errorf("room of process %d: give a process that is alive: %w", pid, err)
		}
		if ns == own {
			return nil, fmt.Errorf("room of process %d: it has the machine's own PID namespace, which cannot be left out: %w", pid, ErrScope)
		}
		all = append(all, ns)
	}
	return all, nil
}

// ancestry is a process, its parent, and so on.
func ancestry(pid int) (all []int) {
	for pid > 0 {
		all = append(all, pid)
		pid, _ = stat(pid)
	}
	return all
}

// stat returns a process's parent, 0 if it has none, and its flags
// (proc_pid_stat(5), fields 4 and 9).
func stat(pid int) (parent int, flags uint64) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name, in brackets, may have anything in it, brackets too.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 7 {
		return 0, 0
	}
	parent, _ = strconv.Atoi(fields[1])
	flags, _ = strconv.ParseUint(fields[6], 10, 64)
	return parent, flags
}

func pids() (all []int, err error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all, err
}
