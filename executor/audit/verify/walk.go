package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"cleanroom/executor/audit/tree"
)

// walk reads a log once. It builds the tree from the records, and compares the
// tiles with it.
type walk struct {
	ctx    context.Context
	s      tree.Store
	r      *Report
	o      Options
	size   int64
	want   []wanted // by size
	agreed int64    // the largest size at which the records gave a known root

	edge   []subtree     // of the tree over the records so far, the largest first
	levels [][]tlog.Hash // of each level of tiles the hashes of the tile that is not full
	stop   bool          // a part is missing without which nothing more is known

	records []Finding // of records that are not what the tile says
	tiles   []Finding // of tiles above, that are not what the records give
}

// subtree is a full one.
type subtree struct {
	height int
	hash   tlog.Hash
}

func name(level int, n, size int64) string {
	if level > 0 {
		size >>= level * torchwood.TileHeight
	}
	return torchwood.TilePath(tlog.Tile{H: torchwood.TileHeight, L: level, N: n, W: int(min(tree.Width, size-n*tree.Width))})
}

func (w *walk) all() error {
	w.check(0, w.root())
	for n := int64(0); n*tree.Width < w.size && !w.stop; n++ {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.bundle(n); err != nil {
			return err
		}
	}
	if w.stop {
		for _, one := range w.want {
			w.r.note(ErrMissing, "%s: its checkpoint of %d records cannot be compared, since records before are missing", one.Name, one.cp.Size)
		}
		w.report(false, true)
		return nil
	}
	for level := 0; level < len(w.levels); level++ {
		if len(w.levels[level]) > 0 {
			if err := w.compare(level, w.size>>(level*torchwood.TileHeight)/tree.Width, w.levels[level]); err != nil {
				return err
			}
		}
	}
	ours := w.root() == w.r.Checkpoint.Root
	if !ours {
		w.r.add(Finding{Err: ErrRoot, From: w.agreed, To: w.size - 1,
			Why: fmt.Sprintf("the records do not give the root that the log's checkpoint of %d records has: one or more from %d on are not what was appended", w.size, w.agreed)})
	}
	w.report(ours, w.tilesGiveRoot())
	return nil
}

// report says of each difference which side is wrong. The signed root tells:
// if the records give it, the tiles are wrong, and if the tiles give it, they
// tell which records are.
func (w *walk) report(records, tiles bool) {
	for _, f := range w.records {
		switch {
		case records:
			f.Err, f.Tile = ErrTile, name(0, f.From/tree.Width, w.size)
			f.Why = fmt.Sprintf("%s is not of the records %d to %d, which are as they were appended", f.Tile, f.From, f.To)
		case !tiles:
			f.Why += " (the tile may be the wrong one: neither gives the signed root)"
		}
		w.r.add(f)
	}
	for _, f := range w.tiles {
		switch {
		case records:
			w.r.add(f)
		case len(w.records) > 0: // tells no more than the records' own difference
		case tiles:
			f.Err, f.Why = ErrRecord, fmt.Sprintf("one or more of the records %d to %d were changed, together with the tiles below %s, which is as it was signed", f.From, f.To, f.Tile)
			w.r.add(f)
		default:
			f.Why += ", or records were changed together with the tiles below it"
			w.r.add(f)
		}
	}
}

// tilesGiveRoot tells whether the hashes of the tiles are those that were
// signed.
func (w *walk) tilesGiveRoot() bool {
	_, err := w.s.Reader(w.r.Checkpoint.Tree()).ReadHashes(nil)
	return err == nil || w.size == 0
}

