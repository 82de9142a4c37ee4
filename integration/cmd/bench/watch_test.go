package main

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

// TestSameMemory: a thread has the memory of its process by another number, as a
// child has that does not execute its program yet.
func TestSameMemory(t *testing.T) {
	self := os.Getpid()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	thread := self
	for _, entry := range threads {
		if id, _ := strconv.Atoi(entry.Name()); id != self {
			thread = id
		}
	}
	if thread == self {
		t.Fatal("a Go program has one thread")
	}
	if !sameMemory(self, thread) {
		t.Error("a thread's memory is not its process's")
	}
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	if sameMemory(self, c.Process.Pid) {
		t.Error("a program of its own is taken for its parent")
	}
}
