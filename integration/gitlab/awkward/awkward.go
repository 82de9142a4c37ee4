// Package awkward decides when the stand-in GitLab is difficult, the way letsencrypt's pebble is: a client that only
// works against a polite server is wrong, and should find out in a test. It promises that nothing it does is outside what
// a real GitLab does now and then, that each difficulty hits a job once at most, and that the same seed decides the same
// for the same job, in whatever order requests arrive.
package awkward

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Dice are the source of all awkwardness. With On unset they always choose the polite way.
type Dice struct {
	On   bool
	Seed uint64

	mu   sync.Mutex
	rng  *rand.Rand
	done map[string]bool
}

// New returns dice for a seed.
func New(seed uint64, on bool) *Dice {
	return &Dice{On: on, Seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), done: map[string]bool{}}
}

// Once tells whether a difficulty of this kind, with odds of one in n, hits the job now. It says so once per job.
func (d *Dice) Once(job int64, kind string, n uint64) bool {
	if !d.On {
		return false
	}
	h := fnv.New64a()
	key := fmt.Sprintf("%d %s", job, kind)
	io.WriteString(h, key)
	if rand.New(rand.NewPCG(d.Seed, h.Sum64())).Uint64N(n) != 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	hit := !d.done[key]
	d.done[key] = true
	return hit
}

// Pick chooses one of n: the first, or any.
func (d *Dice) Pick(n int) int {
	if !d.On {
		return 0
	}
	return d.intn(n)
}

// Gap is how far the next id is from the last.
func (d *Dice) Gap() int64 {
	if !d.On {
		return 1
	}
	return 1 + int64(d.intn(40))
}

// Delay is how long an answer is held back.
func (d *Dice) Delay() time.Duration {
	if !d.On || d.intn(4) != 0 {
		return 0
	}
	return time.Duration(d.intn(60)) * time.Millisecond
}

func (d *Dice) intn(n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rng.IntN(n)
}

// closed objects are checked key by key by the runner, which refuses a job for a key it does not know.
var closed = map[string]bool{"executor_opts": true, "docker": true}

// JSON encodes v; when awkward, with the fields of every object in random order, and with fields nobody knows.
func (d *Dice) JSON(v any) ([]byte, error) {
	plain, err := json.Marshal(v)
	if err != nil || !d.On {
		return plain, err
	}
	dec := json.NewDecoder(bytes.NewReader(plain))
	dec.UseNumber()
	var tree any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = d.scramble(&out, tree, false)
	return out.Bytes(), err
}

func (d *Dice) scramble(out *bytes.Buffer, v any, sealed bool) error {
	switch v := v.(type) {
	case map[string]any:
		keys := make([]string, 0, len(v)+1)
		for k := range v {
			keys = append(keys, k)
		}
		if !sealed && d.intn(3) == 0 {
			extra := fmt.Sprintf("x_unknown_%d", d.intn(100))
			v[extra] = []any{nil, map[string]any{"nested": json.Number("1.5e3")}, "ünknown \u2028 \\ \""}
			keys = append(keys, extra)
		}
		d.mu.Lock()
		d.rng.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		d.mu.Unlock()
		out.WriteByte('{')
		for i, k := range keys {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := leaf(out, k); err != nil {
				return err
			}
			out.WriteByte(':')
			if err := d.scramble(out, v[k], closed[k]); err != nil {
				return err
			}
		}
		out.WriteByte('}')
	case []any:
		out.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := d.scramble(out, e, false); err != nil {
				return err
			}
		}
		out.WriteByte(']')
	default:
		return leaf(out, v)
	}
	return nil
}

func leaf(out *bytes.Buffer, v any) error {
	b, err := json.Marshal(v)
	out.Write(b)
	return err
}
