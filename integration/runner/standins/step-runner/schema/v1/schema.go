// Package schema stands in for step-runner's: the shape of a `run:` keyword, read from the job and written back.
package schema

// StepInputs are the inputs that a step is called with.
type StepInputs map[string]any

// Step is one entry of `run:`.
type Step struct {
	Action  string            `json:"action,omitempty" yaml:"action,omitempty"`
	Env     map[string]string `json:"env,omitempty" yaml:"env,omitempty"`
	Exec    *StepExec         `json:"exec,omitempty" yaml:"exec,omitempty"`
	Func    any               `json:"func,omitempty" yaml:"func,omitempty"`
	Inputs  StepInputs        `json:"inputs,omitempty" yaml:"inputs,omitempty"`
	Name    *string           `json:"name,omitempty" yaml:"name,omitempty"`
	Run     []Step            `json:"run,omitempty" yaml:"run,omitempty"`
	Script  *string           `json:"script,omitempty" yaml:"script,omitempty"`
	Step    any               `json:"step,omitempty" yaml:"step,omitempty"`
	Outputs map[string]any    `json:"outputs,omitempty" yaml:"outputs,omitempty"`
}

// StepExec is a command that a step runs.
type StepExec struct {
	Command []string `json:"command" yaml:"command"`
	WorkDir *string  `json:"work_dir,omitempty" yaml:"work_dir,omitempty"`
}
