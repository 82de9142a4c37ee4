package integration

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// gate holds jobs at a line of their scripts until the test opens it. What
// the test looks at stands meanwhile, however long that takes: a job that
// sleeps may be over before its words have reached the test.
type gate struct {
	address string
	arrived <-chan struct{} // a job has come to it
	open    func()
}

// newGate makes one where every room of the rig that reaches GitLab reaches it.
func newGate(t *testing.T) gate {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(theRig.Address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	opened, arrived := make(chan struct{}), make(chan struct{}, 1)
	g := gate{address: l.Addr().String(), arrived: arrived, open: sync.OnceFunc(func() { close(opened) })}
	t.Cleanup(func() {
		g.open() // nobody stays behind
		l.Close()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case arrived <- struct{}{}:
			default:
			}
			go func() {
				<-opened
				c.Close()
			}()
		}
	}()
	return g
}

// line is a script's line that goes on when the gate is open: in an image with
// busybox or with bash.
func (g gate) line() string {
	host, port, _ := strings.Cut(g.address, ":")
	return fmt.Sprintf("if command -v nc >/dev/null; then nc %[1]s %[2]s </dev/null; else cat </dev/tcp/%[1]s/%[2]s; fi", host, port)
}
