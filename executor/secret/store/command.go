package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// commandPath is all that a command's environment has.
const commandPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// rotation is what a command that asked for it reads on stdin, as JSON.
type rotation struct {
	Name   string            `json:"name"`
	Fields map[string]string `json:"fields"` // of the newest version; empty at first
}

// run rotates a secret at its source. Nothing secret is in the program's
// arguments or environment. What it says on stderr is dropped: it might be
// the value, and our words reach logs.
func (g *Generator) run(ctx context.Context, name string, old map[string]string) (value, error) {
	limited, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	c := exec.CommandContext(limited, g.Command[0], g.Command[1:]...)
	c.Env, c.Dir = []string{commandPath}, "/"
	// All that it started ends with it, and with us: the signal of Pdeathsig
	// comes when our thread ends, so the thread must be ours until then.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	if g.PassOld {
		if old == nil {
			old = map[string]string{}
		}
		text, err := json.Marshal(rotation{name, old})
		if err != nil {
			return value{}, err
		}
		defer clear(text)
		c.Stdin = bytes.NewReader(text)
	}
	out := bounded{left: maxValue * 2} // JSON may quote
	c.Stdout = &out
	err := c.Run()
	defer clear(out.text)
	if err != nil {
		return value{}, fmt.Errorf("%w: %s %w", ErrCommand, g.Command[0], g.because(ctx, limited, c, &out, err))
	}
	fields, err := readOutput(out.text)
	if err != nil {
		return value{}, fmt.Errorf("%w: %s printed no value: %w", ErrCommand, g.Command[0], err)
	}
	return value{fields: fields}, nil
}

// because says in our own words why a command gave no value.
func (g *Generator) because(ctx, limited context.Context, c *exec.Cmd, out *bounded, err error) error {
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("was interrupted: %w", ctx.Err())
	case limited.Err() != nil:
		return fmt.Errorf("did not end within %s: run it by hand to see why", short(g.Timeout))
	case out.left < 0:
		return fmt.Errorf("printed more than %d bytes", maxValue*2)
	case errors.As(err, &exit):
		return fmt.Errorf("ended with %s: run it by hand to see why", exit.ProcessState)
	case errors.Is(err, exec.ErrWaitDelay):
		_ = c.Cancel() // what holds the output is still of its group
		return errors.New("ended, but left a process behind that has its output: redirect that one's")
	}
	return fmt.Errorf("did not start: %w", err)
}

// readOutput reads what a command printed: a JSON object of strings, or text.
func readOutput(text []byte) (map[string]string, error) {
	if trimmed := bytes.TrimSpace(text); bytes.HasPrefix(trimmed, []byte("{")) {
		return ParseFields(trimmed)
	}
	fields := map[string]string{"value": TrimLine(string(text))}
	return fields, CheckFields(fields)
}

// ParseFields reads the JSON object of strings that a value of several fields
// is written as. The error does not quote it.
func ParseFields(text []byte) (map[string]string, error) {
	var fields map[string]string
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf(`%w: fields must be one JSON object of strings, like {"username": "...", "password": "..."}`, ErrInput)
	}
	return fields, CheckFields(fields)
}

// TrimLine takes the newline from a value that is a single line: it is the
// editor's or echo's. A value of several lines, like a PEM key, needs its own.
func TrimLine(text string) string {
	line, ok := strings.CutSuffix(text, "\n")
	if !ok || strings.Contains(line, "\n") {
		return text
	}
	return strings.TrimSuffix(line, "\r")
}

// bounded keeps what is written to it until there is too much.
type bounded struct {
	text []byte
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("too much")
	}
	b.text = append(b.text, p...)
	return len(p), nil
}
