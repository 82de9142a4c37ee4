// Package proto stands in for step-runner's generated messages: how a builtin function describes its inputs.
package proto

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"
)

// ValueType is an input's type.
type ValueType int32

// The types that the runner's builtin functions ask for.
const (
	ValueType_string ValueType = iota
	ValueType_array
	ValueType_boolean
)

// Spec describes a function.
type Spec struct{ Spec *Spec_Content }

// GetSpec returns s.Spec, also of a nil Spec.
func (s *Spec) GetSpec() *Spec_Content {
	if s == nil {
		return nil
	}
	return s.Spec
}

// Spec_Content is what Spec holds.
type Spec_Content struct {
	Inputs map[string]*Spec_Content_Input
}

// GetInputs returns c.Inputs, also of a nil Spec_Content.
func (c *Spec_Content) GetInputs() map[string]*Spec_Content_Input {
	if c == nil {
		return nil
	}
	return c.Inputs
}

// Spec_Content_Input is one input.
type Spec_Content_Input struct {
	Type      ValueType
	Default   *structpb.Value
	Sensitive bool
}

// StepRunnerServer would answer step-runner's calls. Nothing here makes one.
type StepRunnerServer interface{}

// RegisterStepRunnerServer does nothing, there being no server.
func RegisterStepRunnerServer(grpc.ServiceRegistrar, StepRunnerServer) {}
