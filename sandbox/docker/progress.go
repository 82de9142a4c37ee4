package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// pullEvery is how often a long pull says how far it is: often enough that
// nobody thinks it hangs, seldom enough for a log that is kept.
const pullEvery = 3 * time.Second

// maxLayers is far more than the engine takes of an image (127): beyond it
// progress is a guess, and no registry can make us keep more.
const maxLayers = 1000

// pullMessage is a line of the engine's pull stream (Docker Engine API,
// ImageCreate).
type pullMessage struct {
	ID       string `json:"id"`
	Status   string `json:"status"`
	Error    string `json:"error"`
	Progress struct {
		Current int64 `json:"current"`
		Total   int64 `json:"total"`
	} `json:"progressDetail"`
}

// errPull is one that the engine itself tells: the pull has ended and nothing
// comes of it.
type errPull struct{ text string }

func (e errPull) Error() string { return e.text }

// showPull reads a pull to its end and shows its progress. The digest is the
// one that the registry gave for the name.
func showPull(r io.Reader, w io.Writer) (digest string, err error) {
	type layer struct {
		got, size int64
		done      bool
	}
	layers := map[string]*layer{}
	dec := json.NewDecoder(r)
	next := time.Now().Add(pullEvery)
	for {
		var m pullMessage
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return digest, nil
		} else if err != nil {
			return "", fmt.Errorf("the engine's answer broke off: %w", err)
		}
		if m.Error != "" {
			return "", errPull{m.Error}
		}
		if d, ok := strings.CutPrefix(m.Status, "Digest: "); ok && m.ID == "" {
			digest = d
		}
		switch m.Status {
		case "Downloading":
			if layers[m.ID] != nil || len(layers) < maxLayers {
				layers[m.ID] = &layer{got: m.Progress.Current, size: m.Progress.Total}
			}
		case "Download complete", "Pull complete", "Already exists":
			if l := layers[m.ID]; l != nil {
				l.got, l.done = l.size, true
			}
		}
		if len(layers) == 0 || time.Now().Before(next) {
			continue
		}
		next = time.Now().Add(pullEvery)
		var got, size int64
		done := 0
		for _, l := range layers {
			got, size = got+l.got, size+l.size
			if l.done {
				done++
			}
		}
		sayf(w, "  %s of %s, %d of %d layers", units.HumanSize(float64(got)), units.HumanSize(float64(size)), done, len(layers))
	}
}
