// Package di stands in for step-runner's: it puts a server together, or here, says that it cannot.
package di

import (
	"log/slog"

	"gitlab.com/gitlab-org/step-runner/pkg/api"
	"gitlab.com/gitlab-org/step-runner/pkg/runner"
	"gitlab.com/gitlab-org/step-runner/proto"
)

// Container makes a server's parts.
type Container struct{}

// NewContainer returns an empty Container.
func NewContainer(...func(*Container)) *Container { return &Container{} }

// WithBuiltinFunc does nothing.
func WithBuiltinFunc(string, runner.BuiltinFunction) func(*Container) { return nil }

// WithOperatorLogger does nothing.
func WithOperatorLogger(*slog.Logger) func(*Container) { return nil }

// StepRunnerService fails with api.ErrNotHere.
func (*Container) StepRunnerService() (proto.StepRunnerServer, error) { return nil, api.ErrNotHere }
