package hunt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// daemons live longer than a job and see what goes to a container.
var daemons = []string{"dockerd", "containerd", "containerd-shim", "gitlab-runner"}

// Daemons returns the engine's and the runner's processes, by name.
func Daemons() (map[string][]int, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	found := map[string][]int{}
	for _, pid := range all {
		comm, err := process{dir: fmt.Sprintf("/proc/%d", pid)}.read("comm")
		if vanished(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if slices.Contains(daemons, comm) {
			found[comm] = append(found[comm], pid)
		}
	}
	return found, nil
}

// Memory searches all that processes can read of their own memory, swapped
// pages too, and what they freed and did not overwrite. It is slow (about a
// second for each GiB that is mapped). A runner holds its job's variables by
// right; nothing holds a value that cleanroom fetched.
func (h *Hunt) Memory(ctx context.Context, pids ...int) error {
	if h.err != nil {
		return h.err
	}
	if len(pids) == 0 {
		return fmt.Errorf("say whose memory to search: %w", ErrScope)
	}
	var failed []error
	for _, pid := range pids {
		p := process{Hunt: h, dir: fmt.Sprintf("/proc/%d", pid)}
		var err error
		if p.comm, err = p.read("comm"); err != nil {
			failed = append(failed, p.gone("comm", err))
			continue
		}
		if pid == os.Getpid() {
			h.skip(p.String(), "the hunter or what started it")
			continue
		}
		failed = append(failed, p.memory(ctx))
	}
	return errors.Join(failed...)
}

func (p process) memory(ctx context.Context) error {
	text, err := p.read("maps")
	if err != nil {
		return p.gone("maps", err)
	}
	regions, err := parseMaps(strings.NewReader(text))
	if err != nil {
		return p.unreadable(p.dir+"/maps", err)
	}
	mem, err := os.Open(p.dir + "/mem")
	if err != nil {
		return p.gone("mem", err)
	}
	defer mem.Close()
	where := p.dir + "/mem (" + p.comm + ")"
	page := int64(os.Getpagesize())
	for _, r := range regions {
		if strings.HasPrefix(r.name, "[vvar") || r.name == "[vsyscall]" {
			p.skip(where, "the kernel's clock, which is no memory of the process ("+r.name+")")
			continue
		}
		for at := r.from; at < r.to; {
			n, err := p.stream(ctx, where, io.NewSectionReader(mem, at, r.to-at), at)
			switch at += n; {
			case errors.Is(err, syscall.EIO):
				// Mapped and not there: a device's, or beyond a file's end.
				p.skip(where, "pages that the kernel has no content for")
				at = (at/page + 1) * page
			case err != nil && ctx.Err() == nil:
				return p.gone("mem", err)
			case err != nil:
				return err
			case n == 0: // the process ended
				p.skip(p.String(), "a process that ended")
				return nil
			}
		}
	}
	p.count(func(r *Report) { r.Processes++ })
	return nil
}

// region of a process's memory that it may read.
type region struct {
	from, to int64
	name     string
}

// parseMaps reads /proc/PID/maps (proc_pid_maps(5)). Addresses of the upper
// half are the kernel's and are left out.
func parseMaps(r io.Reader) (all []region, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		fields := strings.Fields(s.Text())
		if len(fields) < 5 {
			return nil, fmt.Errorf("maps: a line has %d fields", len(fields))
		}
		low, high, _ := strings.Cut(fields[0], "-")
		from, err1 := strconv.ParseUint(low, 16, 64)
		to, err2 := strconv.ParseUint(high, 16, 64)
		if err := errors.Join(err1, err2); err != nil || to < from {
			return nil, fmt.Errorf("maps: a line has no addresses")
		}
		if to>>63 == 1 || fields[1][0] != 'r' {
			continue
		}
		all = append(all, region{int64(from), int64(to), strings.Join(fields[5:], " ")})
	}
	return all, s.Err()
}
