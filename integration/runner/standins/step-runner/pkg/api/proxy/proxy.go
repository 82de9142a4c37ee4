// Package proxy stands in for step-runner's.
package proxy

import (
	"io"
	"net"

	"gitlab.com/gitlab-org/step-runner/pkg/api"
)

// Proxy fails with api.ErrNotHere.
func Proxy(io.Reader, io.Writer, net.Conn) error { return api.ErrNotHere }
