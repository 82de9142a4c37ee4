package hunt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type mount struct{ device, point, kind string }

// views are file systems without content of their own. What a process has
// of them is asked for in /proc (see Processes).
var views = map[string]bool{
	"proc": true, "sysfs": true, "cgroup": true, "cgroup2": true, "devpts": true, "devtmpfs": true, "mqueue": true, "nsfs": true, "bpf": true,
	"tracefs": true, "debugfs": true, "securityfs": true, "configfs": true, "fusectl": true, "pstore": true, "efivarfs": true,
	"binfmt_misc": true, "autofs": true, "rpc_pipefs": true, "selinuxfs": true, "hugetlbfs": true,
}

// merged says whether a mount is what a container's layers look like together.
// The layers lie as folders beside it.
func (m mount) merged() bool {
	base := filepath.Base(m.point)
	return strings.Contains(m.kind, "overlay") && (base == "merged" || base == "rootfs" || m.point == "/")
}

// leave is why a mount is not walked into; empty if it is.
func (m mount) leave() string {
	switch {
	case views[m.kind]:
		return "a kernel's view and no files (" + m.kind + ")"
	case m.merged() && m.point != "/":
		return "a container's layers merged: they are searched where they lie"
	}
	return ""
}

// mounts are those that a process sees.
func mounts(pid string) ([]mount, error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if errors.Is(err, syscall.EINVAL) { // it is ending, and has left its namespaces (mounts_open_common in Linux's fs/proc_namespace.c)
		return nil, fmt.Errorf("process %s: %w", pid, os.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f)
}

func parseMounts(r io.Reader) (all []mount, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		left, right, ok := strings.Cut(s.Text(), " - ")
		before, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(before) < 5 || len(after) < 1 {
			return nil, fmt.Errorf("mountinfo: a line has %d fields and then %d", len(before), len(after))
		}
		all = append(all, mount{before[2], unescape(before[4]), after[0]})
	}
	return all, s.Err()
}

// unescape undoes the kernel's \040 for a blank and the like.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
