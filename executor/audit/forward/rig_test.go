package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"cleanroom/config"
)

// memory is a log that is kept in memory.
type memory struct {
	mu  sync.Mutex
	all []Record
}

func (m *memory) add(bodies ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, body := range bodies {
		m.all = append(m.all, Record{Index: int64(len(m.all)), Time: time.Now(), Body: []byte(body)})
	}
}

// fill appends n records of different sizes, with what a format may stumble over.
func (m *memory) fill(n int) {
	for range n {
		m.mu.Lock()
		i := len(m.all)
		m.mu.Unlock()
		m.add(fmt.Sprintf(`{"job":%d,"name":"a \"b\" \\ ] <é>","pad":%q}`, i, strings.Repeat("x", i%7*100)))
	}
}

func (m *memory) Size(context.Context) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(len(m.all)), nil
}

func (m *memory) Read(ctx context.Context, from int64) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		m.mu.Lock()
		rest := m.all[min(int(from), len(m.all)):]
		m.mu.Unlock()
		for _, r := range rest {
			if err := ctx.Err(); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(r, nil) {
				return
			}
		}
	}
}

// bench is a log, a destination, and what the forwarder says.
type bench struct {
	*Forwarder
	log  *memory
	said *safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newBench(t *testing.T, to ...config.Forward) *bench {
	t.Helper()
	b := &bench{log: &memory{}, said: &safeBuffer{}}
	report := logrus.New()
	report.SetOutput(b.said)
	for i := range to {
		if to[i].Name == "" {
			to[i].Name = fmt.Sprint("to", i)
		}
		if to[i].Timeout == 0 {
			to[i].Timeout = time.Minute
		}
	}
	b.Forwarder = &Forwarder{Destinations: to, Dir: t.TempDir(), Origin: "host.example/cleanroom", Log: b.log,
		Version: "1.2", Report: logrus.NewEntry(report), Force: true}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(b.said)
		}
	})
	return b
}

func (b *bench) run(t *testing.T) {
	t.Helper()
	if err := b.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) state(t *testing.T) Progress {
	t.Helper()
	all, err := b.States(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// got is a record as a receiver has it.
type got struct {
	Index  int64
	Leaf   string
	Notice string
	Body   string
}

// holds checks that a receiver has every record of the log, to the byte, and
// the first time each in order. What came twice is the same.
func (b *bench) holds(t *testing.T, all []got) {
	t.Helper()
	next := int64(0)
	for _, g := range all {
		if g.Notice != "" {
			continue
		}
		if g.Index > next {
			t.Fatalf("record %d came before %d", g.Index, next)
		}
		if want := b.log.all[g.Index]; string(want.Body) != g.Body || leafOf(want.Body) != g.Leaf {
			t.Fatalf("record %d is %s %s, want %s", g.Index, g.Leaf, g.Body, want.Body)
		}
		if g.Index == next {
			next++
		}
	}
	if next != int64(len(b.log.all)) {
		t.Fatalf("it has %d records of %d", next, len(b.log.all))
	}
}

func notices(all []got) []got {
	return slices.DeleteFunc(slices.Clone(all), func(g got) bool { return g.Notice == "" })
}

// lines are those of a file that are whole, each read as JSON. A KILL may have
// left a part of one, to which the next was appended.
func lines[T any](t *testing.T, path string) (all []T) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break
		}
		head, _, _ := bytes.Cut(line, []byte(":"))
		line = line[bytes.LastIndex(line, head):]
		var one T
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatalf("%s: %v: %s", filepath.Base(path), err, line)
		}
		all = append(all, one)
	}
	return all
}
