// Package expression stands in for step-runner's: the job's inputs, seen by `${{ }}`.
package expression

import (
	"gitlab.com/gitlab-org/moa"
	"gitlab.com/gitlab-org/moa/ast"
	"gitlab.com/gitlab-org/moa/value"
)

// Sensitive marks a value that must not be shown.
const Sensitive uint16 = 1

// Input is one of a job's inputs.
type Input struct {
	Key   string
	Value value.Value
}

// Evaluator would evaluate expressions.
type Evaluator struct{}

// NewEvaluator returns an Evaluator. The runner makes one for every job, also for one without inputs.
func NewEvaluator(value.Value) (*Evaluator, error) { return &Evaluator{}, nil }

// Eval fails with moa.ErrNotHere.
func (*Evaluator) Eval(string, ast.Expr) (value.Value, error) { return value.Null(), moa.ErrNotHere }
