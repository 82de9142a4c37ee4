// Package api stands in for step-runner's: where its socket is, and the error of everything that would need it.
package api

import (
	"errors"
	"net"
	"os"
	"path/filepath"
)

// ErrNotHere is what native steps end with in this build.
var ErrNotHere = errors.New("native steps are not in this build of gitlab-runner: step-runner is a stand-in")

// DefaultSocketPath returns where step-runner would listen.
func DefaultSocketPath() string { return filepath.Join(os.TempDir(), "step-runner.sock") }

// SocketAddr makes an address of a path.
func SocketAddr(path string) *net.UnixAddr { return &net.UnixAddr{Name: path, Net: "unix"} }
