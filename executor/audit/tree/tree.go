// Package tree keeps the records of the audit log and the hashes over them in
// a folder, in the layout of C2SP's tlog-tiles
// (https://c2sp.org/tlog-tiles): tile/L/N, tile/entries/N and checkpoint.
//
// What it promises: what was appended is durable when Append returns, and the
// folder is whole at every instant before; of processes that append at once
// each gets its turn; an append that was cut short, by a signal, a crash or a
// full disk, is finished by whoever comes next if it was decided, and else
// leaves nothing; readers need no lock.
//
// How: an append that waited for the disk for each of its files would take
// ten milliseconds. So records and their checkpoint go to a journal first, a
// file of fixed size whose blocks are there already, which takes one wait of a
// fraction of a millisecond. Tiles and checkpoint follow without waiting; they
// can be made again from the journal. Only when that is full, once in a
// thousand appends, the files are waited for, and it begins anew.
//
// One thing differs from a log that is served: of a partial tile only the
// newest is kept, as a file that grows and changes its name, for a copy of
// each would be 64 MB of writes for a tile of records of 2 kB. Who copies the
// folder for a web server copies tile first and checkpoint before it.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"cleanroom/executor/audit/checkpoint"
)

const (
	// MaxRecord bounds a record, in bytes: tlog-tiles gives a length 16 bits.
	MaxRecord = math.MaxUint16
	// Width is how many hashes or records a full tile has.
	Width = torchwood.TileWidth

	// MaxBatch bounds how many records are appended at once, so that what an
	// append that was cut short leaves behind is found.
	MaxBatch = 4096

	maxBundle = Width * (2 + MaxRecord)
)

// Errors.
var (
	// ErrNoLog is a folder without a log.
	ErrNoLog = errors.New("there is no audit log")
	// ErrMissing is a tile that is not there, or too short.
	ErrMissing = errors.New("a tile of the audit log is missing or too short")
	// ErrDamaged is a log that does not fit together.
	ErrDamaged = errors.New("the audit log is damaged or was changed")
	// ErrRecord is a record that no log takes.
	ErrRecord = errors.New("this is no record")
	// ErrFull is a disk without space; nothing was appended.
	ErrFull = errors.New("no space for the audit log")
)

// Store is a log's folder.
type Store struct{ Dir string }

// CheckpointPath is the file of the newest checkpoint.
func (s Store) CheckpointPath() string { return filepath.Join(s.Dir, "checkpoint") }

// Checkpoint reads the newest checkpoint, unverified. ErrNoLog: there is none.
func (s Store) Checkpoint() ([]byte, error) {
	msg, err := ReadPlain(s.CheckpointPath(), checkpoint.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: make one, or correct the folder", ErrNoLog, s.Dir)
	}
	return msg, err
}

// path is where a tile stands under that width; L is -1 for records.
func (s Store) path(t tlog.Tile) string {
	return filepath.Join(s.Dir, filepath.FromSlash(torchwood.TilePath(t)))
}

// tile names one, with what a tree of that size has of it at most.
func tile(level int, n, size int64) tlog.Tile {
	hashes := size
	if level > 0 {
		hashes >>= level * torchwood.TileHeight
	}
	return tlog.Tile{H: torchwood.TileHeight, L: level, N: n, W: int(min(Width, max(0, hashes-n*Width)))}
}

