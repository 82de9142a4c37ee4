package main

import (
	"bytes"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// reaper owns every wait4 of this process: as PID 1 (or subreaper) orphans
// come to us too, and two who wait would take each other's children.
type reaper struct {
	mu      sync.Mutex // held from fork until the pid is in waiters
	waiters map[int]chan syscall.WaitStatus
	signals chan os.Signal
}

func newReaper() *reaper {
	r := &reaper{waiters: map[int]chan syscall.WaitStatus{}, signals: make(chan os.Signal, 1)}
	signal.Notify(r.signals, unix.SIGCHLD)
	return r
}

// loop reaps on SIGCHLD, and now and then in case one was missed.
func (r *reaper) loop() {
	for {
		select {
		case <-r.signals:
		case <-time.After(5 * time.Second):
		}
		r.reap()
	}
}

// reap collects all zombies. It is false when we have no child at all, which
// means that every stage process is gone: each descends from a child of ours.
func (r *reaper) reap() (children bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return false
		case pid == 0:
			return true
		default:
			if c, ok := r.waiters[pid]; ok {
				delete(r.waiters, pid)
				c <- ws
			}
		}
	}
}

// start forks and executes; the channel gives the exit status once.
func (r *reaper) start(path string, argv []string, attr *syscall.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	done := make(chan syscall.WaitStatus, 1)
	r.waiters[pid] = done
	return pid, done, nil
}

// proc is one line of the process table.
type proc struct {
	pid, ppid int
	start     string // clock ticks: with pid it names a process for good
	zombie    bool
}

// processes reads /proc. Processes that end meanwhile are left out.
func processes() ([]proc, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var list []proc
	var buf [1024]byte
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		fd, err := unix.Open("/proc/"+name+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		n, err := unix.Read(fd, buf[:])
		unix.Close(fd)
		if err != nil {
			continue
		}
		if p, ok := parseStat(pid, buf[:n]); ok {
			list = append(list, p)
		}
	}
	return list, nil
}

// parseStat reads "pid (name) state ppid ...": the name may hold anything,
// so what counts comes after its last parenthesis.
func parseStat(pid int, line []byte) (proc, bool) {
	i := bytes.LastIndexByte(line, ')')
	if i < 0 {
		return proc{}, false
	}
	f := bytes.Fields(line[i+1:])
	if len(f) < 20 {
		return proc{}, false
	}
	ppid, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return proc{}, false
	}
	// A process whose first thread has ended shows as a zombie while others of
	// its threads go on (proc(5): field 20 is their number).
	threads, err := strconv.Atoi(string(f[17]))
	dead := (f[0][0] == 'Z' && threads <= 1) || f[0][0] == 'X'
	return proc{pid: pid, ppid: ppid, start: string(f[19]), zombie: dead}, err == nil
}
