package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Stop ends the engine and removes all of it. Mounts and processes that it
// leaves are an error.
func (e *Engine) Stop() error {
	failed := []error{e.end(), firewall(context.Background(), "-D"), e.removeBridge()}
	if e.killed {
		e.sweep()
	}
	var left []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) { // shims end a little after their engine
		if left = e.processes(); len(left) == 0 {
			break
		}
	}
	for _, p := range left {
		failed = append(failed, fmt.Errorf("process %s is left of the second engine", p))
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	failed = append(failed, err)
	for _, m := range lines(string(mounts)) {
		if target := strings.Fields(m)[1]; strings.HasPrefix(target, e.Dir+"/") && target != e.data() {
			failed = append(failed, fmt.Errorf("mount %s is left of the second engine", target), syscall.Unmount(target, syscall.MNT_DETACH))
		}
	}
	for syscall.Unmount(e.data(), 0) == nil { // its disk, and what one that was killed has mounted on it
	}
	return errors.Join(append(failed, os.RemoveAll(e.Dir))...)
}

func (e *Engine) end() error {
	if e.cmd == nil {
		return nil
	}
	e.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-e.ended:
		return nil
	case <-time.After(patience):
		e.cmd.Process.Kill()
		<-e.ended
		return fmt.Errorf("the second engine did not end within %s of TERM", patience)
	}
}

// processes that name the engine's folder.
func (e *Engine) processes() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if b, err := os.ReadFile(p); err == nil && bytes.Contains(b, []byte(e.Dir+"/")) {
			found = append(found, filepath.Base(filepath.Dir(p))+" "+strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// Rooms are processes of rooms on this engine: shims, and what a runtime with
// a kernel of its own runs for each container.
func (e *Engine) Rooms() (found []string) {
	for _, p := range e.processes() {
		if e.killed && strings.Contains(p, "shim") && e.idle(p) {
			continue
		}
		if strings.Contains(p, "shim") || strings.Contains(p, "runsc") {
			found = append(found, p)
		}
	}
	return found
}

// idle tells whether a shim has no process of a container, but at most a runtime
// that was to become one: an engine that is killed at that instant never hears
// of it again.
func (e *Engine) idle(shim string) bool {
	pid, _, _ := strings.Cut(shim, " ")
	children, _ := filepath.Glob("/proc/" + pid + "/task/*/children") // proc_pid_task_children(5)
	for _, file := range children {
		b, _ := os.ReadFile(file)
		for child := range strings.FieldsSeq(string(b)) {
			if words, _ := os.ReadFile("/proc/" + child + "/cmdline"); len(words) > 0 && string(words) != "runc\x00init\x00" {
				return false
			}
		}
	}
	return true
}

// sweep ends what a killed engine forgot: such shims, and mounts of its own.
func (e *Engine) sweep() {
	for _, p := range e.processes() {
		pid, words, _ := strings.Cut(p, " ")
		n, err := strconv.Atoi(pid)
		if err == nil && (strings.Contains(words, "shim") && e.idle(p) || strings.HasPrefix(words, "fuse-overlayfs ")) {
			syscall.Kill(n, syscall.SIGKILL)
		}
	}
}

// keepBridge puts the default bridge of the machine's own engine back.
func keepBridge(ctx context.Context) (put func()) {
	const name = "docker0"
	out, err := exec.CommandContext(ctx, "ip", "-oneline", "-family", "inet", "addr", "show", "dev", name).Output()
	fields := strings.Fields(string(out)) // 4: docker0 inet 172.17.0.1/16 ...
	if err != nil || len(fields) < 4 {
		return func() {}
	}
	return func() {
		if exec.Command("ip", "link", "add", name, "type", "bridge").Run() == nil { // it was gone
			_ = exec.Command("ip", "addr", "add", fields[3], "dev", name).Run()
			_ = exec.Command("ip", "link", "set", name, "up").Run()
		}
	}
}