// bundle reads 256 records and the tile of their hashes.
func (w *walk) bundle(n int64) error {
	first := n * tree.Width
	count := int(min(tree.Width, w.size-first))
	records, more, short := w.s.Records(n, w.size)
	if short != nil && !isMissing(short) {
		return short
	}
	if more > 0 {
		w.trailing(name(-1, n, w.size), count, fmt.Sprintf("%s has %d bytes behind record %d", name(-1, n, w.size), more, first+int64(count)-1))
	}
	tile, more, err := w.s.Hashes(0, n, w.size)
	if err != nil && !isMissing(err) {
		return err
	}
	if more > 0 {
		w.trailing(name(0, n, w.size), count, "")
	}
	if tile == nil {
		w.missing(name(0, n, w.size), first, first+int64(count)-1, "the hashes", err)
	}
	if len(records) < count {
		w.missing(name(-1, n, w.size), first+int64(len(records)), first+int64(count)-1, "the records", short)
		if w.stop = tile == nil; w.stop {
			return nil
		}
	}
	var wrong []int
	var is []tlog.Hash
	for i := range count {
		index := first + int64(i)
		h, ok := hashOf(tile, i)
		if i < len(records) {
			got := tlog.RecordHash(records[i])
			if is = append(is, got); ok && got != h {
				wrong = append(wrong, i)
			} else {
				w.r.Records++
				w.content(index, records[i])
			}
			h = got
		}
		w.push(h)
		if len(w.want) > 0 && w.want[0].cp.Size <= index+1 {
			w.check(index+1, w.root())
		}
		if err := w.leaf(h); err != nil {
			return err
		}
	}
	w.changed(n, first, wrong, is, tile)
	return nil
}

func isMissing(err error) bool {
	return errors.Is(err, tree.ErrMissing) || errors.Is(err, tree.ErrDamaged)
}

func hashOf(tile []byte, i int) (tlog.Hash, bool) {
	if len(tile) < (i+1)*tlog.HashSize {
		return tlog.Hash{}, false
	}
	return tlog.Hash(tile[i*tlog.HashSize : (i+1)*tlog.HashSize]), true
}

func (w *walk) content(index int64, record []byte) {
	if w.o.Record == nil {
		return
	}
	if err := w.o.Record(index, record); err != nil {
		w.r.add(Finding{Err: ErrContent, From: index, To: index, Why: fmt.Sprintf("record %d: %v", index, err)})
	}
}

func (w *walk) missing(tile string, from, to int64, what string, err error) {
	w.r.add(Finding{Err: ErrMissing, From: from, To: to, Tile: tile, Why: fmt.Sprintf("%s of %d to %d are missing: %v", what, from, to, err)})
}

// trailing is what stands behind the last record of a tile. A full one can
// have nothing there; a partial one may be in the middle of an append.
func (w *walk) trailing(tile string, count int, why string) {
	if count == tree.Width && why != "" {
		w.r.add(Finding{Err: ErrInserted, From: -1, To: -1, Tile: tile, Why: why + ": something was inserted, or a record moved on"})
		return
	}
	w.r.Trailing = append(w.r.Trailing, tile)
}

// changed names the records that are not those of the tile's hashes, in runs.
func (w *walk) changed(n, first int64, wrong []int, is []tlog.Hash, tile []byte) {
	place := map[tlog.Hash]int{}
	for i := 0; len(wrong) > 0 && i < tree.Width; i++ {
		if h, ok := hashOf(tile, i); ok {
			place[h] = i
		}
	}
	for len(wrong) > 0 {
		end := 1
		for end < len(wrong) && wrong[end] == wrong[0]+end {
			end++
		}
		from, to := first+int64(wrong[0]), first+int64(wrong[end-1])
		f := Finding{Err: ErrRecord, From: from, To: to, Tile: name(-1, n, w.size), Why: fmt.Sprintf("records %d to %d of %s are not what was appended", from, to, name(-1, n, w.size))}
		if from == to {
			f.Why = fmt.Sprintf("record %d of %s is not what was appended", from, name(-1, n, w.size))
		}
		if at, ok := place[is[wrong[0]]]; ok {
			f.Why += fmt.Sprintf(": at %d stands the record that belongs at %d", from, first+int64(at))
		}
		w.records = append(w.records, f)
		wrong = wrong[end:]
	}
}

