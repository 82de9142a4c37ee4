package provenance

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cleanroom/executor/secret/hostkey/durable"
)

const ext = ".intoto.jsonl"

// maxKept bounds the file of a room, in bytes: an envelope for each upload, of
// which there are two at most, and as many again that were tried in vain.
const maxKept = 8 * MaxEnvelope

func folder(dataDir string) string { return filepath.Join(dataDir, "audit", "provenance") }

func pathOf(dataDir, room string) string {
	return filepath.Join(folder(dataDir), filepath.Base(room)+ext)
}

// Keep adds an envelope, as Seal gives it, to those of a room. When it returns
// nil they survive a power cut.
func Keep(dataDir, room string, line []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep provenance: %w", err)
		}
	}()
	path := pathOf(dataDir, room)
	if err := durable.Folder(folder(dataDir)); err != nil {
		return err
	}
	before, err := durable.Read(path, maxKept)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if n := len(before); n > 0 && before[n-1] != '\n' { // somebody cut it; what is left stays by itself
		before = append(before, '\n')
	}
	if len(before)+len(line) > maxKept {
		return fmt.Errorf("%w: %s has too many envelopes", durable.ErrTooLarge, path)
	}
	return durable.Write(path, append(before, line...))
}

// Kept are the envelopes of a room, oldest first. fs.ErrNotExist: none. What is
// no envelope is left out.
func Kept(dataDir, room string) (lines [][]byte, err error) {
	text, err := durable.Read(pathOf(dataDir, room), maxKept)
	if err != nil {
		return nil, fmt.Errorf("provenance: %w", err)
	}
	for line := range bytes.Lines(text) {
		if json.Valid(line) {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// Rooms are those of which there are envelopes.
func Rooms(dataDir string) (rooms []string, err error) {
	found, err := os.ReadDir(folder(dataDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, one := range found {
		if room, ok := strings.CutSuffix(one.Name(), ext); ok {
			rooms = append(rooms, room)
		}
	}
	return rooms, err
}

// Forget removes the envelopes of rooms to which nothing was added since then.
func Forget(dataDir string, since time.Time) error {
	rooms, err := Rooms(dataDir)
	for _, room := range rooms {
		if info, wrong := os.Lstat(pathOf(dataDir, room)); wrong == nil && info.ModTime().Before(since) {
			err = errors.Join(err, os.Remove(pathOf(dataDir, room)))
		}
	}
	return err
}
