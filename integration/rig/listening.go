package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// listening starts a server that prints "listening " and where, and gives what
// follows that. What it prints is in a file of its name in dir. It ends with
// us.
func listening(ctx context.Context, c *exec.Cmd, dir string) (says string, err error) {
	log, err := os.Create(filepath.Join(dir, filepath.Base(c.Path)+".log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	c.Stdout, c.Stderr = log, log
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return "", err
	}
	var words []byte
	for range 600 {
		if words, err = os.ReadFile(log.Name()); err != nil {
			break
		}
		if _, rest, ok := strings.Cut(string(words), "listening "); ok {
			if says, _, ok = strings.Cut(rest, "\n"); ok {
				return says, nil
			}
		}
		if err = ctx.Err(); err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err == nil {
		err = fmt.Errorf("%s does not come up: %s", c.Path, words)
	}
	end(c)
	return "", err
}

// end kills a server and waits for its end.
func end(c *exec.Cmd) {
	c.Process.Kill()
	c.Wait()
}
