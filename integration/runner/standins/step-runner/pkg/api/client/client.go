// Package client stands in for step-runner's: what is asked of it, and how it answers.
package client

import "time"

// RunRequest asks for steps to be run.
type RunRequest struct {
	Id, WorkDir, BuildDir, Steps string
	Timeout                      *time.Duration
	Env                          map[string]string
	Variables                    []Variable
}

// Variable is a job variable.
type Variable struct {
	Key, Value   string
	File, Masked bool
}

// State says how far a request has come.
type State int

// The states that the runner tells apart.
const (
	StateSuccess State = iota + 1
	StateCancelled
)

// String names the state.
func (s State) String() string { return [...]string{"unspecified", "success", "cancelled"}[s] }

// ErrorKind says whose fault a failure is.
type ErrorKind int

// The kinds that the runner tells apart.
const (
	ErrorUnknown ErrorKind = iota
	ErrorInternal
	ErrorStepFailure
	ErrorCancelled
	ErrorTimeout
)

// Status is how a request ended.
type Status struct {
	State     State
	Message   string
	ErrorKind ErrorKind
}
