package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestSameMemory holds a child before its program: it shares its parent's
// memory then, and no longer when the program runs.
func TestSameMemory(t *testing.T) {
	self := os.Getpid()
	if !sameMemory(self, self) {
		t.Fatal("a process does not have its own memory")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	c := exec.Command("sleep", "60")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	if sameMemory(self, c.Process.Pid) {
		t.Error("a program of its own is taken for its parent")
	}
}
