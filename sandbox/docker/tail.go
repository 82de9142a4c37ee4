package docker

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"
)

// tailMax is how much of a container's last words an error quotes.
const tailMax = 4 << 10

// tail keeps the end of what a container prints and passes all of it on.
type tail struct {
	mu    sync.Mutex
	last  []byte
	w     io.Writer
	ended chan struct{}
}

func newTail(w io.Writer) *tail { return &tail{w: w, ended: make(chan struct{})} }

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		t.w.Write(b)
	}
	t.last = append(t.last, b...)
	if over := len(t.last) - tailMax; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(b), nil
}

func (t *tail) end() { close(t.ended) }

// wait gives the last words of a container that is gone time to arrive.
func (t *tail) wait(d time.Duration) {
	select {
	case <-t.ended:
	case <-time.After(d):
	}
}

// quote is the end of the output, indented under an error; empty when it
// printed nothing or everything was shown already.
func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(string(bytes.ToValidUTF8(t.last, []byte("?"))))
	if text == "" || t.w != nil {
		return ""
	}
	lines := strings.Split(text, "\n")
	if n := len(lines); n > 20 {
		lines = lines[n-20:]
	}
	return "; its last lines:\n  | " + strings.Join(lines, "\n  | ")
}
