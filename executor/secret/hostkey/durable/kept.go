package durable

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
)

// Kept is a private file that several processes read and change.
type Kept struct {
	Path  string
	Limit int64 // bytes
}

// Read returns what is in it; nil where there is none.
func (k Kept) Read() ([]byte, error) {
	text, err := Read(k.Path, k.Limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if text == nil && err == nil {
		text = []byte{} // an empty file is one that is there
	}
	return text, err
}

// Change replaces it by what change makes of it, under a lock; nil leaves it.
func (k Kept) Change(ctx context.Context, change func(text []byte) ([]byte, error)) error {
	if err := Folder(filepath.Dir(k.Path)); err != nil {
		return err
	}
	lock, err := Lock(ctx, k.Path+".lock")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	old, err := k.Read()
	if err != nil {
		return err
	}
	text, err := change(old)
	if err != nil || text == nil {
		return err
	}
	if int64(len(text)) > k.Limit { // else nobody could read it again
		return ErrTooLarge
	}
	return Write(k.Path, text)
}
