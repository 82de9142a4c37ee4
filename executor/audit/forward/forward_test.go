package forward

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cleanroom/config"
	"cleanroom/executor/secret/hostkey/durable"
)

// Many commands at once send nothing twice, and what is appended while one
// of them sends is sent without another.
func TestAtOnce(t *testing.T) {
	r := newReceiver(t, fine)
	b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 10 {
				b.log.mu.Lock()
				b.log.all = append(b.log.all, Record{Index: int64(len(b.log.all)), Time: time.Now(), Body: []byte("{}")})
				b.log.mu.Unlock()
				if err := b.Run(t.Context()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.holds(t, r.all)
	if len(r.all) != 200 {
		t.Errorf("%d records of 200", len(r.all))
	}
}

// A batch is bounded, whatever waits.
func TestBounded(t *testing.T) {
	largest := int64(0)
	r := newReceiver(t, func(_ http.ResponseWriter, req *http.Request, _ []got) bool {
		largest = max(largest, req.ContentLength)
		return false
	})
	b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL})
	for range 40 {
		b.log.add(fmt.Sprintf("%q", strings.Repeat("x", 50000)))
	}
	b.log.fill(2000)
	b.run(t)
	b.holds(t, r.all)
	if n := slices.Max(r.batches); largest > 400<<10 || n > 512 {
		t.Errorf("%d records, %d bytes", n, largest)
	}
}

// Whatever a crash left of the state: everything is sent, again if need be.
func TestState(t *testing.T) {
	r := newReceiver(t, fine)
	b := newBench(t, config.Forward{Name: "siem", Kind: "otlp", Address: r.URL})
	b.log.fill(3)
	b.run(t)
	path := filepath.Join(b.Dir, "siem.json")
	for _, text := range []string{"", "{", `{"format":"cleanroom forward 1","origin":"o","next":2}`, `{"format":"another 1"}`, strings.Repeat("x", maxState+1)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.all = nil
		b.run(t)
		b.holds(t, r.all)
	}
	if n := strings.Count(b.said.String(), "level=error"); n != 5 {
		t.Errorf("%d errors: %s", n, b.said)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context()); !errors.Is(err, durable.ErrLoose) {
		t.Error(err)
	}
}

// A log that was cut or changed below what was sent.
func TestRewritten(t *testing.T) {
	for name, change := range map[string]func(b *bench){
		"changed":                    func(b *bench) { b.log.all[4].Body = []byte(`{"changed":1}`) },
		"cut":                        func(b *bench) { b.log.all = b.log.all[:2] },
		"cut, and grown on":          func(b *bench) { b.log.all = b.log.all[:3]; b.log.add(`{"new":3}`, `{"new":4}`, `{"new":5}`) },
		"of another name":            func(b *bench) { b.Origin = "another" },
		"of another name, and empty": func(b *bench) { b.Origin = "another"; b.log.all = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, fine)
			b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL})
			b.log.fill(5)
			b.run(t)
			change(b)
			if len(b.log.all) == 5 {
				b.log.add("{}")
			}
			r.all = nil
			b.run(t)
			n := notices(r.all)
			if len(n) != 1 || n[0] != r.all[0] || n[0].Notice != "rewritten" || n[0].Index != 4 {
				t.Fatalf("%+v", r.all)
			}
			b.holds(t, r.all)
			if !strings.Contains(b.said.String(), "level=error") {
				t.Error(b.said)
			}
		})
	}
}

func TestRewind(t *testing.T) {
	r := newReceiver(t, fine)
	b := newBench(t, config.Forward{Name: "siem", Kind: "otlp", Address: r.URL})
	b.log.fill(5)
	b.run(t)
	for _, from := range []int64{3, 0, 2} {
		r.all = nil
		if err := b.Rewind(t.Context(), "siem", from); err != nil {
			t.Fatal(err)
		}
		if s := b.state(t); s.Pending != 5-from {
			t.Errorf("%+v", s)
		}
		b.run(t)
		if len(r.all) != int(5-from) || r.all[0].Index != from {
			t.Errorf("%+v", r.all)
		}
	}
	if err := b.Rewind(t.Context(), "siem", 6); err == nil {
		t.Error("records were passed over")
	}
	b.log.all = b.log.all[:1]
	if err := b.Rewind(t.Context(), "siem", 3); err == nil {
		t.Error("a record that there is not was believed")
	}
	if err := b.Rewind(t.Context(), "sime", 0); !errors.Is(err, ErrUnknown) {
		t.Error(err)
	}
}

// short is a log that does not keep what Size says.
type short struct{ *memory }

func (s short) Size(ctx context.Context) (int64, error) {
	n, err := s.memory.Size(ctx)
	return n + 1, err
}

// A log that is not whole is an error of its own, and no destination's.
func TestBrokenLog(t *testing.T) {
	r := newReceiver(t, fine)
	b := newBench(t, config.Forward{Kind: "otlp", Address: r.URL})
	b.log.fill(3)
	b.Log = short{b.log}
	if err := b.Run(t.Context()); err == nil || errors.Is(err, ErrDestination) {
		t.Error(err)
	}
	b.Log = b.log
	b.holds(t, r.all)
	b.log.fill(3)
	b.log.all[4].Index = 5
	if err := b.Run(t.Context()); err == nil || errors.Is(err, ErrDestination) || len(r.all) != 4 {
		t.Errorf("%v, %d records", err, len(r.all))
	}
}

// A clock that was wrong once does not stop it for years.
func TestClock(t *testing.T) {
	r := newReceiver(t, fine)
	b := newBench(t, config.Forward{Name: "siem", Kind: "otlp", Address: r.URL})
	b.Force = false
	b.log.fill(1)
	for ahead, want := range map[time.Duration]int{time.Minute * 59: 0, 9000 * time.Hour: 1} {
		r.all = nil
		if err := b.save("siem", &State{Format: stateFormat, Origin: b.Origin, NotBefore: time.Now().Add(ahead)}); err != nil {
			t.Fatal(err)
		}
		if b.run(t); len(r.all) != want {
			t.Errorf("%s ahead: %d records", ahead, len(r.all))
		}
	}
}
