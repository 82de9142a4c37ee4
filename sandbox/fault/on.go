//go:build faults

package fault

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrInjected is what At returns when it is told to fail.
var ErrInjected = errors.New("injected fault")

var (
	mu      sync.Mutex
	reached = map[string]int{}
)

// At is where a test may have something happen.
func At(point string) error {
	mu.Lock()
	reached[point]++
	n := reached[point]
	mu.Unlock()
	told, file := os.Getenv("FAULTS_AT"), ""
	if told == "" {
		told = os.Getenv("CUSTOM_ENV_FAULTS_AT")
	}
	if strings.HasPrefix(told, "/") {
		file = told
		b, _ := os.ReadFile(file) // gone: somebody has acted
		told = strings.TrimSpace(string(b))
	}
	at, action, _ := strings.Cut(told, "=")
	action, nth, _ := strings.Cut(action, "@")
	if at != point || nth != "" && nth != strconv.Itoa(n) {
		return nil
	}
	if file != "" && os.Remove(file) != nil {
		return nil
	}
	action, how, _ := strings.Cut(action, ":")
	switch action {
	case "kill":
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "error":
		return fmt.Errorf("%w at %s", ErrInjected, point)
	case "stop":
		d, err := time.ParseDuration(how)
		if err != nil {
			panic(err)
		}
		time.Sleep(d)
		return nil
	}
	panic("fault " + told + ": not known")
}

// Now is the time by which rooms are judged.
func Now() time.Time {
	by := os.Getenv("FAULTS_CLOCK")
	if by == "" {
		return time.Now()
	}
	d, err := time.ParseDuration(by)
	if err != nil {
		panic(err)
	}
	return time.Now().Round(0).Add(d) // without the monotonic part, which no jump moves
}
