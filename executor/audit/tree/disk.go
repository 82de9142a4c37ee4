package tree

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"cleanroom/executor/secret/hostkey/durable"
)

// flush waits until the tiles that a tree has beyond base records, their names
// and the checkpoint are durable.
func (s Store) flush(base, size int64) error {
	list := tlog.NewTiles(torchwood.TileHeight, base, size)
	for n := base / Width; n*Width < size; n++ {
		list = append(list, tile(-1, n, size))
	}
	folders := map[string]bool{s.Dir: true}
	for _, t := range list {
		path, err := s.find(t)
		if err != nil {
			return err
		}
		if err := syncPath(path); err != nil {
			return err
		}
		for dir := filepath.Dir(path); !folders[dir]; dir = filepath.Dir(dir) {
			folders[dir] = true
		}
		// A full tile left this one.
		folders[filepath.Dir(s.path(tlog.Tile{H: t.H, L: t.L, N: t.N, W: Width}))] = true
	}
	if err := syncPath(s.CheckpointPath()); err != nil {
		return err
	}
	for dir := range folders {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	return nil
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// sweep removes what an append that was dropped left behind a tree: bytes at
// the end of its partial tiles, and whole tiles after them.
func (s Store) sweep(size, bundle int64) error {
	for level := -1; level == -1 || level*torchwood.TileHeight < 63; level++ {
		shift := max(level, 0) * torchwood.TileHeight
		last := size >> shift / Width
		partial := tile(level, last, size)
		if partial.W > 0 {
			path, err := s.find(partial)
			if err != nil {
				return err
			}
			length := bundle
			if level >= 0 {
				length = int64(partial.W * tlog.HashSize)
			}
			if info, err := os.Stat(path); err != nil || info.Size() > length {
				if err = errors.Join(err, os.Truncate(path, length)); err != nil {
					return err
				}
			}
			if name := s.path(partial); name != path { // that of a width which it no longer has
				if err := s.move(path, name); err != nil {
					return err
				}
			}
			last++
		}
		for n := last; n <= last+MaxBatch/Width+1; n++ {
			if err := s.drop(tlog.Tile{H: torchwood.TileHeight, L: level, N: n, W: Width}); err != nil {
				return err
			}
		}
	}
	return nil
}

// drop removes a tile under all its names.
func (s Store) drop(t tlog.Tile) error {
	if err := os.Remove(s.path(t)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(s.path(t) + ".p")
}

// boot tells one run of the kernel from the next: what it wrote without
// waiting is there as long as it runs. It is a variable for the tests, which
// cannot crash the machine.
var boot = func() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // never what a header says: each append looks for what was lost
	}
	return strings.TrimSpace(string(id))
}

// full tells a disk without space from other errors.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: nothing was appended, and nothing is lost: free some: %w", ErrFull, err)
	}
	return err
}

// lock waits for others that append. Each needs a millisecond, or what its
// signing command takes.
func lock(ctx context.Context, dir string) (*durable.Held, error) {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s: make one, or correct the folder", ErrNoLog, dir)
	}
	if err := durable.Folder(dir); err != nil {
		return nil, err
	}
	return durable.Lock(ctx, filepath.Join(dir, "lock"))
}
