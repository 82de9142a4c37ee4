package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tree is everything that a stage has started, whatever session or process
// group it moved to: all that descends from init, without what was alive
// before the stage and what descends from that. What an ENTRYPOINT left
// running stays, and so do the engine's execs (our own "dial" among them),
// whose parent is outside of the container.
type tree struct {
	reaper *reaper
	self   int
	before map[int]string // pid -> start
	alone  bool           // PID 1, and nobody was there before
	shell  int            // for the case that /proc cannot be read
}

func newTree(r *reaper) *tree {
	t := &tree{reaper: r, self: os.Getpid(), before: map[int]string{}}
	r.reap()
	list, err := processes()
	for _, p := range list {
		if p.pid != t.self && !p.zombie {
			t.before[p.pid] = p.start
		}
	}
	t.alone = err == nil && t.self == 1 && len(t.before) == 0
	return t
}

// members lists the living processes of the stage; others is true when there
// are processes that are not.
func (t *tree) members() (pids []int, others bool, err error) {
	list, err := processes()
	if err != nil {
		return nil, false, err
	}
	byPid := make(map[int]proc, len(list))
	for _, p := range list {
		byPid[p.pid] = p
	}
	for _, p := range list {
		if p.zombie || p.pid == t.self {
			continue
		}
		if t.owns(p, byPid) {
			pids = append(pids, p.pid)
		} else {
			others = true
		}
	}
	return pids, others, nil
}

func (t *tree) owns(p proc, all map[int]proc) bool {
	for range len(all) { // a table read in pieces may hold a circle
		if t.before[p.pid] == p.start {
			return false
		}
		if p.ppid == t.self {
			return true
		}
		parent, ok := all[p.ppid]
		if !ok {
			// 0: the engine's exec. Else its parent ended while we read: then
			// it is a child of ours by now, and the next look will tell.
			return false
		}
		p = parent
	}
	return false
}

// strike sends KILL to every process of the stage and tells how many it met
// and how many of those are not ours to signal.
func (t *tree) strike() (met, denied int) {
	pids, others, err := t.members()
	if err != nil {
		t.broadcast(unix.SIGKILL)
		return 0, 0
	}
	everyone := t.alone && !others
	if everyone {
		// One call for all of them: nobody can fork away from it. It passes
		// over who is not ours to signal and does not tell, so send follows.
		t.broadcast(unix.SIGKILL)
	}
	return len(pids), send(pids, unix.SIGKILL, everyone)
}

// broadcast sends sig with one call: as PID 1 to all that is in the container,
// else (/proc cannot be read) to the shell's group.
func (t *tree) broadcast(sig syscall.Signal) {
	if t.self == 1 {
		unix.Kill(-1, sig)
		return
	}
	unix.Kill(-t.shell, sig)
}

// term asks everything to end: once, and everything. A process that is forked
// while we walk the table must hear it too (a shell that waits for it would
// not get to its trap), but what a trap starts afterwards must not. So all
// are stopped before the first one is told, and wake up to hear it.
func (t *tree) term() {
	told := map[int]bool{}
	for range 20 { // a second look usually finds nobody new
		pids, others, err := t.members()
		if err != nil || (t.alone && !others && reachable(pids)) {
			t.broadcast(unix.SIGTERM) // one call reaches all
			t.broadcast(unix.SIGCONT)
			return
		}
		var fresh []int
		for _, pid := range pids {
			if !told[pid] {
				told[pid] = true
				fresh = append(fresh, pid)
			}
		}
		if len(fresh) == 0 {
			break
		}
		send(fresh, unix.SIGSTOP, false)
	}
	all := slices.Collect(maps.Keys(told))
	send(all, unix.SIGTERM, false)
	send(all, unix.SIGCONT, false)
}

// gone tells whether nothing of the stage is left.
func (t *tree) gone() bool {
	if !t.reaper.reap() {
		return true
	}
	pids, _, err := t.members()
	if err != nil || len(pids) > 0 {
		return false
	}
	// An orphan may have been between two parents while we looked.
	pids, _, err = t.members()
	return err == nil && len(pids) == 0
}

// kill ends everything of the stage and returns when it is gone, or false
// when something outlives KILL for limit (or cannot be killed by us).
func (t *tree) kill(limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 10*time.Millisecond) {
		if t.gone() {
			return true
		}
		met, denied := t.strike()
		if now := time.Now(); now.After(deadline) || (met > 0 && met == denied && now.After(deadline.Add(-limit/2))) {
			return false
		}
		time.Sleep(pause)
	}
}

// left is nil when nothing of the stage is left after all, else the error that
// names what is. It names no commands: they are the job's to choose.
func (t *tree) left() error {
	if t.gone() {
		return nil
	}
	pids, _, _ := t.members()
	text := "what the stage has started outlives KILL"
	for i, pid := range pids {
		if i == 5 {
			text += fmt.Sprintf(", and %d more", len(pids)-i)
			break
		}
		text += fmt.Sprintf(", process %d", pid)
		if uid, ok := realUID(pid); ok {
			text += fmt.Sprintf(" of user %d", uid)
		}
	}
	return fmt.Errorf("%s: remove the container", text)
}
