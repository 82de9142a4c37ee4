// Package oidc stands in for labkit's cloud identity tokens.
package oidc

// Source would fetch tokens.
type Source struct{}

// Option sets up a Source.
type Option struct{}

// WithSkipIfUnsupportedCloud does nothing.
func WithSkipIfUnsupportedCloud(bool) (o Option) { return }

// NewSource returns a Source.
func NewSource(...Option) *Source { return &Source{} }
