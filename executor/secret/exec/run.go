package exec

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"cleanroom/executor/secret"
	"cleanroom/executor/secret/quote"
)

const (
	// maxOutput bounds what a program prints, in bytes.
	maxOutput = 1 << 20
	// maxStderr is how much of the end of its standard error is kept, and
	// maxShown how much of that is shown, in bytes.
	maxStderr = 32 << 10
	maxShown  = 400
	// pipesGrace is how long a process that the program left behind may keep
	// its output open.
	pipesGrace = time.Second
	// noPermission is EX_NOPERM of sysexits.h.
	noPermission = 77

	// searchPath is PATH where exec.env has none: the one of Debian's root, and
	// not that of whoever started the runner.
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// run runs a program and gives what it printed.
//
// It inherits hold, and so does what it starts: when we are killed in the
// middle, nobody takes back what is still being issued.
func (p *Provider) run(ctx context.Context, argv []string, f facts, hold *os.File) ([]byte, error) {
	if err := checkProgram(argv[0]); err != nil {
		return nil, err
	}
	stdin, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout,
		fmt.Errorf("%s did not end within %s and was killed: see what it waits for, or raise the provider's timeout", argv[0], p.timeout))
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = p.environ(f), "/"
	stdout, stderr := &head{}, &tail{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(stdin, '\n')), stdout, stderr
	if hold != nil {
		cmd.ExtraFiles = []*os.File{hold}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = pipesGrace
	// Pdeathsig strikes when the thread that forked ends, which must not be
	// before we do.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case stdout.more:
		return nil, fmt.Errorf("%s printed more than %d bytes: let it print one JSON object", argv[0], maxOutput)
	case err == nil:
		return stdout.kept.Bytes(), nil
	case ctx.Err() != nil:
		killGroup(cmd) // who outlived the leader
		return nil, context.Cause(ctx)
	case errors.Is(err, exec.ErrWaitDelay):
		killGroup(cmd)
		return nil, fmt.Errorf("%s ended but left a process that holds its output: let that one close it", argv[0])
	case !errors.As(err, &exit):
		return nil, fmt.Errorf("%s cannot be run: %w", argv[0], err)
	}
	said := quote.Text(stderr.String(), maxShown, append(p.private(f), values(stdout.kept.Bytes())...)...)
	if said == "" {
		said = "(it said nothing on its standard error)"
	}
	if exit.ExitCode() == noPermission {
		return nil, fmt.Errorf("%w: %s ended with exit status 77: %s", secret.ErrRefused, argv[0], said)
	}
	return nil, fmt.Errorf("%s ended with %s: %s", argv[0], exit.ProcessState, said)
}

// private are the words that we gave to a program and that it must not be
// quoted with.
func (p *Provider) private(f facts) []string {
	list := []string{f.RevokeToken}
	for _, line := range p.exec.Env {
		if key, value, _ := strings.Cut(line, "="); key != "PATH" {
			list = append(list, long([]string{value})...)
		}
	}
	return list
}

// killGroup kills the program and what it started, but for those that left
// its process group.
func killGroup(cmd *exec.Cmd) error {
	if cmd.Process == nil { // the job ended before it began
		return os.ErrProcessDone
	}
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return os.ErrProcessDone
}

// environ is all that a program finds.
func (p *Provider) environ(f facts) []string {
	env := slices.Clone(p.exec.Env)
	if !slices.ContainsFunc(env, func(line string) bool { return strings.HasPrefix(line, "PATH=") }) {
		env = append(env, "PATH="+searchPath)
	}
	// The kernel takes no zero byte, and no program expects one.
	clean := func(s string) string { return strings.ReplaceAll(s, "\x00", "") }
	return append(env,
		"CLEANROOM_SECRET="+clean(f.Secret),
		"CLEANROOM_JOB_ID="+strconv.FormatInt(f.Job.ID, 10),
		"CLEANROOM_PROJECT="+clean(f.Job.Project),
		"CLEANROOM_ROOM="+clean(f.Job.Room),
		"CLEANROOM_LEASE="+f.Lease,
	)
}

// checkProgram refuses what others could have written: it would run as us.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no program %s: install it, or correct the provider", path)
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%w: %s is no program: correct the provider, or chmod it to 0755", secret.ErrRefused, path)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%w: %s may be written by others: chmod go-w it", secret.ErrRefused, path)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s belongs to uid %d, who could change it: chown it to root", secret.ErrRefused, path, st.Uid)
	}
	return nil
}

// head keeps the beginning, and ends the program's pipe when there is more.
// The buffer is no embedded one: io.Copy would use its ReadFrom, and bound
// nothing.
type head struct {
	kept bytes.Buffer
	more bool
}

func (h *head) Write(b []byte) (int, error) {
	if h.kept.Len()+len(b) > maxOutput {
		h.more = true
		return 0, errors.New("too much")
	}
	return h.kept.Write(b)
}

// tail keeps the end. What is cut off in the middle of a line goes with that
// line: the rest of a value is not known as one.
type tail struct {
	kept bytes.Buffer
	cut  bool
}

func (t *tail) Write(b []byte) (int, error) {
	t.kept.Write(b)
	if over := t.kept.Len() - maxStderr; over > 0 {
		t.kept.Next(over)
		t.cut = true
	}
	return len(b), nil
}

func (t *tail) String() string {
	text := t.kept.String()
	if t.cut {
		_, text, _ = strings.Cut(text, "\n")
	}
	return text
}
