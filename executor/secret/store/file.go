package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cleanroom/executor/secret/hostkey"
	"cleanroom/executor/secret/hostkey/durable"
)

const (
	// sealContext keeps the store and other sealed things of the host apart.
	sealContext = "cleanroom store"
	// maxFile bounds the sealed file, in bytes: age adds 16 to each 64 KiB,
	// and a header.
	maxFile = maxDocument + maxDocument/1024 + 64<<10
)

// load reads the store. A file that is not there is an empty store. No lock
// is needed: the file is replaced in one step.
func (s *Store) load() (*document, error) {
	sealed, err := durable.Read(s.path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return newDocument(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	key, err := s.hostKey(true)
	if err != nil {
		return nil, err
	}
	text, err := key.Unseal(sealed, sealContext)
	switch {
	case errors.Is(err, hostkey.ErrOtherKey):
		return nil, fmt.Errorf("store: %s is %w: restore the %s that belongs to it, or move the store away and set its secrets again", s.path, err, hostkey.Path(s.dataDir))
	case errors.Is(err, hostkey.ErrOtherContext):
		return nil, fmt.Errorf("%w: %s is %w: restore the store from a backup, or move it away", ErrDamaged, s.path, err)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: %w: restore it from a backup, or move it away and set its secrets again", ErrDamaged, s.path, err)
	}
	defer clear(text)
	doc, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	return doc, nil
}

// hostKey opens the key once. With mustExist none is made: for a store that
// is there a new key is of no use, and would hide that the old one is gone.
func (s *Store) hostKey(mustExist bool) (*hostkey.Key, error) {
	if s.key != nil {
		return s.key, nil
	}
	if mustExist {
		path := hostkey.Path(s.dataDir)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("store: %s is there but its key is not: restore %s, or move the store away and set its secrets again", s.path, path)
		}
	}
	key, err := hostkey.Open(s.dataDir)
	if err != nil {
		return nil, err
	}
	s.key = key
	return key, nil
}

// update changes the store: change gets the document as it is on disk, and
// says whether it changed it. Others wait meanwhile; after an error nothing
// has changed. What has expired is destroyed along the way.
func (s *Store) update(ctx context.Context, change func(*document) (bool, error)) error {
	_, err := s.sweepAnd(ctx, change)
	return err
}

func (s *Store) sweepAnd(ctx context.Context, change func(*document) (bool, error)) (swept int, err error) {
	if err := durable.Folder(filepath.Dir(s.path)); err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	lock, err := durable.Lock(ctx, s.path+".lock")
	if err != nil {
		return 0, fmt.Errorf("store: %w", err)
	}
	defer lock.Unlock()
	doc, err := s.load()
	if err != nil {
		return 0, err
	}
	swept = doc.sweep(s.now())
	changed, err := change(doc)
	if err != nil {
		return 0, err
	}
	if !changed && swept == 0 {
		return 0, nil
	}
	return swept, s.write(doc)
}

func (s *Store) write(doc *document) error {
	key, err := s.hostKey(false)
	if err != nil {
		return err
	}
	text, err := doc.marshal()
	if err != nil {
		return err
	}
	defer clear(text)
	sealed, err := key.Seal(text, sealContext)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := durable.Write(s.path, sealed); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}

// oneCommand keeps other processes from rotating the same secret: a command
// changes it somewhere else as well. The store itself stays free meanwhile.
// The wait lasts as long as another's command may.
func (s *Store) oneCommand(ctx context.Context, name string, timeout time.Duration) (*durable.Held, error) {
	if err := durable.Folder(filepath.Dir(s.path)); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	wait, cancel := context.WithTimeout(ctx, timeout+s.timeout)
	defer cancel()
	lock, err := durable.Lock(wait, s.path+"."+name+".lock")
	if err != nil {
		return nil, fmt.Errorf("store: secret %s is being rotated: %w", name, err)
	}
	return lock, nil
}
