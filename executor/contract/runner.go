package contract

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// RunnerProcess is the process that calls us, told apart from a later one of
// the same number.
type RunnerProcess struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot (proc_pid_stat(5), field 22)
	Boot  string `json:"boot"`  // the kernel's boot_id
	Space string `json:"space"` // the PID namespace in which PID counts
}

// Runner is our parent. The zero value means that it could not be told.
func Runner() RunnerProcess {
	p := RunnerProcess{PID: os.Getppid()}
	var err error
	if p.Boot, p.Space, err = here(); err != nil {
		return RunnerProcess{}
	}
	if p.Start, err = startOf(p.PID); err != nil {
		return RunnerProcess{}
	}
	return p
}

// String is how it travels in job_env.
func (p RunnerProcess) String() string {
	return fmt.Sprintf("%d:%d:%s:%s", p.PID, p.Start, p.Boot, p.Space)
}

// Gone says that the process has certainly ended. Of one that another PID
// namespace of this boot knows (a runner in a container) nothing is certain.
func (p RunnerProcess) Gone() bool {
	if p.PID == 0 {
		return false
	}
	boot, space, err := here()
	if err != nil {
		return false
	}
	if boot != p.Boot {
		return true // the machine was started anew
	}
	if space != p.Space {
		return false
	}
	start, err := startOf(p.PID)
	return errors.Is(err, fs.ErrNotExist) || err == nil && start != p.Start
}

// here is where our process numbers count.
func here() (boot, space string, err error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", "", err
	}
	if space, err = os.Readlink("/proc/self/ns/pid"); err != nil {
		return "", "", err
	}
	return strings.TrimSpace(string(b)), strings.Trim(space, "pid:[]"), nil
}

// startOf reads field 22; the name before it may hold spaces and brackets. A
// process that nobody has waited for yet has ended too.
func startOf(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, errors.New("no stat line")
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return 0, fs.ErrNotExist
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}
