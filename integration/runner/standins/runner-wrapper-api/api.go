// Package api stands in for the one by which a program steers `gitlab-runner wrapper`, a command that this build leaves out.
package api

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"
)

// ErrProcessNotInitialized says that the wrapped runner does not run.
var ErrProcessNotInitialized = errors.New("process not initialized")

// Status is the wrapped runner's.
type Status int

// The states of a wrapped runner.
const (
	StatusUnknown Status = iota
	StatusRunning
	StatusInShutdown
	StatusStopped
)

// String names the status.
func (s Status) String() string {
	return [...]string{"unknown", "running", "in_shutdown", "stopped"}[s]
}

// InitGracefulShutdownRequest asks for a shutdown.
type InitGracefulShutdownRequest interface {
	ShutdownCallbackDef() ShutdownCallbackDef
}

// ShutdownCallbackDef says whom to call after it.
type ShutdownCallbackDef interface {
	URL() string
	Method() string
}

// ShutdownCallback makes that call.
type ShutdownCallback interface{ Run(context.Context) }

// NewShutdownCallback returns no callback.
func NewShutdownCallback(logrus.FieldLogger, ShutdownCallbackDef) ShutdownCallback { return nil }
