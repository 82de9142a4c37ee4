package contract

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// Why a call's context ended (context.Cause).
var (
	// ErrTerminated: the runner cancelled the stage, timed out, or is itself
	// being stopped.
	ErrTerminated = errors.New("terminated by the runner")
	// ErrRunnerGone: the runner died and will send no signal.
	ErrRunnerGone = errors.New("the runner is gone")
)

// parentPoll is how often WatchParent looks. A prctl death signal would come
// at once, but follows the runner's thread rather than its process.
const parentPoll = 500 * time.Millisecond

// NotifyTerm gives a context that ends, with ErrTerminated as its cause, at
// the first TERM, INT or HUP; later ones are swallowed until stop, since the
// runner's KILL follows anyhow. Writing to a pipe whose runner is gone becomes
// an error instead of SIGPIPE, so that cleaning up is not cut short.
func NotifyTerm(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				cancel(fmt.Errorf("%w (%s)", ErrTerminated, s))
			case <-done:
				return
			}
		}
	}()
	var once sync.Once
	return ctx, func() {
		once.Do(func() {
			signal.Stop(signals)
			close(done)
			cancel(context.Canceled)
		})
	}
}

// WatchParent gives a context that ends, with ErrRunnerGone as its cause,
// within about half a second of the death of the process that started us.
func WatchParent(ctx context.Context) (context.Context, context.CancelFunc) {
	return watchParent(ctx, parentPoll, os.Getppid)
}

func watchParent(ctx context.Context, every time.Duration, getppid func() int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	parent := getppid()
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if getppid() != parent {
					cancel(ErrRunnerGone)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
