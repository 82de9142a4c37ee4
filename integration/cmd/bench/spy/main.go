// Command spy runs a driver in its own place, and adds what it cost to the file
// that BENCH_SPY names, a line of JSON: whether it ran one of the job's scripts,
// processor time and memory of the driver and of what it waited for
// (getrusage(2), RUSAGE_CHILDREN).
//
//	spy PROGRAM [ARGUMENT...]
//
// The memory that a forked process has before it executes a program counts as
// that program's, so this one is kept small.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
)

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "spy:", err)
		code = 1
	}
	os.Exit(code)
}

func run() (int, error) {
	if len(os.Args) < 2 {
		return 0, errors.New("usage: spy PROGRAM [ARGUMENT...]")
	}
	c := exec.Command(os.Args[1], os.Args[2:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := c.Run()
	if c.ProcessState == nil {
		return 0, err
	}
	u := c.ProcessState.SysUsage().(*syscall.Rusage)
	line, err := json.Marshal(map[string]any{
		"runs": slices.Contains(os.Args[2:], "run"), "cpu_ns": u.Utime.Nano() + u.Stime.Nano(), "peak_bytes": u.Maxrss << 10})
	if err != nil {
		return 0, err
	}
	f, err := os.OpenFile(os.Getenv("BENCH_SPY"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	_, err = f.Write(append(line, '\n'))
	return c.ProcessState.ExitCode(), errors.Join(err, f.Close())
}
