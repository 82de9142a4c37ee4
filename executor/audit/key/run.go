package key

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"cleanroom/executor/secret/quote"
)

const (
	// Timeout is how long a signing command may take. Appends wait in line
	// behind it, so it is short; a cloud's KMS needs a tenth of a second.
	Timeout = 10 * time.Second

	// maxOutput bounds each of the command's outputs, in bytes, and maxShown
	// what an error has of its stderr.
	maxOutput = 4 << 10
	maxShown  = 300

	// environment is all that the command has of it: ours holds what a job's
	// author wrote.
	environment = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// run lets the command sign.
func run(ctx context.Context, argv []string, msg []byte) ([]byte, error) {
	limited, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	c := exec.CommandContext(limited, argv[0], argv[1:]...)
	c.Env, c.Dir = []string{environment}, "/"
	c.Stdin = bytes.NewReader(msg)
	out, said := &bounded{}, &bounded{}
	c.Stdout, c.Stderr = out, said
	// What it started ends with it, and with us: Pdeathsig strikes when our
	// thread ends, so the thread must be ours until then.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	err := c.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s was interrupted: %w", argv[0], ctx.Err())
	case limited.Err() != nil:
		return nil, fmt.Errorf("%s did not end within %s: run it by hand to see why", argv[0], Timeout)
	case errors.As(err, &exit):
		return nil, fmt.Errorf("%s ended with %s: %s", argv[0], exit.ProcessState, quote.Text(said.String(), maxShown))
	case errors.Is(err, exec.ErrWaitDelay):
		_ = c.Cancel() // what holds the output is still of its group
		return nil, fmt.Errorf("%s ended, but left a process behind that has its output: redirect that one's", argv[0])
	case err != nil:
		return nil, fmt.Errorf("%s did not start: %w", argv[0], err)
	}
	return readSignature(argv[0], out.Bytes())
}

// readSignature takes 64 bytes as they are, or their base64 with or without a
// newline: base64 of 64 bytes has 88, so one is never the other.
func readSignature(name string, out []byte) ([]byte, error) {
	if len(out) == ed25519.SignatureSize {
		return out, nil
	}
	sig, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(out)))
	if err != nil || len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("%s printed %d bytes that are no signature: let it print the 64 bytes of one, or their base64", name, len(out))
	}
	return sig, nil
}

// bounded keeps the beginning of what is written to it. Its buffer is no
// embedded one: io.Copy would use its ReadFrom, and bound nothing.
type bounded struct{ kept bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxOutput - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (b *bounded) Bytes() []byte  { return b.kept.Bytes() }
func (b *bounded) String() string { return b.kept.String() }
