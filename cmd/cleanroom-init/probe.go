package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Probe implements initproto.Handler: all addresses at once, again and again.
// The names of services resolve only after they have started, so a failed
// lookup is tried again like a refused connection.
func (h *host) Probe(ctx context.Context, addrs []string) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var last error
	found := make(chan string, len(addrs))
	var all sync.WaitGroup
	for _, addr := range addrs {
		all.Go(func() {
			d := net.Dialer{Timeout: 2 * time.Second}
			for ctx.Err() == nil {
				conn, err := d.DialContext(ctx, "tcp", addr)
				if err == nil {
					conn.Close()
					found <- addr
					return
				}
				if ctx.Err() == nil {
					mu.Lock()
					last = err
					mu.Unlock()
				}
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
	select {
	case addr := <-found:
		cancel()
		all.Wait()
		return addr, nil
	case <-ctx.Done():
	case <-h.stop:
		cancel()
	}
	all.Wait()
	if last == nil {
		last = errors.New("no answer yet")
	}
	return "", last
}
