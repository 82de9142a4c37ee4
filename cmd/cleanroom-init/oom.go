package main

import (
	"bytes"
	"os"
	"strconv"
)

// stageOOMAdj has the kernel take a stage first when memory runs out, and
// init last.
const stageOOMAdj = 500

// oomScore is our own oom_score_adj, opened while /proc/self was still ours
// to write (PR_SET_DUMPABLE 0 gives it to root).
type oomScore struct {
	file *os.File
	own  string
}

func openOOMScore() oomScore {
	text, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return oomScore{}
	}
	own, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || own >= stageOOMAdj {
		return oomScore{}
	}
	file, _ := os.OpenFile("/proc/self/oom_score_adj", os.O_WRONLY, 0)
	return oomScore{file, strconv.Itoa(own)}
}

// raise sets what the next child inherits, from its first instruction on.
// The short time in which it is ours too is the price. Not permitted is no
// reason to fail.
func (o oomScore) raise() (restore func()) {
	if o.file == nil {
		return func() {}
	}
	o.file.WriteAt([]byte(strconv.Itoa(stageOOMAdj)), 0)
	return func() { o.file.WriteAt([]byte(o.own), 0) }
}

// oomKills is how many processes of this container the kernel has killed for
// want of memory, as far as its cgroup can be seen from here. 0 is also "not
// known".
func oomKills() (n int) {
	for _, path := range []string{
		"/sys/fs/cgroup/memory.events",             // v2, own namespace
		"/sys/fs/cgroup/memory/memory.oom_control", // v1
	} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for line := range bytes.Lines(text) {
			if f := bytes.Fields(line); len(f) == 2 && string(f[0]) == "oom_kill" {
				n, _ = strconv.Atoi(string(f[1]))
				return n
			}
		}
	}
	return 0
}
