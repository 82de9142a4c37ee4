// Package ast stands in for moa's syntax tree.
package ast

// Expr is a node.
type Expr interface{ Walk(Visitor) (Expr, error) }

// Visitor sees each node twice.
type Visitor interface {
	Enter(Expr) (Visitor, error)
	Exit(Expr) (Expr, error)
}

// Template is a text with expressions in it.
type Template struct{}

// Walk visits nothing.
func (t *Template) Walk(Visitor) (Expr, error) { return t, nil }
