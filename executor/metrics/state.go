package metrics

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"cleanroom/executor/secret/hostkey/durable"
)

// maxState bounds the file, in bytes: many times what all series take.
const maxState = 1 << 20

// state is all that was counted, as its file holds it.
type state struct {
	Format string                       `json:"format"`
	Series map[string]map[string]series `json:"series"` // by metric, and by the value of its label
}

const format = "cleanroom metrics 1"

// series is one counter (Count) or one histogram.
type series struct {
	Count   uint64    `json:"count"`
	Sum     float64   `json:"sum,omitempty"`
	Bounds  []float64 `json:"bounds,omitempty"`
	Buckets []uint64  `json:"buckets,omitempty"` // each by itself, the last without a bound
}

func (b Book) path() string { return filepath.Join(b.Dir, "metrics.json") }

// load reads the state. One that cannot be read is put aside and counting
// begins at zero: for Prometheus that is a restart, and rates stay right.
func (b Book) load() (*state, error) {
	text, err := durable.Read(b.path(), maxState)
	s := &state{}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fresh(), nil
	case errors.Is(err, durable.ErrLoose), errors.Is(err, durable.ErrTooLarge):
	case err != nil:
		return nil, err
	default:
		if err = s.parse(text); err == nil {
			return s, nil
		}
	}
	aside := b.path() + ".broken"
	b.Log.WithError(err).WithField("aside", aside).Warn("metrics: the state is not ours to use: it is put aside, counting begins anew")
	return fresh(), os.Rename(b.path(), aside)
}

func fresh() *state { return &state{Format: format, Series: map[string]map[string]series{}} }

func (s *state) parse(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return fmt.Errorf("no state of metrics: %w", err)
	}
	if s.Format != format || s.Series == nil || d.More() {
		return fmt.Errorf("no state of metrics: its format is %.40q, not %q", s.Format, format)
	}
	return nil
}

// get is one series; of a histogram whose buckets are others now, a new one.
func (s *state) get(f *Family, value string) series {
	one := s.Series[f.name][value]
	if f.buckets != nil && (!slices.Equal(one.Bounds, f.buckets) || len(one.Buckets) != len(f.buckets)+1) {
		return series{Bounds: f.buckets, Buckets: make([]uint64, len(f.buckets)+1)}
	}
	return one
}

func (s *state) apply(c Change) {
	one := s.get(c.of, c.value)
	if c.of.buckets == nil {
		one.Count += uint64(c.by)
	} else {
		at, _ := slices.BinarySearch(c.of.buckets, c.by) // the first bound that is not below
		one.Buckets[at]++
		one.Count++
		one.Sum += c.by
	}
	if s.Series[c.of.name] == nil {
		s.Series[c.of.name] = map[string]series{}
	}
	s.Series[c.of.name][c.value] = one
}

// save does not wait for the disk, and no job does for a counter: what a crash
// of the machine tears is put aside by load.
func (b Book) save(s *state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return durable.Replace(b.path(), append(text, '\n'), 0o600)
}
