package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lookEvery is how often the processes are looked at.
	lookEvery = 10 * time.Millisecond
	// tick is the unit of times in /proc/PID/stat (USER_HZ, 100 on Linux).
	tick = time.Second / 100
)

// watch looks at all processes of this cleanroom on the machine, those in
// containers too: they are known by their program's file.
type watch struct {
	driver, init []os.FileInfo
	stop         chan struct{}
	ended        chan watched
}

// watched is what they had: memory is the proportional set size
// (proc_pid_smaps(5)), the most at one time.
type watched struct {
	initCPU        time.Duration
	init, together int64
}

func startWatch(bin string) (*watch, error) {
	if self := os.Getpid(); !sameMemory(self, self) {
		return nil, errors.New("this kernel tells not who shares memory (kcmp(2)), and some would be counted twice: measure usage on one with CONFIG_KCMP, as root")
	}
	w := &watch{stop: make(chan struct{}), ended: make(chan watched)}
	files, err := filepath.Glob(filepath.Join(bin, "*"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		if filepath.Base(f) == "cleanroom-init" {
			w.init = append(w.init, info)
		} else {
			w.driver = append(w.driver, info)
		}
	}
	if len(w.init) == 0 || len(w.driver) == 0 {
		return nil, fmt.Errorf("%s does not hold cleanroom and cleanroom-init: run `make build`", bin)
	}
	go w.look()
	return w, nil
}

// end stops looking.
func (w *watch) end() watched {
	close(w.stop)
	return <-w.ended
}

func (w *watch) look() {
	var all watched
	cpu := map[string]time.Duration{} // of each init, by number and start
	for {
		var init, driver int64
		var counted []int
		found, _ := filepath.Glob("/proc/[0-9]*")
		for _, p := range found {
			info, err := os.Stat(p + "/exe")
			if err != nil {
				continue // ended, or a kernel thread
			}
			isInit := among(info, w.init)
			if !isInit && !among(info, w.driver) {
				continue
			}
			pid, _ := strconv.Atoi(filepath.Base(p))
			if slices.ContainsFunc(counted, func(other int) bool { return sameMemory(pid, other) }) {
				continue
			}
			size := pss(p)
			if now, err := os.Stat(p + "/exe"); err != nil || !os.SameFile(now, info) {
				continue // what was read may be of the next program
			}
			counted = append(counted, pid)
			if !isInit {
				driver += size
				continue
			}
			init += size
			if id, used := processorTime(p); id != "" {
				cpu[id] = used
			}
		}
		all.init, all.together = max(all.init, init), max(all.together, init+driver)
		select {
		case <-w.stop:
			for _, used := range cpu {
				all.initCPU += used
			}
			w.ended <- all
			return
		case <-time.After(lookEvery):
		}
	}
}

func among(info os.FileInfo, files []os.FileInfo) bool {
	for _, f := range files {
		if os.SameFile(info, f) {
			return true
		}
	}
	return false
}

// sameMemory tells whether two processes have one address space (kcmp(2)): one
// of them has been started by the other and does not execute its program yet.
// The kernel divides no page between these, so its memory would count twice.
func sameMemory(one, other int) bool {
	const vm = 1 // KCMP_VM
	differs, _, err := unix.Syscall6(unix.SYS_KCMP, uintptr(one), uintptr(other), vm, 0, 0, 0)
	return err == 0 && differs == 0
}

// pss is the memory of a process in bytes, 0 if it has ended.
func pss(process string) int64 {
	text, _ := os.ReadFile(process + "/smaps_rollup")
	_, rest, _ := bytes.Cut(text, []byte("\nPss:"))
	fields := bytes.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return n << 10
}

// processorTime is what names a process for good, and the processor time that it has
// used itself (proc_pid_stat(5)); nothing if it has ended.
func processorTime(process string) (id string, used time.Duration) {
	text, _ := os.ReadFile(process + "/stat")
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return "", 0
	}
	user, _ := strconv.ParseInt(string(fields[11]), 10, 64)
	system, _ := strconv.ParseInt(string(fields[12]), 10, 64)
	return process + " " + string(fields[19]), time.Duration(user+system) * tick
}
