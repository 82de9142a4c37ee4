package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// A job that runs as root may give a process another user ("su postgres -c").
// Without CAP_KILL, which hardened containers do not have, root may signal
// only who has its uid, so such a process could outlive its stage. But root
// may take any uid (CAP_SETUID), and with it the right to signal.

// send sends sig to each of pids and tells how many of them refused it to the
// end. With everyone, which only PID 1 may ask for, who shares a uid with one
// that had to be signalled as its user is met by one call for all of them, as
// nobody can fork away from that.
func send(pids []int, sig syscall.Signal, everyone bool) (denied int) {
	var strangers map[int][]int // by uid
	for _, pid := range pids {
		if !refused(unix.Kill(pid, sig)) {
			continue
		}
		uid, ok := realUID(pid)
		if !ok { // ended, or the next look will tell
			continue
		}
		if strangers == nil {
			strangers = map[int][]int{}
		}
		strangers[uid] = append(strangers[uid], pid)
	}
	for uid, pids := range strangers {
		ok := asUser(uid, func() {
			if everyone {
				unix.Kill(-1, sig)
			}
			for _, pid := range pids {
				if refused(unix.Kill(pid, sig)) {
					denied++
				}
			}
		})
		if !ok {
			denied += len(pids)
		}
	}
	return denied
}

// reachable tells whether all of pids are ours to signal without more ado.
func reachable(pids []int) bool {
	for _, pid := range pids {
		if refused(unix.Kill(pid, 0)) {
			return false
		}
	}
	return true
}

func refused(err error) bool { return err != nil && err != unix.ESRCH }

// asUser calls f on a thread whose real uid is uid; false when we may not take
// it. Only the real uid changes, which is one of the two that the kernel
// compares when a signal is sent. A change of the effective one would take
// the thread's capabilities and, where fs.suid_dumpable is 1, open init's
// memory (the key is there) to every process of root.
func asUser(uid int, f func()) (ok bool) {
	done := make(chan bool)
	go func() {
		runtime.LockOSThread()
		own := unix.Getuid()
		if setRealUID(uid) != nil {
			runtime.UnlockOSThread()
			done <- false
			return
		}
		f()
		err := setRealUID(own)
		for range 10 { // it is ours to have: only want of memory can refuse it
			if err == nil {
				break
			}
			err = setRealUID(own)
		}
		if err == nil {
			runtime.UnlockOSThread()
		} // else the thread ends with this goroutine: nothing else may run on it
		done <- true
	}()
	return <-done
}

// setRealUID changes this thread only: unix.Setresuid would change all.
func setRealUID(uid int) error {
	const keep = ^uintptr(0)
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), keep, keep); e != 0 {
		return e
	}
	return nil
}

// realUID is the real uid of pid. It and the saved one are what the kernel
// compares with ours; where either were ours we would not have been refused.
func realUID(pid int) (uid int, ok bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		// The name comes before it, but has no line end of its own.
		if f, is := bytes.CutPrefix(line, []byte("Uid:")); is {
			if ids := bytes.Fields(f); len(ids) == 4 {
				uid, err = strconv.Atoi(string(ids[0]))
				return uid, err == nil
			}
		}
	}
	return 0, false
}
