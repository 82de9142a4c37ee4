// Package server stands in for the wrapper's gRPC server.
package server

import (
	"net"

	"github.com/sirupsen/logrus"
)

// Server would listen for a steering program.
type Server struct{}

// New returns a Server. The wrapper is what it would steer.
func New(logrus.FieldLogger, any) *Server { return &Server{} }

// Listen does nothing.
func (*Server) Listen(net.Listener) {}

// Stop does nothing.
func (*Server) Stop() {}
