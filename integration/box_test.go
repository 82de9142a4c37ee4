package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A test of many cases that are alike has a box of time, so that all of
// integration has an end on a machine where an engine takes seconds for what
// others do in tenths. Which cases come first chance decides, so that another run
// gets to the others; what did not fit is told, at the end of `make integration`.

// boxTime is how long such a test begins with more cases: BOX, 0 for all of them.
var boxTime = func() time.Duration {
	if d, err := time.ParseDuration(os.Getenv("BOX")); err == nil && d > 0 {
		return d
	}
	return 1000 * time.Hour
}()

type box struct {
	t   *testing.T
	end time.Time

	mu   sync.Mutex
	ran  int
	left []string
}

func newBox(t *testing.T) *box {
	b := &box{t: t, end: time.Now().Add(boxTime)}
	t.Cleanup(b.tell)
	return b
}

// open tells whether there is time for a case; there always is for the first.
func (b *box) open(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ran > 0 && time.Now().After(b.end) {
		b.left = append(b.left, name)
		return false
	}
	b.ran++
	return true
}

// tell writes what was left out where LEFT_OUT says.
func (b *box) tell() {
	if len(b.left) == 0 {
		return
	}
	line := fmt.Sprintf("%s: %d cases took all of its time, %d were left out: %s\n", b.t.Name(), b.ran, len(b.left), strings.Join(b.left, ", "))
	b.t.Log(line)
	f, err := os.OpenFile(os.Getenv("LEFT_OUT"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line)
		f.Close()
	}
	if err != nil {
		b.t.Error(err) // nobody would hear of it
	}
}

// shuffled is a list in an order of chance.
func shuffled[T any](luck *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	luck.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