// find gives the file that has at least the first t.W of a tile: a partial
// tile grows and is renamed while we look.
func (s Store) find(t tlog.Tile) (string, error) {
	full := t
	full.W = Width
	folder := s.path(full) + ".p"
	for range 50 {
		for _, path := range []string{s.path(t), s.path(full)} {
			if _, err := os.Lstat(path); err == nil {
				return path, nil
			}
		}
		names, err := os.ReadDir(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		for _, name := range names {
			if w, err := strconv.Atoi(name.Name()); err == nil && w >= t.W {
				path := filepath.Join(folder, name.Name())
				if _, err := os.Lstat(path); err == nil {
					return path, nil
				}
			}
		}
	}
	return "", fmt.Errorf("%w: %s", ErrMissing, torchwood.TilePath(t))
}

// read reads the file of a tile, which may hold more than t.W by now.
func (s Store) read(t tlog.Tile, limit int64) ([]byte, error) {
	for try := 0; ; try++ {
		path, err := s.find(t)
		if err != nil {
			return nil, err
		}
		data, err := ReadPlain(path, limit)
		if errors.Is(err, fs.ErrNotExist) && try < 50 { // renamed in between
			continue
		}
		return data, err
	}
}

// ReadPlain reads a plain file of at most limit bytes. ErrDamaged: it is none.
func ReadPlain(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) { // a symlink, a socket
		return nil, fmt.Errorf("%w: %s is no plain file", ErrDamaged, path)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%w: %s is no plain file of at most %d bytes", ErrDamaged, path, limit)
	}
	data := make([]byte, info.Size())
	n, err := io.ReadFull(f, data)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // cut meanwhile
	}
	return data[:n], err
}

// Hashes reads the hashes of a tile of a tree of size records, and how many
// bytes follow that this tree has no use for. Nothing vouches for the hashes.
// ErrMissing.
func (s Store) Hashes(level int, n, size int64) (hashes []byte, more int, err error) {
	t := tile(level, n, size)
	data, err := s.read(t, Width*tlog.HashSize)
	if err != nil {
		return nil, 0, err
	}
	want := t.W * tlog.HashSize
	if len(data) < want {
		return nil, 0, fmt.Errorf("%w: %s has %d bytes of %d", ErrMissing, torchwood.TilePath(t), len(data), want)
	}
	return data[:want], len(data) - want, nil
}

// Records reads what a tree of size records has of the nth bundle of 256, and
// how many bytes follow that this tree has no use for. Nothing vouches for
// them. ErrMissing: the bundle is not there or ends too early; the records
// before that are given.
func (s Store) Records(n, size int64) (records [][]byte, more int, err error) {
	t := tile(-1, n, size)
	data, err := s.read(t, maxBundle)
	if err != nil {
		return nil, 0, err
	}
	records, rest := cut(data, t.W)
	if len(records) < t.W {
		return records, 0, fmt.Errorf("%w: %s has %d records of %d", ErrMissing, torchwood.TilePath(t), len(records), t.W)
	}
	return records, len(rest), nil
}

// cut takes the first w records of a bundle, or as many as are whole.
func cut(data []byte, w int) (records [][]byte, rest []byte) {
	for len(records) < w {
		record, after, err := torchwood.ReadTileEntry(data)
		if err != nil {
			break
		}
		records, data = append(records, record), after
	}
	return records, data
}

// pack writes records as in a bundle.
func pack(records [][]byte) (data []byte, err error) {
	if len(records) == 0 || len(records) > MaxBatch {
		return nil, fmt.Errorf("%w: %d at once: append 1 to %d", ErrRecord, len(records), MaxBatch)
	}
	for _, r := range records {
		if len(r) == 0 || len(r) > MaxRecord {
			return nil, fmt.Errorf("%w: it has %d bytes: a record has 1 to %d", ErrRecord, len(r), MaxRecord)
		}
		if data, err = torchwood.AppendTileEntry(data, r); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrRecord, err)
		}
	}
	return data, nil
}

// Reader reads hashes of a tree, each proved to be in it: for proofs.
func (s Store) Reader(tree tlog.Tree) tlog.HashReader {
	return tlog.TileHashReader(tree, tiles{s, tree.N})
}

type tiles struct {
	s    Store
	size int64
}

func (t tiles) Height() int                     { return torchwood.TileHeight }
func (t tiles) SaveTiles([]tlog.Tile, [][]byte) {}
func (t tiles) ReadTiles(list []tlog.Tile) (data [][]byte, err error) {
	for _, one := range list {
		hashes, _, err := t.s.Hashes(one.L, one.N, t.size)
		if err != nil {
			return nil, err
		}
		if len(hashes) < one.W*tlog.HashSize {
			return nil, fmt.Errorf("%w: %s", ErrMissing, torchwood.TilePath(one))
		}
		data = append(data, hashes[:one.W*tlog.HashSize])
	}
	return data, nil
}