// push adds a record's hash to the tree.
func (w *walk) push(h tlog.Hash) {
	one := subtree{0, h}
	for last := len(w.edge) - 1; last >= 0 && w.edge[last].height == one.height; last-- {
		one = subtree{one.height + 1, tlog.NodeHash(w.edge[last].hash, one.hash)}
		w.edge = w.edge[:last]
	}
	w.edge = append(w.edge, one)
}

// root is that of the records so far.
func (w *walk) root() tlog.Hash {
	if len(w.edge) == 0 {
		empty, _ := tlog.TreeHash(0, nil)
		return empty
	}
	h := w.edge[len(w.edge)-1].hash
	for i := len(w.edge) - 2; i >= 0; i-- {
		h = tlog.NodeHash(w.edge[i].hash, h)
	}
	return h
}

// leaf adds a record's hash to the tiles that there should be. A full one
// gives a hash to the level above; that of level 0 was compared already.
func (w *walk) leaf(h tlog.Hash) error {
	for level := 0; ; level++ {
		if level == len(w.levels) {
			w.levels = append(w.levels, nil)
		}
		w.levels[level] = append(w.levels[level], h)
		if len(w.levels[level]) < tree.Width {
			return nil
		}
		full := w.levels[level]
		w.levels[level] = full[:0]
		end := w.height(level)
		if err := w.compare(level, end/tree.Width-1, full); err != nil {
			return err
		}
		h = fold(full)
	}
}

// height counts the hashes that a level of tiles has so far.
func (w *walk) height(level int) int64 {
	size := int64(0)
	for _, one := range w.edge {
		size += 1 << one.height
	}
	return size >> (level * torchwood.TileHeight)
}

// fold is the hash over a full tile.
func fold(full []tlog.Hash) tlog.Hash {
	row := append([]tlog.Hash(nil), full...)
	for len(row) > 1 {
		for i := range len(row) / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
		row = row[:len(row)/2]
	}
	return row[0]
}

// compare compares a tile above the records' own with what the records give.
func (w *walk) compare(level int, n int64, should []tlog.Hash) error {
	if level == 0 {
		return nil
	}
	span := int64(1) << (level * torchwood.TileHeight)
	first := n * tree.Width * span
	tile, more, err := w.s.Hashes(level, n, w.size)
	switch {
	case err != nil && !isMissing(err):
		return err
	case err != nil:
		w.missing(name(level, n, w.size), first, min(w.size, first+tree.Width*span)-1, "the hashes", err)
		return nil
	case more > 0:
		w.trailing(name(level, n, w.size), len(should), "")
	}
	for i, h := range should {
		if got, _ := hashOf(tile, i); got != h {
			from := first + int64(i)*span
			w.tiles = append(w.tiles, Finding{Err: ErrTile, From: from, To: from + span - 1, Tile: name(level, n, w.size),
				Why: fmt.Sprintf("hash %d of %s is not that of the records %d to %d", i, name(level, n, w.size), from, from+span-1)})
		}
	}
	return nil
}

// strays looks for files in the tiles' folder that are none of the log's.
func (w *walk) strays() error {
	root := filepath.Join(w.s.Dir, "tile")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(w.s.Dir, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		t, err := torchwood.ParseTilePath(rel)
		if err != nil || !w.due(t) {
			w.r.Stray = append(w.r.Stray, rel)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) { // an empty log, or an append under way
		return nil
	}
	now, bad := w.s.Checkpoint()
	if bad == nil && string(now) != string(w.r.Checkpoint.Note) {
		w.r.Stray, w.r.Trailing = nil, nil // the log grew
	}
	return err
}

// due tells whether the log has a tile under that name.
func (w *walk) due(t tlog.Tile) bool {
	hashes := w.size >> (max(t.L, 0) * torchwood.TileHeight)
	return int64(t.W) == min(tree.Width, hashes-t.N*tree.Width)
}
