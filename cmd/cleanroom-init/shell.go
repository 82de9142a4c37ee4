package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// findShell looks for what runs GitLab's scripts: bash, or a sh that knows
// $'...', in which those scripts write every value.
func (h *host) findShell(env []string) (path, problem string) {
	for _, p := range append([]string{"/usr/local/bin/bash", "/usr/bin/bash", "/bin/bash"}, inPath("bash", env)...) {
		if executable(p) == nil {
			return p, ""
		}
	}
	var poor string
	for _, p := range append([]string{"/bin/sh", "/usr/bin/sh", "/busybox/sh"}, inPath("sh", env)...) {
		if executable(p) != nil {
			continue
		}
		if h.knowsDollarQuotes(p, env) {
			return p, ""
		}
		if poor == "" {
			poor = p
		}
	}
	if poor != "" {
		return "", fmt.Sprintf("the image's sh (%s) does not understand $'...' and there is no bash: install bash in the image", poor)
	}
	return "", "the image has no shell: use an image with bash, or with a sh that understands $'...' (busybox)"
}

func inPath(name string, env []string) []string {
	if p, err := lookPath(name, env); err == nil {
		return []string{p}
	}
	return nil
}

func (h *host) knowsDollarQuotes(shell string, env []string) bool {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer null.Close()
	fd := null.Fd()
	pid, done, err := h.reaper.start(shell, []string{shell, "-c", `[ $'\x41' = A ]`}, &syscall.ProcAttr{
		Env: env, Files: []uintptr{fd, fd, fd}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return false
	}
	select {
	case ws := <-done:
		return ws.Exited() && ws.ExitStatus() == 0
	case <-time.After(5 * time.Second):
		unix.Kill(-pid, unix.SIGKILL)
		return false
	}
}
