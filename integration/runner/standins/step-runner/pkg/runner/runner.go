// Package runner stands in for step-runner's: what a builtin function is, and what it is given. Nobody calls one here.
package runner

import (
	"context"
	"io"
	"time"

	"gitlab.com/gitlab-org/step-runner/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Kind is the kind of value that an input must have.
type Kind int

// The kinds that the runner's builtin functions ask for.
const (
	KindString Kind = iota
	KindList
	KindBool
)

// BuiltinFunction is a function that the runner brings along.
type BuiltinFunction interface {
	Spec() *proto.Spec
	Run(context.Context, BuiltinContext) (BuiltinResult, error)
}

// BuiltinResult is what a function returns.
type BuiltinResult struct{}

// BuiltinContext is what a function is given.
type BuiltinContext interface {
	GetInput(name string, kind Kind) (*structpb.Value, error)
	GetInputWithDefault(name string, kind Kind, spec map[string]*proto.Spec_Content_Input) (*structpb.Value, error)
	GetJobVars() map[string]*structpb.Value
	GetEnvs() map[string]string
	GetEnvList() []string
	Pipe() (stdout, stderr io.Writer)
	WorkDir() string
	GracefulExitDelay() time.Duration
	ListenCancel(context.Context) (context.Context, context.CancelFunc)
}
