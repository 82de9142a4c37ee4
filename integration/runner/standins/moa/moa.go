// Package moa stands in for the language of `${{ }}`. Without it a job that has inputs ends with ErrNotHere.
package moa

import (
	"errors"

	"gitlab.com/gitlab-org/moa/ast"
)

// ErrNotHere is what a job with inputs ends with in this build.
var ErrNotHere = errors.New("job inputs are not in this build of gitlab-runner: moa is a stand-in")

// ParseTemplate fails with ErrNotHere. The runner calls it only for a job that has inputs.
func ParseTemplate(string) (ast.Expr, error) { return nil, ErrNotHere }

// EscapeTemplate returns its argument. Only native steps would see the difference.
func EscapeTemplate(s string) string { return s }
