package docker

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestMuteEngine: one that takes connections and never answers is an error in
// the time of one request, whatever is asked first and beside it.
func TestMuteEngine(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket) // the kernel takes the connections
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := testEngine(t, func(o *Options) { o.Host, o.Timeout = "unix://"+socket, 100*time.Millisecond })
	for what, ask := range map[string]func() error{
		"learn": func() error { return e.learn(t.Context()) },
		"clear": func() error { _, err := e.clear(t.Context(), "cr-test-mute"); return err },
		"find":  func() error { _, err := e.find(t.Context(), "cr-test-mute"); return err },
	} {
		done := make(chan error, 1)
		go func() { done <- ask() }()
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(time.Minute): // against hanging
			t.Fatalf("%s waits for an engine that never answers", what)
		}
	}
}
