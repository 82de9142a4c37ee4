package tree

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"cleanroom/executor/secret/hostkey/durable"
)

// plan is what an append changes of the tiles.
type plan struct {
	tree   tlog.Tree // after it
	bundle int64     // length of the last bundle after it, in bytes; 0 if that is full
	pieces []piece
}

// piece is what is added to one tile.
type piece struct {
	tile tlog.Tile // with the width after it
	from int64     // where it is added, in bytes
	old  int       // the width before
	data []byte
}

// plan works out what records change in a tree. The hashes that the new ones
// build on come from the tiles, and must give root, unless that is nil.
func (s Store) plan(size int64, root *tlog.Hash, bundle int64, records []byte, count int) (p plan, err error) {
	known := hashes{}
	if err := s.edge(size, known); err != nil {
		return plan{}, err
	}
	if root != nil {
		if got, err := tlog.TreeHash(size, known); err != nil || got != *root {
			return plan{}, fmt.Errorf("%w: the hash tiles do not give the root of the checkpoint at %d records: run cleanroom audit verify", ErrDamaged, size)
		}
	}
	list, rest := cut(records, count)
	if len(list) != count || len(rest) > 0 {
		return plan{}, ErrRecord
	}
	for i, record := range list {
		n := size + int64(i)
		made, err := tlog.StoredHashes(n, record, known)
		if err != nil {
			return plan{}, err
		}
		at := tlog.StoredHashIndex(0, n)
		for j, h := range made {
			known[at+int64(j)] = h
		}
	}
	p.tree.N = size + int64(count)
	if p.tree.Hash, err = tlog.TreeHash(p.tree.N, known); err != nil {
		return plan{}, err
	}
	p.addRecords(size, bundle, list)
	for level := 0; p.tree.N>>(level*torchwood.TileHeight) > 0; level++ {
		if err := p.addHashes(level, size, known); err != nil {
			return plan{}, err
		}
	}
	return p, nil
}

func (p *plan) addRecords(size, bundle int64, list [][]byte) {
	for len(list) > 0 {
		old := int(size % Width)
		n := min(Width-old, len(list))
		data := []byte{}
		for _, record := range list[:n] {
			data, _ = torchwood.AppendTileEntry(data, record)
		}
		if old == 0 {
			bundle = 0
		}
		p.pieces = append(p.pieces, piece{tlog.Tile{H: torchwood.TileHeight, L: -1, N: size / Width, W: old + n}, bundle, old, data})
		if bundle += int64(len(data)); old+n == Width {
			bundle = 0
		}
		size, list = size+int64(n), list[n:]
	}
	p.bundle = bundle
}

func (p *plan) addHashes(level int, size int64, known hashes) error {
	shift := level * torchwood.TileHeight
	for at, end := size>>shift, p.tree.N>>shift; at < end; {
		old := int(at % Width)
		n := min(int64(Width-old), end-at)
		data := make([]byte, 0, n*tlog.HashSize)
		for i := at; i < at+n; i++ {
			h, ok := known[tlog.StoredHashIndex(shift, i)]
			if !ok {
				return fmt.Errorf("%w: hash %d of level %d is not known", ErrDamaged, i, level)
			}
			data = append(data, h[:]...)
		}
		p.pieces = append(p.pieces, piece{tlog.Tile{H: torchwood.TileHeight, L: level, N: at / Width, W: old + int(n)}, int64(old * tlog.HashSize), old, data})
		at += n
	}
	return nil
}

// hashes are hashes by tlog's index. It is a tlog.HashReader.
type hashes map[int64]tlog.Hash

func (h hashes) ReadHashes(indexes []int64) (list []tlog.Hash, err error) {
	for _, i := range indexes {
		one, ok := h[i]
		if !ok {
			return nil, fmt.Errorf("%w: the hash of index %d is not known", ErrDamaged, i)
		}
		list = append(list, one)
	}
	return list, nil
}

