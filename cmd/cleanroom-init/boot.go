package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cleanroom/sandbox/initproto"
)

// defaultPath is Docker's, for a container without PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Boot implements initproto.Handler. Everything of ours is close-on-exec, so
// the new program starts as if the engine had started it, with the same PID:
// there are images that insist on being PID 1.
func (h *host) Boot(b initproto.Boot) error {
	env := mergeEnv(os.Environ(), b.Env)
	if len(b.Argv) == 0 {
		if b.Dir != "" {
			if err := os.Chdir(b.Dir); err != nil {
				return execError(b.Dir, err)
			}
		}
		h.becomeReady(env)
		return nil
	}
	if b.FilesDir != "" { // never emptied: the service has them for its whole life
		f, err := h.openFolder(b.FilesDir)
		if err != nil {
			return err
		}
		if err := f.put(b.Files); err != nil {
			return err
		}
	}
	argv := b.Argv
	if b.Role != initproto.Service {
		argv = append(argv[:len(argv):len(argv)], initPath)
		if f, err := os.OpenFile(markerPath(), os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW, 0o644); err != nil {
			return fmt.Errorf("note that ENTRYPOINT runs: %w: make %s writable for the container's user", err, runDir)
		} else {
			f.Close()
		}
	}
	// The socket goes first: whoever dials from now on waits for the next
	// life's, which may run as a user who could not remove ours.
	os.Remove(socketPath())
	err := execve(argv, env, b.Dir)
	os.Remove(markerPath())
	h.bad.Store(true)
	time.AfterFunc(10*time.Second, h.Over) // for a driver that does not hang up
	return err
}

// execve replaces this process. It returns only an *initproto.ExecError.
func execve(argv, env []string, dir string) error {
	if dir != "" {
		if err := os.Chdir(dir); err != nil {
			return execError(dir, err)
		}
	}
	path, err := lookPath(argv[0], env)
	if err != nil {
		return execError(argv[0], err)
	}
	err = syscall.Exec(path, argv, env)
	if errors.Is(err, syscall.ENOENT) {
		if _, statErr := os.Stat(path); statErr == nil {
			return &initproto.ExecError{Argv0: argv[0], Text: err.Error() + " (the file is there, its interpreter is not)"}
		}
	}
	return execError(argv[0], err)
}

var errNotInPath = errors.New("executable file not found in $PATH")

// execError keeps of err what the kernel said.
func execError(argv0 string, err error) error {
	text := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		text = errno.Error()
	}
	if errors.Is(err, syscall.E2BIG) {
		text += ": an environment variable is larger than 128 KiB, or all of them are larger than 2 MiB"
	}
	return &initproto.ExecError{Argv0: argv0, Text: text}
}

// lookPath finds name as an engine does, in the PATH of the environment that
// the program will have.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	err := errNotInPath
	for _, dir := range filepath.SplitList(getEnv(env, "PATH", defaultPath)) {
		if dir == "" {
			dir = "."
		}
		path := dir + "/" + name
		switch executable(path) {
		case nil:
			return path, nil
		case syscall.EACCES:
			err = syscall.EACCES
		}
	}
	return "", err
}

// executable is nil for a file that execve would try.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return syscall.ENOENT
	}
	if !info.Mode().IsRegular() {
		return syscall.EISDIR
	}
	const xOK = 1
	if syscall.Access(path, xOK) != nil {
		return syscall.EACCES
	}
	return nil
}

// getEnv is the last value of name in env.
func getEnv(env []string, name, otherwise string) string {
	value := otherwise
	for _, kv := range env {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			value = v
		}
	}
	return value
}

// mergeEnv puts over on top of base, each name once, in order of appearance.
func mergeEnv(base, over []string) []string {
	at := make(map[string]int, len(base)+len(over))
	merged := make([]string, 0, len(base)+len(over))
	for _, list := range [][]string{base, over} {
		for _, kv := range list {
			name, _, ok := strings.Cut(kv, "=")
			if !ok || name == "" {
				continue // nothing that a program could ask for
			}
			if i, ok := at[name]; ok {
				merged[i] = kv
				continue
			}
			at[name] = len(merged)
			merged = append(merged, kv)
		}
	}
	return merged
}
