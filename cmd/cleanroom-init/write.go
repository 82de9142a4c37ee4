package main

import (
	"crypto/rand"
	"errors"
	"os"
	"path"
	"time"

	"cleanroom/sandbox/initproto"
)

// writing is a file on its way. Nothing of it can lie outside of its folder,
// whatever links the folder holds: os.Root leads none of them out.
type writing struct {
	root *os.Root
	file *os.File
	tmp  string
	as   initproto.NewFile
}

// Create implements initproto.Handler.
func (h *host) Create(f initproto.NewFile) (initproto.Writing, error) {
	root, err := os.OpenRoot(f.Dir)
	if err != nil {
		return nil, err
	}
	parent := path.Dir(f.Path)
	w := &writing{root: root, tmp: path.Join(parent, ".cleanroom-"+rand.Text()), as: f}
	if err = root.MkdirAll(parent, 0o700); err == nil {
		w.file, err = root.OpenFile(w.tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return w, nil
}

func (w *writing) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	return n, unwrapped(err) // without the name of a file that nobody asked for
}

// Keep implements initproto.Writing.
func (w *writing) Keep() (initproto.Entry, error) {
	defer w.Drop() // finds nothing once the file has its name
	modified := time.Unix(0, w.as.Modified)
	if err := errors.Join(w.file.Chmod(w.as.Mode), w.file.Close(), w.root.Chtimes(w.tmp, modified, modified)); err != nil {
		return initproto.Entry{}, unwrapped(err)
	}
	if err := w.root.Rename(w.tmp, w.as.Path); err != nil {
		return initproto.Entry{}, err
	}
	info, err := w.root.Lstat(w.as.Path)
	if err != nil {
		return initproto.Entry{}, err
	}
	return entryOf(w.as.Path, info), nil
}

// Drop implements initproto.Writing.
func (w *writing) Drop() {
	w.file.Close()
	w.root.Remove(w.tmp)
	w.root.Close()
}