// edge reads the hashes that a tree's root and all that is appended build on.
func (s Store) edge(size int64, known hashes) error {
	read := map[tlog.Tile][]byte{}
	for _, i := range torchwood.RightEdge(size) {
		t := tlog.TileForIndex(torchwood.TileHeight, i)
		name := tile(t.L, t.N, size)
		data, ok := read[name]
		if !ok {
			var err error
			if data, _, err = s.Hashes(t.L, t.N, size); err != nil {
				return err
			}
			read[name] = data
		}
		h, err := tlog.HashFromTile(name, data, i)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		known[i] = h
	}
	return nil
}

// written is a piece that stands in its file, under the name from before.
type written struct {
	piece
	path  string
	fresh bool
}

// write writes the pieces behind what their files have, where no reader looks
// before there is a checkpoint for it. On an error it takes all back.
func (s Store) write(pieces []piece) (list []written, err error) {
	defer func() {
		if err != nil {
			s.undo(list)
		}
	}()
	for _, p := range pieces {
		w, err := s.writePiece(p)
		if w.path != "" {
			list = append(list, w)
		}
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

func (s Store) writePiece(p piece) (written, error) {
	had := p.tile
	had.W = max(p.old, 1)
	path, err := s.find(had)
	fresh := err != nil && p.old == 0
	if fresh {
		path = s.path(p.tile)
		err = s.folder(filepath.Dir(path))
	}
	if err != nil {
		return written{}, err
	}
	flags := os.O_WRONLY | unix.O_NOFOLLOW
	if fresh {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return written{}, err
	}
	defer f.Close()
	w := written{p, path, fresh}
	if fresh {
		if err := durable.Give(f, s.Dir); err != nil {
			return w, err
		}
	}
	info, err := f.Stat()
	if err != nil {
		return w, err
	}
	if info.Size() < p.from {
		return w, fmt.Errorf("%w: %s has %d bytes of %d", ErrMissing, path, info.Size(), p.from)
	}
	if _, err := f.WriteAt(p.data, p.from); err != nil {
		return w, err
	}
	// What an append that was cut short left behind goes.
	if end := p.from + int64(len(p.data)); info.Size() > end {
		return w, f.Truncate(end)
	}
	return w, nil
}

// undo takes back what was written. Where it fails, checkpoint.new stays to
// tell the next writer.
func (s Store) undo(list []written) {
	for _, w := range list {
		if w.fresh {
			_ = os.Remove(w.path)
			_ = os.Remove(filepath.Dir(w.path)) // if it was made for it and is empty
		} else {
			_ = os.Truncate(w.path, w.from)
		}
	}
}

// rename gives the files the names of their new width.
func (s Store) rename(list []written) error {
	for _, w := range list {
		path := s.path(w.tile)
		if path == w.path {
			continue
		}
		if err := s.move(w.path, path); err != nil {
			return err
		}
	}
	return nil
}

// move renames a tile, into the folder of partial ones or out of it.
func (s Store) move(from, to string) error {
	if filepath.Dir(from) == filepath.Dir(to) {
		return os.Rename(from, to)
	}
	if err := s.folder(filepath.Dir(to)); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(from)) // if it was that of the partial tile, it is empty now
	return nil
}

// folder makes a folder below the log's, and those above it.
func (s Store) folder(dir string) error {
	var missing []string
	for at := dir; at != s.Dir; at = filepath.Dir(at) {
		if _, err := os.Lstat(at); err == nil {
			break
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		if err := os.Mkdir(at, 0o700); err != nil {
			return err
		}
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		err = durable.Give(f, s.Dir)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// lastBundle finds how long the records of a tree are in its last bundle, in
// bytes, without reading the records.
func (s Store) lastBundle(size int64) (int64, error) {
	if size%Width == 0 {
		return 0, nil
	}
	t := tile(-1, size/Width, size)
	path, err := s.find(t)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var length [2]byte
	at := int64(0)
	for range t.W {
		if _, err := f.ReadAt(length[:], at); err != nil {
			return 0, fmt.Errorf("%w: %s: %w", ErrMissing, path, err)
		}
		at += 2 + int64(length[0])<<8 + int64(length[1])
	}
	if info, err := f.Stat(); err != nil || info.Size() < at {
		return 0, fmt.Errorf("%w: %s: %w", ErrMissing, path, io.ErrUnexpectedEOF)
	}
	return at, nil
}
